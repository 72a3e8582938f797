"""Image models of timm as the start of an AST; timm itself is the judge."""

import pytest
import torch

import weights
from ast_model import ASTConfig

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    """`image_model(name)`: a randomly initialised model and the file that timm would read."""
    made = {}

    def make(name):
        if name not in made:
            torch.manual_seed(0)
            model = timm.create_model(name).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.02)
            file = tmp_path_factory.mktemp("timm") / f"{name}.pth"
            torch.save(model.state_dict(), file)
            made[name] = model, file
        return made[name]

    return make


def image_config(model, **changes):
    """An AST whose spectrogram is as large as the model's image, without overlap."""
    side, patch = model.patch_embed.img_size[0], model.patch_embed.patch_size
    sizes = {
        "num_frames": side,
        "num_mel_bins": side,
        "patch": patch,
        "stride": patch,
        "width": model.embed_dim,
        "depth": len(model.blocks),
        "heads": model.blocks[0].attn.num_heads,
        "distilled": model.num_prefix_tokens == 2,
        "num_classes": 5,
    }
    return ASTConfig(**sizes | changes)


TINY = "deit_tiny_distilled_patch16_224"


@pytest.mark.parametrize(
    "name",
    [
        TINY,
        pytest.param("deit_base_distilled_patch16_384", marks=pytest.mark.slow),
        "deit_tiny_patch16_224",
        "deit3_small_patch16_224",  # LayerScale, and no position for CLS
        "vit_tiny_patch16_384",
        "vit_small_patch32_224",
    ],
)
def test_a_grey_image_gives_timms_features(image_model, agree, name):
    """`sum` of the channels on one channel is what three equal channels give."""
    theirs, file = image_model(name)
    ours = weights.from_timm(image_config(theirs), name, channels="sum", file=file).eval()
    image = torch.randn(1, *theirs.patch_embed.img_size)
    with torch.no_grad():
        expected = theirs.forward_features(image[:, None].expand(-1, 3, -1, -1))
        agree("tokens", ours.forward_features(image.transpose(1, 2)), expected, 1e-5)


@pytest.mark.slow
def test_vit_large_is_taken(image_model, agree):
    test_a_grey_image_gives_timms_features(image_model, agree, "vit_large_patch16_384")


def test_mean_is_a_third_of_sum(image_model):
    theirs, file = image_model(TINY)
    mean, total = (
        weights.from_timm(image_config(theirs), TINY, channels=channels, file=file)
        for channels in ("mean", "sum")
    )
    kernel = theirs.patch_embed.proj.weight
    assert torch.allclose(mean.patch_embedding.projection.weight, kernel.mean(1, keepdim=True))
    assert torch.equal(total.patch_embedding.projection.weight, kernel.sum(1, keepdim=True))


def test_default_is_the_mean(image_model):
    theirs, file = image_model(TINY)
    model = weights.from_timm(image_config(theirs), TINY, file=file)
    expected = theirs.patch_embed.proj.weight.mean(1, keepdim=True)
    assert torch.equal(model.patch_embedding.projection.weight, expected)


def test_positions_bilinear_nearest_reinit(image_model):
    """14 rows become 12, cut from the middle; 14 columns become 101, interpolated."""
    theirs, file = image_model(TINY)
    config = ASTConfig.preset("tiny224")
    grid = theirs.pos_embed[0, 2:].T.reshape(1, 192, 14, 14)
    for mode in ("bilinear", "nearest"):
        model = weights.from_timm(config, TINY, positions=mode, file=file)
        expected = torch.nn.functional.interpolate(grid[:, :, 1:13], (12, 101), mode=mode)
        actual = model.positions[0, 2:].T.reshape(1, 192, 12, 101)
        assert torch.allclose(actual, expected, atol=1e-6)
        assert torch.equal(model.positions[:, :2], theirs.pos_embed[:, :2])
    anew = weights.from_timm(config, TINY, positions="reinit", file=file)
    assert anew.positions.shape == (1, 2 + 12 * 101, 192)
    assert 0.019 < anew.positions.std() < 0.021
    assert torch.equal(anew.cls_token, theirs.cls_token)


@pytest.mark.parametrize("patch", [(128, 2), (32, 32), (16, 8)])
def test_other_patch_shapes_resample_the_kernel(image_model, patch):
    """A constant patch keeps its embedding; that is what the pseudo-inverse preserves."""
    theirs, file = image_model(TINY)
    config = ASTConfig.preset("tiny224", num_frames=128, patch=patch, stride=patch)
    model = weights.from_timm(config, TINY, file=file)
    assert model.patch_embedding.projection.weight.shape == (192, 1, *patch)
    assert model(torch.randn(1, 128, 128)).shape == (1, 527)
    if min(patch) >= 16:  # growing loses nothing
        ours = model.patch_embedding.projection.weight.sum(dim=(1, 2, 3))
        expected = theirs.patch_embed.proj.weight.mean(1).sum(dim=(1, 2))
        assert torch.allclose(ours, expected, atol=1e-3)


