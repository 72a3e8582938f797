"""The authors' AST and SSAST files, built key by key from the published list."""

import os

import pytest
import torch
from safetensors.torch import save_file

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from weights.names import authors_names

BLOCK = {
    "norm1.weight": (64,),
    "norm1.bias": (64,),
    "attn.qkv.weight": (192, 64),
    "attn.qkv.bias": (192,),
    "attn.proj.weight": (64, 64),
    "attn.proj.bias": (64,),
    "norm2.weight": (64,),
    "norm2.bias": (64,),
    "mlp.fc1.weight": (256, 64),
    "mlp.fc1.bias": (256,),
    "mlp.fc2.weight": (64, 256),
    "mlp.fc2.bias": (64,),
}
PRETEXT = {
    "mask_embed": (1, 1, 64),
    **{f"{c}predlayer.{i}.{k}": s for c in "cg" for i in (0, 2) for k, s in
       (("weight", (64, 64)), ("bias", (64,)))},
}  # fmt: skip
IMAGENET_HEADS = {
    f"v.{head}.{kind}": shape
    for head in ("head", "head_dist")
    for kind, shape in (("weight", (1000, 64)), ("bias", (1000,)))
}


def authors_file(
    path, patches, patch=(16, 16), distilled=True, classes=5, depth=2, module=True, extra=()
):
    """A state dict of the published names, 64 numbers a token, written with torch.save."""
    shapes = {
        "v.cls_token": (1, 1, 64),
        **({"v.dist_token": (1, 1, 64)} if distilled else {}),
        "v.pos_embed": (1, patches + 1 + distilled, 64),
        "v.patch_embed.proj.weight": (64, 1, *patch),
        "v.patch_embed.proj.bias": (64,),
        **{f"v.blocks.{n}.{name}": shape for n in range(depth) for name, shape in BLOCK.items()},
        "v.norm.weight": (64,),
        "v.norm.bias": (64,),
    }
    if classes:
        shapes |= {"mlp_head.0.weight": (64,), "mlp_head.0.bias": (64,)}
        shapes |= {"mlp_head.1.weight": (classes, 64), "mlp_head.1.bias": (classes,)}
    shapes |= dict(extra)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    torch.save({f"module.{k}" if module else k: v for k, v in state.items()}, path)
    return state


def ssast_file(path, frames=1024, patch=(16, 16), distilled=True):
    grid = (128 // patch[0]) * (frames // patch[1])
    state = authors_file(path, grid, patch, distilled, classes=0, extra=PRETEXT | IMAGENET_HEADS)
    state |= {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(frames)}
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    return state


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("heads", [IMAGENET_HEADS, {}], ids=["imagenet heads", "bare"])
def test_every_tensor_of_an_ast_arrives_at_its_place(tmp_path, module, heads, caplog):
    file = tmp_path / "ast.pth"
    stored = authors_file(file, patches=144, module=module, extra=heads)
    loaded = weights.load(file)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, stored[authors_names(name)[0]]), name
    config = loaded.model.config
    assert (config.width, config.depth, config.heads, config.mlp_ratio) == (64, 2, 1, 4.0)
    assert (config.layer_norm_eps, config.head_layer_norm_eps) == (1e-6, 1e-5)
    assert (config.pooling, config.distilled) == ("cls", True)
    assert loaded.frontend.config.window == "hanning"
    said = caplog.text
    assert all(name in said for name in heads)
    assert ("ignored" in said) == bool(heads)


