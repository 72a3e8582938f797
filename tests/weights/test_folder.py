"""Saved models: round trip, transformers as the judge, damage."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from ast_model import AST, ASTConfig, Frontend, FrontendConfig

CLASSES = ("dog", "rain", "sea waves")


def randomised(model):
    """Norms and biases too, which start out all alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def tiny(**changes):
    sizes = {"num_classes": 3, "num_frames": 64, "width": 24, "heads": 3, "depth": 2}
    model = randomised(AST(ASTConfig(**sizes | changes)).eval())
    frontend = Frontend(FrontendConfig(num_frames=64, mean=-5.0, std=3.0))
    return model, frontend


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distilled": False},
        {"pooling": "patches"},
        {"patch": (128, 2), "stride": (128, 2)},
        {"stride": (16, 12), "drop_path": 0.1, "dropout": 0.2},
    ],
)
def test_round_trip_is_bit_exact(tmp_path, changes):
    model, frontend = tiny(**changes)
    weights.save(tmp_path / "model", model, frontend, CLASSES, multi_label=True)
    loaded = weights.load(tmp_path / "model")
    assert loaded.model.config == model.config
    assert loaded.frontend.config == frontend.config
    assert loaded.classes == CLASSES
    assert loaded.multi_label
    for (name, ours), theirs in zip(
        model.state_dict().items(), loaded.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_transformers_loads_it_and_computes_the_same(tmp_path):
    transformers = pytest.importorskip("transformers")
    model, frontend = tiny(head_layer_norm_eps=1e-6)
    weights.save(tmp_path, model, frontend, CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs, report = transformers.ASTForAudioClassification.from_pretrained(
            tmp_path, output_loading_info=True, attn_implementation="sdpa"
        )
    assert not any(report.values()), report
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    fbank = torch.randn(2, 64, 128)
    with torch.no_grad():
        ours, reference = model(fbank), theirs.eval()(fbank).logits
    assert torch.allclose(ours, reference, rtol=1e-5, atol=1e-6)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path)
    assert (extractor.mean, extractor.std, extractor.max_length) == (-5.0, 3.0, 64)


def test_transformers_own_folder_loads(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ASTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        max_length=64,
        num_labels=3,
    )
    theirs = randomised(transformers.ASTForAudioClassification(config).eval())
    theirs.save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=64).save_pretrained(tmp_path)
    ours = weights.load(tmp_path)
    assert ours.frontend.config.window == "hanning"
    fbank = torch.randn(2, 64, 128)
    with torch.no_grad():
        assert torch.allclose(ours.model(fbank), theirs(fbank).logits, rtol=1e-5, atol=1e-6)


def test_a_model_that_transformers_cannot_run_names_its_own_architecture(tmp_path):
    weights.save(tmp_path, *tiny(distilled=False), CLASSES)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["AST"]


def test_saving_over_a_model_replaces_it_and_leaves_nothing_else(tmp_path):
    weights.save(tmp_path / "last", *tiny(), CLASSES)
    weights.save(tmp_path / "last", *tiny(distilled=False), CLASSES)
    assert not weights.load(tmp_path / "last").model.config.distilled
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_full_disk_keeps_the_old_model(tmp_path, monkeypatch):
    model, frontend = tiny()
    weights.save(tmp_path / "last", model, frontend, CLASSES)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"could not write .*last: No space left on device; free"):
        weights.save(tmp_path / "last", *tiny(distilled=False), CLASSES)
    assert weights.load(tmp_path / "last").model.config == model.config
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a model folder: config.json is missing"):
        weights.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_configuration_is_named(tmp_path, name, content):
    weights.save(tmp_path, *tiny(), CLASSES)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        weights.load(tmp_path)


def test_every_deviating_key_or_shape_is_an_error(tmp_path):
    weights.save(tmp_path, *tiny(), CLASSES)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)

    save_file({name: t for name, t in whole.items() if name != "classifier.dense.bias"}, file)
    with pytest.raises(ValueError, match=r"missing \['classifier.dense.bias'\]"):
        weights.load(tmp_path)

    save_file({**whole, "intruder": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"unknown \['intruder'\]"):
        weights.load(tmp_path)

    save_file({**whole, "classifier.dense.bias": torch.zeros(5)}, file)
    with pytest.raises(ValueError, match=r"classifier.dense.bias has shape \(5,\)"):
        weights.load(tmp_path)

    file.write_bytes(b"not a safetensors file")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        weights.load(tmp_path)
