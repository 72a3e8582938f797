"""Where a run's first weights come from."""

from dataclasses import replace

import pytest
import torch

import weights
from ast_model import AST, AudioClassifier, Frontend, FrontendConfig
from train import init_model
from train.init_model import initial_model, require_source
from train.recipes.esc50 import ESC50, ESC50_IMAGENET

timm = pytest.importorskip("timm")

CLASSES = ("dog", "rain")


@pytest.fixture
def recipe():
    return replace(
        ESC50_IMAGENET,
        preset="tiny224",
        num_frames=128,
        time_mask=96,
        dropout=0.1,
        drop_path=0.2,
        init_from="scratch",
    )


@pytest.fixture
def saved(recipe, tmp_path):
    """A model folder of the recipe's own architecture, trained on the same classes."""
    torch.manual_seed(7)
    model = AST(recipe.model_config(2))
    frontend = Frontend(FrontendConfig(num_frames=128, window="hanning"))
    weights.save(tmp_path / "model", AudioClassifier(model, frontend, CLASSES))
    return tmp_path / "model", model


@pytest.fixture
def deit_file(tmp_path):
    model = timm.create_model("deit_tiny_distilled_patch16_224")
    torch.save(model.state_dict(), tmp_path / "deit.pth")
    return model, str(tmp_path / "deit.pth")


def test_scratch_is_random(recipe):
    model = initial_model(recipe, CLASSES)
    assert model.config == recipe.model_config(2)
    assert 0.018 < model.blocks[0].mlp.expand.weight.std() < 0.021


@pytest.mark.parametrize("name", ["imagenet", "deit_tiny_distilled_patch16_224"])
def test_imagenet_is_the_presets_deit(recipe, deit_file, name):
    theirs, file = deit_file
    recipe = replace(recipe, init_from=name, init_file=file, rgb_kernel="sum", positions="nearest")
    model = initial_model(recipe, CLASSES)
    assert model.config == recipe.model_config(2)
    assert torch.equal(model.blocks[11].mlp.contract.weight, theirs.blocks[11].mlp.fc2.weight)
    kernel = theirs.patch_embed.proj.weight
    assert torch.equal(model.patch_embedding.projection.weight, kernel.sum(1, keepdim=True))


def test_imagenet_without_a_dist_token_is_the_deit_without_distillation(
    recipe, monkeypatch, deit_file
):
    asked = []
    monkeypatch.setattr(weights, "from_timm", lambda config, name, *rest: asked.append(name))
    initial_model(replace(recipe, init_from="imagenet", distilled=False), CLASSES)
    initial_model(replace(recipe, init_from="imagenet"), CLASSES)
    assert asked == ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"]


def test_every_preset_has_its_deit():
    for name in init_model.IMAGENET.values():
        assert weights.is_timm_name(name)
        assert weights.is_timm_name(name.replace("_distilled", ""))


def test_audioset_is_the_published_model(monkeypatch):
    asked = []

    def load(source, **requests):
        asked.append((source, requests["num_frames"], requests["stride"]))
        raise FileNotFoundError

    monkeypatch.setattr(weights, "load", load)
    with pytest.raises(FileNotFoundError):
        initial_model(ESC50, CLASSES)
    assert asked == [("MIT/ast-finetuned-audioset-10-10-0.4593", 512, (10, 10))]


def test_a_saved_model_of_the_same_classes_keeps_its_head(recipe, saved):
    folder, trained = saved
    recipe = replace(recipe, init_from=str(folder), dropout=0.3, drop_path=0.4, patchout=(1, 2))
    model = initial_model(recipe, CLASSES)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    config = model.config
    assert (config.dropout, config.drop_path, config.patchout) == (0.3, 0.4, (1, 2))
    assert model.blocks[11].drop_path == 0.4
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_classes_make_a_new_head(recipe, saved):
    folder, trained = saved
    torch.manual_seed(1)
    model = initial_model(replace(recipe, init_from=str(folder)), ("cat", "rain"))
    assert torch.equal(model.blocks[0].attention.qkv.weight, trained.blocks[0].attention.qkv.weight)
    assert not torch.equal(model.head.weight, trained.head.weight)
    assert initial_model(replace(recipe, init_from=str(folder)), "abc").head.out_features == 3