def test_it_computes_what_the_published_forward_pass_does(tmp_path, agree):
    """The steps of the paper's section 2.1, written out with the file's own tensors."""
    file = tmp_path / "ast.pth"
    w = authors_file(file, patches=144)
    fbank = torch.randn(2, 128, 128)
    functional = torch.nn.functional

    def norm(x, name, eps=1e-6):
        return functional.layer_norm(x, (64,), w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    image = fbank.unsqueeze(1).transpose(2, 3)
    x = functional.conv2d(image, w["v.patch_embed.proj.weight"], w["v.patch_embed.proj.bias"], 10)
    x = x.flatten(2).transpose(1, 2)
    special = torch.cat([w["v.cls_token"], w["v.dist_token"]], dim=1).expand(2, -1, -1)
    x = torch.cat([special, x], dim=1) + w["v.pos_embed"]
    for n in range(2):
        q, k, v = linear(norm(x, f"v.blocks.{n}.norm1"), f"v.blocks.{n}.attn.qkv").chunk(3, -1)
        mixed = (q @ k.transpose(1, 2) / 8).softmax(-1) @ v  # one head of 64
        x = x + linear(mixed, f"v.blocks.{n}.attn.proj")
        hidden = linear(norm(x, f"v.blocks.{n}.norm2"), f"v.blocks.{n}.mlp.fc1")
        x = x + linear(functional.gelu(hidden), f"v.blocks.{n}.mlp.fc2")
    x = norm(x, "v.norm")
    pooled = (x[:, 0] + x[:, 1]) / 2
    expected = linear(norm(pooled, "mlp_head.0", 1e-5), "mlp_head.1")
    with torch.no_grad():
        agree("logits", weights.load(file).model(fbank), expected, 1e-5)


@pytest.mark.parametrize(
    ("patches", "stride", "frames"),
    [
        (1212, 10, 1024),
        (850, 12, 1024),
        (657, 14, 1024),
        (512, 16, 1024),
        (600, 10, 512),
        (144, 10, 128),
    ],
)
def test_the_published_numbers_of_patches_are_read_alone(tmp_path, patches, stride, frames):
    authors_file(tmp_path / "ast.pth", patches)
    config = weights.load(tmp_path / "ast.pth").model.config
    assert (config.stride, config.num_frames) == ((stride, stride), frames)


def test_two_readings_are_an_error_that_names_what_decides(tmp_path):
    file = tmp_path / "ast.pth"
    authors_file(file, patches=12 * 39)  # 400 frames at stride 10, or 9 x 52
    with pytest.raises(ValueError, match=r"468 patches.*stride 10, 10.*stride 14, 14.*give"):
        weights.load(file)
    config = weights.load(file, stride=10, num_frames=400).model.config
    assert (config.grid, config.num_frames) == ((12, 39), 400)
    config = weights.load(file, stride=14, num_frames=735).model.config
    assert config.grid == (9, 52)


def test_the_stride_alone_decides_between_two_usual_readings(tmp_path):
    file = tmp_path / "ast.pth"
    authors_file(file, patches=64)  # 128 frames at stride 16, or at 15
    with pytest.raises(ValueError, match=r"stride 15, 15.*stride 16, 16.*give the stride"):
        weights.load(file)
    config = weights.load(file, stride=16).model.config
    assert (config.grid, config.stride, config.num_frames) == ((8, 8), (16, 16), 128)


def test_other_mel_bins_are_read_when_they_are_said(tmp_path):
    file = tmp_path / "ast.pth"
    authors_file(file, patches=5 * 12)  # 64 bins and 128 frames at stride 10
    config = weights.load(file, stride=10, num_frames=128, num_mel_bins=64).model.config
    assert config.grid == (5, 12)


@pytest.mark.parametrize("num_frames", [1016, 1020, 1025, 1000, 400])
def test_a_length_near_the_published_one_leaves_no_doubt(tmp_path, num_frames):
    file = tmp_path / "ast.pth"
    authors_file(file, patches=1212)
    config = weights.load(file, num_frames=num_frames).model.config
    assert (config.num_frames, config.stride) == (num_frames, (10, 10))


def test_a_request_is_not_taken_for_what_the_file_is(tmp_path, caplog):
    """144 patches would fit stride 16 as 8 x 18; they are 12 x 12, and refitted."""
    file = tmp_path / "ast.pth"
    authors_file(file, patches=144)
    assert weights.load(file, stride=16).model.config.grid == (8, 8)
    assert "from 12 x 12 patches to 8 x 8" in caplog.text
    assert weights.load(file, num_frames=1024, stride=10).model.config.grid == (12, 101)


def test_normalisation_follows_from_the_number_of_classes_and_is_said(tmp_path, caplog):
    for classes, corpus, mean, multi_label in (
        (527, "AudioSet", -4.2677393, True),
        (35, "Speech Commands", -6.845978, False),
        (50, "ESC-50", -6.6268077, False),
        (7, "AudioSet", -4.2677393, False),
    ):
        authors_file(tmp_path / "ast.pth", 144, classes=classes)
        caplog.clear()
        loaded = weights.load(tmp_path / "ast.pth")
        assert loaded.frontend.config.mean == mean
        assert loaded.multi_label == multi_label
        assert f"does not tell: {corpus}'s" in caplog.text


def test_the_35_words_of_speech_commands_are_named(tmp_path):
    from data.corpora.speech_commands import AUTHORS_ORDER

    authors_file(tmp_path / "ast.pth", 144, classes=35)
    assert weights.load(tmp_path / "ast.pth").classes == AUTHORS_ORDER
    words = [f"word {index}" for index in range(35)]
    assert weights.load(tmp_path / "ast.pth", classes=words).classes == tuple(words)
    ssast_file(tmp_path / "ssast.pth")
    assert weights.load(tmp_path / "ssast.pth", num_classes=35).classes[17] == "class_17"


def test_how_a_file_of_square_patches_pools_is_said_and_can_be_given(tmp_path, caplog):
    """A fine-tuned SSAST has the tensors of an AST."""
    authors_file(tmp_path / "ast.pth", patches=144)
    assert weights.load(tmp_path / "ast.pth").model.config.pooling == "cls"
    (note,) = (line for line in caplog.messages if "SSAST" in line)
    assert "its authors average the patches" in note and 'give pooling="patches"' in note
    caplog.clear()
    for pooling in ("patches", "cls"):
        assert weights.load(tmp_path / "ast.pth", pooling=pooling).model.config.pooling == pooling
    assert "SSAST" not in caplog.text and "pooling changed" not in caplog.text


@pytest.mark.parametrize(
    ("patch", "grid"), [((16, 16), (8, 64)), ((128, 2), (1, 512))], ids=["patch", "frame"]
)
@pytest.mark.parametrize("distilled", [True, False], ids=["base", "base_nokd"])
def test_ssast_tells_its_input_and_pools_its_patches(tmp_path, patch, grid, distilled, caplog):
    stored = ssast_file(tmp_path / "ssast.pth", patch=patch, distilled=distilled)
    loaded = weights.load(tmp_path / "ssast.pth", num_classes=35)
    config = loaded.model.config
    assert (config.grid, config.stride, config.patch) == (grid, patch, patch)
    assert (config.pooling, config.distilled, config.num_classes) == ("patches", distilled, 35)
    assert loaded.frontend.config.mean == -4.2677393
    for name, tensor in loaded.model.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(tensor, stored[authors_names(name)[0]]), name
    said = caplog.text
    assert all(name in said for name in ("mask_embed", "cpredlayer.0.weight", "p_input_fdim"))
    assert "has no head: a new one for 35 classes" in said


def test_ssast_refits_to_an_overlapping_stride_and_another_length(tmp_path):
    ssast_file(tmp_path / "ssast.pth")
    loaded = weights.load(
        tmp_path / "ssast.pth", 35, num_frames=128, stride=10, pooling="cls", classes=None
    )
    assert loaded.model.config.grid == (12, 12)
    assert loaded.model.config.pooling == "cls"
    assert loaded.model(torch.randn(1, 128, 128)).shape == (1, 35)


def test_ssast_without_a_number_of_classes_asks_for_it(tmp_path):
    ssast_file(tmp_path / "ssast.pth")
    with pytest.raises(ValueError, match=r"no class head: give --num-classes"):
        weights.load(tmp_path / "ssast.pth")


def test_a_fine_tuned_frame_model_asks_how_it_pools(tmp_path):
    file = tmp_path / "ssast.pth"
    authors_file(file, patches=512, patch=(128, 2))
    with pytest.raises(ValueError, match=r'give pooling="patches" \(their default\)'):
        weights.load(file)
    config = weights.load(file, pooling="patches").model.config
    assert (config.grid, config.stride, config.num_frames) == ((1, 512), (128, 2), 1024)


def test_heads_that_the_width_does_not_tell_are_asked_for(tmp_path, tiny):
    """24 numbers a token are no multiple of 64."""
    model = tiny(num_frames=128)
    state = {authors_names(name)[0]: tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "ast.pth")
    with pytest.raises(ValueError, match=r"width 24.*give heads"):
        weights.load(tmp_path / "ast.pth")
    fbank = torch.randn(1, 128, 128)
    with torch.no_grad():
        loaded = weights.load(tmp_path / "ast.pth", heads=3).model
        assert torch.equal(loaded(fbank), model(fbank))


def test_the_same_tensors_in_a_safetensors_file_are_recognised(tmp_path):
    stored = authors_file(tmp_path / "ast.pth", patches=144)
    save_file(stored, tmp_path / "ast.weights")
    loaded = weights.load(tmp_path / "ast.weights").model
    assert torch.equal(loaded.norm.weight, stored["v.norm.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v.surprise": torch.zeros(1)}, r"unknown \['v.surprise'\]"),
        ({"v.norm.weight": None}, r"missing \['v.norm.weight'\]"),
        ({"v.norm.weight": torch.zeros(3)}, r"v.norm.weight has shape \(3,\)"),
        ({"v.blocks.0.mlp.fc1.weight": None}, "no AST or SSAST"),
        ({"v.patch_embed.proj.weight": torch.zeros(64, 3, 16, 16)}, r"\(64, 3, 16, 16\)"),
        ({"epoch": 7}, "other things than tensors under .*epoch"),
    ],
)
def test_a_deviating_file_is_refused_in_one_line(tmp_path, change, message):
    file = tmp_path / "ast.pth"
    state = authors_file(file, patches=144) | change
    torch.save({name: value for name, value in state.items() if value is not None}, file)
    with pytest.raises(ValueError, match=message) as error:
        weights.load(file)
    assert "\n" not in str(error.value)