def test_old_names_and_tags_are_known(image_model):
    theirs, file = image_model(TINY)
    for name in (f"vit_{TINY}", f"{TINY}.fb_in1k"):
        model = weights.from_timm(image_config(theirs), name, file=file)
        assert torch.equal(model.positions, theirs.pos_embed)
        assert weights.is_timm_name(name)
    assert not weights.is_timm_name("runs/demo/fold1/last")


def test_the_file_of_the_deit_authors_wraps_its_weights(image_model, tmp_path):
    theirs, _ = image_model(TINY)
    torch.save({"model": theirs.state_dict()}, tmp_path / "deit.pth")
    model = weights.from_timm(image_config(theirs), TINY, file=tmp_path / "deit.pth")
    assert torch.equal(model.positions, theirs.pos_embed)


def test_unused_heads_are_listed(image_model, caplog):
    theirs, file = image_model(TINY)
    weights.from_timm(image_config(theirs), TINY, file=file)
    said = caplog.text
    assert "ignored" in said and "head.bias, head.weight, head_dist.bias, head_dist.weight" in said


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (TINY, {"width": 384, "heads": 6}, "build it with width=192, heads=3"),
        (TINY, {"distilled": False}, "build it with distilled=True"),
        ("deit_tiny_patch16_224", {"distilled": True}, "build it with distilled=False"),
        (TINY, {"depth": 11}, "build it with depth=12"),
        (TINY, {"layer_norm_eps": 1e-5}, "build it with layer_norm_eps=1e-06"),
    ],
)
def test_another_size_says_how_to_build_the_ast(image_model, name, changes, message):
    theirs, file = image_model(name)
    with pytest.raises(ValueError, match=message):
        weights.from_timm(image_config(theirs, **changes), name, file=file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "no plain ViT or DeiT"),
        ("vit_relpos_small_patch16_224", "no plain ViT or DeiT"),
        ("vit_pwee_patch16_reg1_gap_256", "no plain ViT or DeiT"),
        ("vit_dwee_patch16_reg1_gap_256", "no plain ViT or DeiT|register tokens"),
        ("vit_medium_patch16_gap_240", "distilled=False|missing"),
    ],
)
def test_a_model_that_an_ast_cannot_be_is_refused_in_one_line(image_model, name, message):
    _, file = image_model(name)
    with pytest.raises(ValueError, match=message) as error:
        weights.from_timm(ASTConfig(), name, file=file)
    assert "\n" not in str(error.value)


def test_a_model_without_cls_token_is_refused_whatever_the_config_says(image_model):
    theirs, file = image_model("vit_medium_patch16_gap_240")
    with pytest.raises(ValueError, match=r"missing|no plain"):
        weights.from_timm(image_config(theirs), "vit_medium_patch16_gap_240", file=file)


def test_bad_arguments_and_files_are_named(tmp_path):
    config = ASTConfig.preset("tiny224")
    with pytest.raises(ValueError, match="channels 'max' is unknown; use mean"):
        weights.from_timm(config, TINY, channels="max")
    with pytest.raises(ValueError, match="has no model 'deit_huge'"):
        weights.from_timm(config, "deit_huge")
    with pytest.raises(FileNotFoundError, match=r"absent.pth for deit_tiny"):
        weights.from_timm(config, TINY, file=tmp_path / "absent.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"broken.pth is damaged or not a file") as error:
        weights.from_timm(config, TINY, file=tmp_path / "broken.pth")
    assert "\n" not in str(error.value)
    torch.save({"patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"cannot be had from .*other.pth") as error:
        weights.from_timm(config, TINY, file=tmp_path / "other.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict_ema"])
def test_a_checkpoint_that_holds_more_than_the_weights_is_read(tmp_path, image_model, wrapper):
    theirs, _ = image_model(TINY)
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({wrapper: state, "epoch": 7} if wrapper else state, tmp_path / "deit.pth")
    model = weights.from_timm(image_config(theirs), TINY, file=tmp_path / "deit.pth")
    assert torch.equal(model.norm.weight, theirs.norm.weight)


def test_a_file_for_timm_runs_nothing_and_is_finite(tmp_path):
    """Timm itself would open it, in some versions with all that a pickle can do."""

    class Intruder:
        def __reduce__(self):
            return (tmp_path / "it ran").mkdir, ()

    file = tmp_path / "deit.pth"
    for content, message in (
        ({"norm.weight": Intruder()}, "deit.pth is refused: opening it would run code"),
        ({"norm.weight": torch.tensor([float("nan")])}, "deit.pth: norm.weight holds NaN"),
    ):
        torch.save(content, file)
        with pytest.raises(ValueError, match=message):
            weights.from_timm(ASTConfig.preset("tiny224"), TINY, file=file)
    assert not (tmp_path / "it ran").exists()


def test_without_a_network_one_line_says_what_to_get(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"get model.safetensors of https://huggingface.co/timm/"):
        weights.from_timm(ASTConfig.preset("tiny224"), TINY)