def test_another_length_stride_and_pooling_are_the_recipes(recipe, saved):
    recipe = replace(recipe, num_frames=200, stride=(16, 16), pooling="patches")
    model = initial_model(replace(recipe, init_from=str(saved[0])), CLASSES)
    assert model.config.grid == (8, 12)
    assert model.config.pooling == "patches"


def test_another_window_is_noted(recipe, saved, caplog):
    initial_model(replace(recipe, init_from=str(saved[0])), CLASSES)
    assert "--window hanning keeps theirs" in caplog.text
    caplog.clear()
    initial_model(replace(recipe, init_from=str(saved[0]), window="hanning"), CLASSES)
    assert "window" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"high_freq": 8e3}, None),  # what 0 means at 16 kHz
        (
            {"sample_rate": 32_000},
            "sample_rate 16000 (this recipe 32000); --sample-rate 16000 keeps theirs",
        ),
        (
            {"sample_rate": 32_000, "low_freq": 50.0, "high_freq": 14e3},
            "sample_rate 16000 (this recipe 32000), low_freq 20.0 (this recipe 50.0), high_freq "
            "0.0 (this recipe 14000.0); --sample-rate 16000 --low-freq 20.0 --high-freq 0.0 keep "
            "theirs",
        ),
    ],
)
def test_another_rate_or_band_is_noted_with_the_options_that_match(
    recipe, saved, caplog, changes, expected
):
    recipe = replace(recipe, init_from=str(saved[0]), window="hanning")
    initial_model(replace(recipe, **changes), CLASSES)
    notes = [record.message for record in caplog.records if record.name == init_model.__name__]
    assert notes == ([f"{saved[0]} was trained with {expected}"] if expected else [])


def test_another_size_is_refused_with_the_option_to_change(recipe, saved):
    recipe = replace(recipe, preset="small224", init_from=str(saved[0]))
    with pytest.raises(ValueError, match=r"width 384 \(theirs 192\).*change --preset"):
        initial_model(recipe, CLASSES)


def test_options_of_image_models_are_refused_elsewhere(recipe, saved):
    for change in ({"rgb_kernel": "sum"}, {"init_file": "deit.pth"}):
        with pytest.raises(ValueError, match="belong to an --init-from that is a model of timm"):
            initial_model(replace(recipe, init_from=str(saved[0]), **change), CLASSES)
        with pytest.raises(ValueError, match="belong to an --init-from that is a model of timm"):
            initial_model(replace(recipe, **change), CLASSES)  # from scratch


def test_a_baseline_starts_from_a_file_and_keeps_no_second_copy(recipe, tmp_path):
    theirs = timm.create_model("test_efficientnet")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "net.pth")
    recipe = replace(
        recipe, model="test_efficientnet", init_from="imagenet", init_file=f"{tmp_path}/net.pth"
    )
    ours = initial_model(recipe, CLASSES).image_model
    kernel = theirs.conv_stem.weight.sum(dim=1, keepdim=True)  # timm's rule for one channel
    torch.testing.assert_close(ours.conv_stem.weight, kernel)
    assert torch.equal(ours.conv_head.weight, theirs.conv_head.weight)
    assert "state_dict" not in ours.pretrained_cfg


def test_a_source_that_is_not_here_is_told_with_what_to_do(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def said(source):
        with pytest.raises(FileNotFoundError) as caught:
            require_source(replace(recipe, init_from=str(source)))
        return str(caught.value)

    run = tmp_path / "runs" / "mae_frames"
    missing = "there is no model runs/mae_frames/last to start from; "
    first = "run `ast-audio pretrain mae_frames --data FOLDER` first, or correct --init-from"
    assert said("runs/mae_frames/last") == missing + first
    (run / "fold1" / "last").mkdir(parents=True)
    one = "give --init-from one of runs/mae_frames/fold1"
    assert said("runs/mae_frames/last") == missing + one
    for source in ("runs/typo", "/a/b"):
        assert said(source) == f"there is no model {source} to start from; correct --init-from"
    (run / "recipe.json").write_text("{}")
    assert "has no last/ yet" in said(run)
    for source in ("scratch", "imagenet", "audioset", "owner/name", "runs/name@main"):
        require_source(replace(recipe, init_from=source))  # perhaps to be downloaded