class Intruder:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    file, witness = tmp_path / "ast.pth", tmp_path / "it ran"
    torch.save({"v.cls_token": Intruder(witness)}, file)
    with pytest.raises(ValueError, match=r"refused: opening it would run code of its own") as error:
        weights.load(file)
    assert "\n" not in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>log in</html>", b"hello, this is no pickle", b"PK\x03\x04broken"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "ast.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"ast.pth is damaged or not a file of weights"):
        weights.load(tmp_path / "ast.pth")


def test_a_truncated_file_is_named(tmp_path):
    file = tmp_path / "ast.pth"
    authors_file(file, patches=144)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"ast.pth is damaged or not a file of weights"):
        weights.load(file)


def test_an_image_model_is_sent_to_from_timm(tmp_path):
    torch.save({"patch_embed.proj.weight": torch.zeros(4, 3, 16, 16)}, tmp_path / "deit.pth")
    with pytest.raises(ValueError, match=r"image transformer of timm.*from_timm"):
        weights.load(tmp_path / "deit.pth")


def test_a_lone_model_safetensors_is_sent_to_its_folder(tmp_path, classifier):
    weights.save(tmp_path, classifier)
    with pytest.raises(ValueError, match=r"give the folder, with config.json"):
        weights.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("pretrained", [True, False])
