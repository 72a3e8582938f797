"""ONNX files: onnxruntime against PyTorch, what the file says of itself, what can go wrong."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

import data
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from weights.onnx_export import export_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
pytest.importorskip("onnx", reason="pip install ast-audio[onnx]")
pytest.importorskip("onnxscript", reason="pip install ast-audio[onnx]")

CLASSES = ("dog", "rain", "Möwe")
FRAMES = 64
WHOLE = 400 + 63 * 160  # samples of 64 frames


def tiny(multi_label=False, hearing=None, **changes):
    """A classifier whose norms and biases are random too; they start out all alike."""
    sizes = {"num_classes": 3, "num_frames": FRAMES, "width": 24, "heads": 3, "depth": 2}
    model = AST(ASTConfig(**sizes | changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    frontend = Frontend(FrontendConfig(num_frames=FRAMES, mean=-5.0, std=3.0, **hearing or {}))
    return AudioClassifier(model, frontend, CLASSES, multi_label).eval()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(file, **inputs):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(logits)


def relative_error(found, expected):
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def classifier():
    return tiny(multi_label=True)


@pytest.fixture(scope="module")
def file(classifier, tmp_path_factory):
    """The classifier with its front end."""
    path = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx"
    export_onnx(classifier, path)
    return path


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("samples", [400, 559, 560, 5_000, WHOLE - 1, WHOLE, WHOLE + 1, 40_000])
@torch.no_grad()
def test_waveforms_of_any_length_score_as_in_pytorch(classifier, file, batch, samples):
    waveform = 0.1 * noise(batch, samples) + 0.05  # with a mean to remove
    assert relative_error(run(file, waveform=waveform), classifier(waveform)) < 1e-4


@torch.no_grad()
def test_patches_merge_in_the_file_too(tmp_path):
    classifier = tiny(pooling="patches")
    whole = classifier.model(noise(3, FRAMES, 128))
    classifier.model.merge_tokens(0.5)
    export_onnx(classifier, tmp_path / "model.onnx", with_frontend=False)
    for batch in (1, 3):
        fbank = noise(batch, FRAMES, 128)
        found = run(tmp_path / "model.onnx", fbank=fbank)
        assert relative_error(found, classifier.model(fbank)) < 1e-5
    assert relative_error(found, whole) > 1e-3


@torch.no_grad()
def test_silence_and_full_scale_score_as_in_pytorch(classifier, file):
    for waveform in (torch.zeros(2, 8_000), noise(2, 8_000).sign(), torch.ones(2, 8_000)):
        assert relative_error(run(file, waveform=waveform), classifier(waveform)) < 1e-4


@pytest.mark.parametrize(
    "hearing",
    [
        {"sample_rate": 32_000, "low_freq": 50.0, "high_freq": 14e3},
        {"sample_rate": 8_000, "padding": "silence"},
    ],
)
@torch.no_grad()
def test_any_rate_and_band_scores_as_in_pytorch(tmp_path, hearing):
    classifier = tiny(hearing=hearing)
    export_onnx(classifier, tmp_path / "model.onnx")
    for batch, seconds in ((1, 0.3), (3, 1.0)):
        waveform = 0.1 * noise(batch, int(seconds * hearing["sample_rate"]))
        found = run(tmp_path / "model.onnx", waveform=waveform)
        assert relative_error(found, classifier(waveform)) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert hearing == {name: json.loads(metadata[name]) for name in hearing}


@torch.no_grad()
def test_recordings_score_as_in_pytorch(classifier, file, recordings):
    for path in sorted((recordings / "esc10" / "audio").glob("*.ogg"))[::50]:
        waveform = torch.as_tensor(data.load_audio(path))[None]
        assert relative_error(run(file, waveform=waveform), classifier(waveform)) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "patches", "distilled": False},
        {"patch": (128, 2), "stride": (128, 2), "depth": 1},
    ],
    ids=["patches pooled, no DIST token", "patches of (128, 2)"],
)
@torch.no_grad()
def test_filterbanks_score_as_in_pytorch(tmp_path, changes):
    classifier = tiny(**changes)
    export_onnx(classifier, tmp_path / "model.onnx", with_frontend=False)
    for batch in (1, 5):
        fbank = noise(batch, FRAMES, 128)
        found = run(tmp_path / "model.onnx", fbank=fbank)
        assert relative_error(found, classifier.model(fbank)) < 1e-5


def test_the_traceable_front_end_is_the_front_end():
    frontend = tiny().frontend
    for samples in (400, 5_000, WHOLE, 40_000):
        waveforms = 0.1 * noise(3, samples) + 0.05
        torch.testing.assert_close(
            frontend.traceable(waveforms), frontend(waveforms), rtol=0, atol=1e-4
        )


def test_it_says_what_a_user_of_onnxruntime_must_know(classifier, file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (waveform,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (waveform.name, waveform.type) == ("waveform", "tensor(float)")
    assert waveform.shape == ["batch", "samples"]
    assert (logits.name, logits.shape) == ("logits", ["batch", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    metadata = {name: json.loads(value) for name, value in metadata.items()}
    assert tuple(metadata.pop("classes")) == CLASSES
    assert metadata.pop("multi_label") is True
    assert metadata["sample_rate"] == 16_000
    assert FrontendConfig(**metadata) == classifier.frontend.config


def test_it_is_one_file(file):
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]


def test_it_holds_no_path_of_this_machine(file):
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()


def test_the_classifier_stays_as_it_is_and_nothing_is_printed(tmp_path, capfd, recwarn):
    classifier = tiny().train().bfloat16()
    classifier.frontend.eval()
    classifier.model.cls_token.requires_grad_(False)
    classifier.model.head.bias.grad = torch.ones(3, dtype=torch.bfloat16)
    before = copy.deepcopy(classifier)
    export_onnx(classifier, tmp_path / "model.onnx", with_frontend=False)
    for ours, theirs in zip(classifier.modules(), before.modules(), strict=True):
        assert ours.training == theirs.training
    for ours, theirs in zip(classifier.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.dtype, ours.requires_grad) == (theirs.dtype, theirs.requires_grad)
    gradients = {name: p.grad for name, p in classifier.named_parameters() if p.grad is not None}
    assert {name: gradient.tolist() for name, gradient in gradients.items()} == {
        "model.head.bias": [1, 1, 1]
    }
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(
        ValueError, match=rf"package {name},.* pip install 'ast-audio\[onnx\]'$"
    ) as e:
        export_onnx(tiny(), tmp_path / "model.onnx")
    assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_computes_something_else_keeps_the_old_file(tmp_path, monkeypatch):
    def no_filterbank(self, waveforms):
        return waveforms[:, :1, None].expand(-1, FRAMES, 128)

    monkeypatch.setattr(Frontend, "traceable", no_filterbank)
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(
        ValueError, match=r"deviate by .* waveform \(1, 5360\), 1e-04 is allowed"
    ) as e:
        export_onnx(tiny(), tmp_path / "model.onnx")
    assert "\n" not in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "old"


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    classifier = tiny(depth=1)
    classifier.model.head.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"deviate by nan .* look for NaN in the weights"):
        export_onnx(classifier, tmp_path / "model.onnx", with_frontend=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@torch.no_grad()
def test_the_papers_model_scores_as_in_pytorch(tmp_path):
    model = AST(ASTConfig.preset("base384", num_classes=3))
    classifier = AudioClassifier(model, Frontend(FrontendConfig()), CLASSES).eval()
    export_onnx(classifier, tmp_path / "model.onnx")
    waveform = 0.1 * noise(2, 80_000)
    found = run(tmp_path / "model.onnx", waveform=waveform)
    assert relative_error(found, classifier(waveform)) < 1e-4
