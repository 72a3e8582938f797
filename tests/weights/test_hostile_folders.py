"""Model folders of strangers: one ValueError that names the file, or a sound model."""

import json
import math
import socket
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig
from weights.names import authors_names

FILES = ("config.json", "preprocessor_config.json")
VALUES = ("null", "NaN", "1e999", "-1", "0", "1e308", '"x"', "[[]]", "{}", "true", "2147483648")
MISSING = "missing"
SOUND = torch.randn(12_000, generator=torch.Generator().manual_seed(0)) / 10


def with_field(text, name, value):
    """A JSON object with another value of a field, or without it."""
    content = json.loads(text)
    if value == MISSING:
        del content[name]
        return json.dumps(content)
    return json.dumps(content | {name: "@"}).replace('"@"', value)


def require_sound_or_named(folder):
    try:
        classifier = weights.load(folder)
    except ValueError as error:
        assert str(error).startswith(str(folder))
        assert "\n" not in str(error)
        assert len(str(error)) < 500 + len(str(folder))
    else:
        assert all(math.isfinite(score) for _, score in classifier.classify(SOUND))


@pytest.mark.parametrize("file", FILES)
def test_every_field_of_a_model_folder_is_sound_or_refused_by_name(tmp_path, classifier, file):
    weights.save(tmp_path, classifier)
    text = (tmp_path / file).read_text()
    for name in json.loads(text):
        for value in (*VALUES, MISSING):
            (tmp_path / file).write_text(with_field(text, name, value))
            require_sound_or_named(tmp_path)


@pytest.fixture
def baseline(tmp_path):
    pytest.importorskip("timm")
    model = Baseline(BaselineConfig("test_efficientnet", 3, 64, 128)).eval()
    frontend = Frontend(FrontendConfig(num_frames=64))
    weights.save(tmp_path, AudioClassifier(model, frontend, ("a", "b", "c")))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *[(name, value, name) for name in ("name", "num_classes") for value in VALUES],
        ("name", '"hf-hub:timm/resnet18.a1_in1k"', "is not that of a model in timm"),
        ("name", '"local-dir:/tmp"', "is not that of a model in timm"),
        ("name", '"efficientnet_b99"', "timm cannot make the baseline 'efficientnet_b99'"),
        ("name", '"convnext_xxlarge"', "does not hold a convnext_xxlarge of this timm"),
        ("num_classes", "4", r"does not hold a test_efficientnet.*classifier"),
        ("num_mel_bins", "64", "num_mel_bins"),
    ],
)
def test_a_baseline_asks_no_hub_and_takes_no_memory_that_its_file_does_not_fill(
    baseline, monkeypatch, name, value, message
):
    def contact(*arguments):
        raise AssertionError("timm contacts a hub")

    monkeypatch.setattr(socket.socket, "connect", contact)
    monkeypatch.setattr(socket, "getaddrinfo", contact)
    file = baseline / "config.json"
    file.write_text(with_field(file.read_text(), name, value))
    start = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        weights.load(baseline)
    assert str(baseline) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 12_288, r"cls_token has shape \(1, 1, 24\)"),
        ("intermediate_size", 64 * 24, r"intermediate.dense.weight has shape \(96, 24\)"),
        ("max_length", 2**16, r"position_embeddings has shape"),
        ("num_hidden_layers", 30, "missing"),
        ("id2label", {str(n): f"{n}" for n in range(5000)}, r"classifier.dense.weight has shape"),
    ],
)
def test_a_configuration_agrees_with_the_tensors_before_memory_is_taken(
    tmp_path, classifier, monkeypatch, field, value, message
):
    weights.save(tmp_path, classifier)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text()) | {field: value}
    file.write_text(json.dumps(content))
    monkeypatch.setattr("weights.folder.Frontend", None)
    monkeypatch.setattr("weights.checkpoint.Frontend", None)
    with pytest.raises(ValueError, match=rf"model.safetensors.*{message}"):
        weights.load(tmp_path)


@pytest.mark.parametrize("name", ["\ud800", "caf\udce9", "\x1b[2Jdog", "dog\ncat"])
def test_class_names_can_be_written_wherever_text_is(tmp_path, classifier, name):
    """Half a character, which JSON can hold, is neither printed nor stored nor drawn."""
    weights.save(tmp_path, AudioClassifier(classifier.model, classifier.frontend, ("é", "b", name)))
    with pytest.raises(ValueError, match=r"config.json: id2label has '.*', expected a line"):
        weights.load(tmp_path)


def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(tmp_path, classifier):
    weights.save(tmp_path, classifier)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["classifier.dense.bias"][1] = math.nan
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"model.safetensors: classifier.dense.bias holds NaN"):
        weights.load(tmp_path)


def test_many_classes_of_one_name_are_told_in_a_few_lines(tmp_path, tiny, caplog):
    count = 3000
    saved = AudioClassifier(
        tiny(num_classes=count), Frontend(FrontendConfig(64)), [f"{n}" for n in range(count)]
    )
    weights.save(tmp_path, saved)
    caplog.clear()
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    content["id2label"] = dict.fromkeys(content["id2label"], "dog")
    file.write_text(json.dumps(content))
    assert len(set(weights.load(tmp_path).classes)) == count
    assert len(caplog.messages) < 10
    assert "2999 classes have the name of another one" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v.patch_embed.proj.weight": torch.zeros(64, 1, 0, 16)}, "v.patch_embed.proj.weight has"),
        ({"v.patch_embed.proj.weight": torch.zeros(64, 1, 2000, 9)}, "2000"),
        (
            {"v.blocks.0.mlp.fc1.weight": torch.tensor(1.0)},
            r"fc1.weight has shape \(\), expected 2",
        ),
        ({"mlp_head.1.weight": torch.tensor(1.0)}, r"mlp_head.1.weight has shape \(\), expected 2"),
        (
            {"p_input_fdim": torch.ones(2), "p_input_tdim": torch.tensor(8)},
            "p_input_fdim has shape",
        ),
        ({"p_input_fdim": torch.tensor(2**40), "p_input_tdim": torch.tensor(8)}, "num_"),
        ({"v.pos_embed": torch.zeros(1, 1, 64)}, "no grid"),
    ],
)
def test_shapes_that_no_authors_file_has_are_refused_by_name(tmp_path, tiny, changes, message):
    file = tmp_path / "ast.pth"
    model = tiny(num_frames=128, width=64, heads=1)
    state = {authors_names(name)[0]: tensor for name, tensor in model.state_dict().items()}
    torch.save(state | changes, file)
    with pytest.raises(ValueError, match=message) as caught:
        weights.load(file)
    assert str(caught.value).startswith(f"{file}")
    assert "\n" not in str(caught.value)