def test_what_is_written_for_the_authors_code_is_read_back(tmp_path, pretrained, caplog):
    torch.manual_seed(0)
    config = ASTConfig(num_classes=3, num_frames=128, width=64, depth=2, heads=1, stride=(16, 16))
    frontend = Frontend(FrontendConfig(128, mean=-5.0, std=4.0))
    classifier = AudioClassifier(AST(config), frontend, ("a", "b", "c"))
    file = tmp_path / "model.pth"
    weights.save_authors(file, classifier, pretrained)
    assert "mean -5, std 4, classes a, b, c" in caplog.text
    stored = torch.load(file, weights_only=True)
    sizes = {"module.p_input_tdim": 128, "module.p_input_fdim": 128} if pretrained else {}
    assert {n: int(t) for n, t in stored.items() if "p_input" in n} == sizes
    assert ("module.mlp_head.1.weight" in stored) != pretrained
    given = {"num_classes": 3} if pretrained else {"num_frames": 128, "stride": (16, 16)}
    found = weights.load(file, **given).model.state_dict()
    for name, tensor in classifier.model.state_dict().items():
        if not (pretrained and name.startswith("head")):
            assert torch.equal(found[name], tensor), name


def test_a_pretrained_encoder_of_overlapping_patches_is_no_file_of_theirs(tmp_path, classifier):
    with pytest.raises(ValueError, match="do not overlap; leave out --stride"):
        weights.save_authors(tmp_path / "model.pth", classifier, pretrained=True)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, classifier, monkeypatch):
    file = tmp_path / "model.pth"
    file.write_bytes(b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"model.pth: No space left"):
        weights.save_authors(file, classifier)
    assert file.read_bytes() == b"old"
