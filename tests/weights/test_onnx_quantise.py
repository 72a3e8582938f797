"""ONNX files in 8-bit integers: what is quantised, on which processors, and what can go wrong."""

import copy
import json
import logging
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig
from weights import onnx_quantise
from weights.onnx_quantise import export_int8_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
onnx = pytest.importorskip("onnx", reason="pip install ast-audio[onnx]")
pytest.importorskip("onnxscript", reason="pip install ast-audio[onnx]")

CLASSES = ("dog", "rain", "Möwe")
FRAMES = 64
DEPTH = 2
KINDS = ("qkv", "projection", "expand", "contract")


def tiny(**hearing):
    sizes = {"num_classes": 3, "num_frames": FRAMES, "width": 24, "heads": 3, "depth": DEPTH}
    model = AST(ASTConfig(**sizes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    frontend = Frontend(FrontendConfig(num_frames=FRAMES, mean=-5.0, std=3.0, **hearing))
    return AudioClassifier(model, frontend, CLASSES).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def session(file, **settings):
    options = onnxruntime.SessionOptions()
    for name, value in settings.items():
        setattr(options, name, str(value))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def probabilities(file, **inputs):
    feed = {name: value.numpy() for name, value in inputs.items()}
    (logits,) = session(file).run(["logits"], feed)
    return torch.from_numpy(logits).softmax(dim=-1)


@pytest.fixture(scope="module")
def classifier():
    return tiny()


@pytest.fixture(scope="module")
def clips():
    return [noise(samples, seed=samples) for samples in (5_000, 10_000, 12_000, 20_000)]


@pytest.fixture(scope="module")
def exported(classifier, clips, tmp_path_factory):
    """The file with its front end, and what the export said of it."""
    path = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx"
    return path, export_int8_onnx(classifier, path, clips)


@pytest.fixture(scope="module")
def file(exported):
    return exported[0]


def test_it_says_how_near_the_file_is_to_pytorch(classifier, clips, exported):
    file, agreement = exported
    differences = [
        (probabilities(file, waveform=clip[None]) - classifier.probabilities(clip[None]))
        .abs()
        .max()
        for clip in clips
    ]
    assert agreement.largest == pytest.approx(max(differences).item(), abs=1e-6)
    assert agreement.mean == pytest.approx(sum(differences).item() / len(clips), abs=1e-6)
    assert 0 < agreement.mean < 0.01  # in 8 bits, and not in fewer
    assert (agreement.layers, agreement.clips) == (4 * DEPTH, 4)
    assert agreement.same_top_class == 4


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("samples", [400, 5_000, 40_000])
def test_batches_and_clips_of_any_size_score_nearly_as_in_pytorch(classifier, file, batch, samples):
    waveform = noise(batch, samples) + 0.05
    found = probabilities(file, waveform=waveform)
    assert found.shape == (batch, 3)
    assert (found - classifier.probabilities(waveform)).abs().max() < 0.05


def test_a_model_of_another_rate_and_band_is_quantised_too(clips, tmp_path):
    classifier, file = tiny(sample_rate=32_000, low_freq=50.0, high_freq=14e3), tmp_path / "a.onnx"
    agreement = export_int8_onnx(classifier, file, clips)
    assert agreement.layers == 4 * DEPTH and 0 < agreement.mean < 0.01
    metadata = session(file).get_modelmeta().custom_metadata_map
    assert (metadata["sample_rate"], metadata["high_freq"]) == ("32000", "14000.0")


def test_a_clip_scores_the_same_whatever_else_is_in_the_batch(file):
    quiet, loud = noise(1, 10_000), 9 * noise(1, 10_000, seed=1)
    together = probabilities(file, waveform=torch.cat([quiet, loud]))
    alone = probabilities(file, waveform=quiet)
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)


def test_the_blocks_linear_layers_are_quantised_and_nothing_else(file, tmp_path):
    graph = onnx.load(file).graph
    made_by = {output: node for node in graph.node for output in node.output}
    quantised = [
        node.metadata_props[0].value
        for node in graph.node
        if node.input and getattr(made_by.get(node.input[0]), "op_type", "") == "DequantizeLinear"
    ]
    assert Counter(
        name for scope in quantised for name in KINDS if f".{name}'" in scope
    ) == dict.fromkeys(KINDS, DEPTH)
    assert len(quantised) == 4 * DEPTH

    optimised = tmp_path / "optimised.onnx"
    session(file, optimized_model_filepath=optimised)
    run = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert run["MatMulIntegerToFloat"] == 4 * DEPTH  # as onnxruntime computes them
    assert run["QuantizeLinear"] == 4 * DEPTH
    assert run["DequantizeLinear"] == 0


def test_sums_of_two_products_fit_in_16_bits(file):
    """As processors without VNNI hold them: an input of 8 bits times a weight, twice."""
    tensors = [onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer]
    integers = [each for each in tensors if each.dtype == "int8" and each.ndim == 2]
    assert len(integers) == 4 * DEPTH
    for weight in integers:
        assert 2 * 255 * abs(weight.astype(int)).max() < 2**15
        assert (abs(weight.astype(int)).max(axis=0) == 64).all()  # each output has its own scale


def test_it_is_one_file_that_says_what_the_one_in_float32_says(classifier, file, tmp_path):
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    weights.export_onnx(classifier, tmp_path / "float.onnx")
    ours, theirs = session(file), session(tmp_path / "float.onnx")
    for get in ("get_inputs", "get_outputs"):
        (mine,), (other,) = getattr(ours, get)(), getattr(theirs, get)()
        assert (mine.name, mine.type, mine.shape) == (other.name, other.type, other.shape)
    metadata = theirs.get_modelmeta().custom_metadata_map
    assert metadata.items() <= ours.get_modelmeta().custom_metadata_map.items()
    assert json.loads(metadata["classes"]) == [*CLASSES]
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()


def test_filterbanks_go_in_where_the_front_end_stays_out(classifier, clips, tmp_path):
    agreement = export_int8_onnx(classifier, tmp_path / "model.onnx", clips, with_frontend=False)
    fbank = classifier.frontend(torch.stack([clip[:5_000] for clip in clips]))
    found = probabilities(tmp_path / "model.onnx", fbank=fbank)
    expected = classifier.model(fbank).softmax(dim=-1)
    assert (found - expected).abs().max() < 0.05
    assert agreement.layers == 4 * DEPTH


def test_the_classifier_stays_as_it_is_and_nothing_is_warned_of(tmp_path, caplog, clips):
    classifier = tiny().train().bfloat16()
    before = copy.deepcopy(classifier)
    with caplog.at_level(logging.INFO):
        export_int8_onnx(classifier, tmp_path / "model.onnx", clips[:1], with_frontend=False)
    told = [each.message for each in caplog.records if each.levelno > logging.INFO]
    told += [each.message for each in caplog.records if each.name.startswith("weights")]
    assert told == ["clips to calibrate with: 1"]
    assert logging.root.manager.disable == logging.NOTSET
    for ours, theirs in zip(classifier.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    assert classifier.training


def test_a_file_that_is_too_far_off_is_not_written(classifier, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_quantise, "ALLOWED", 1e-9)
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(ValueError, match=r"at most .* calibration clips \(1\)") as e:
        export_int8_onnx(classifier, tmp_path / "model.onnx", clips[:1], with_frontend=False)
    assert "\n" not in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "old"


def test_a_quantiser_that_fails_leaves_nothing(classifier, clips, tmp_path, monkeypatch):
    def fail(source, destination, *_, **__):
        destination.write_text("half")
        raise OSError(28, "no space")

    monkeypatch.setattr(onnxruntime.quantization, "quantize_static", fail)
    with pytest.raises(OSError, match=r"could not write .*model\.onnx"):
        export_int8_onnx(classifier, tmp_path / "model.onnx", clips, with_frontend=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("clips", "message"),
    [([], "no clips to calibrate with"), ([torch.zeros(399)], "a clip has 399 samples, 400")],
)
def test_clips_that_cannot_calibrate_are_refused(classifier, tmp_path, clips, message):
    with pytest.raises(ValueError, match=message):
        export_int8_onnx(classifier, tmp_path / "model.onnx", clips)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_no_ast_is_refused(tmp_path, clips):
    model = Baseline(BaselineConfig("resnet10t", 3, FRAMES, 128))
    baseline = AudioClassifier(model, Frontend(FrontendConfig(num_frames=FRAMES)), CLASSES)
    with pytest.raises(ValueError, match="resnet10t is no AST"):
        export_int8_onnx(baseline, tmp_path / "model.onnx", clips)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(classifier, clips, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(ValueError, match=rf"package {name},.* pip install 'ast-audio\[onnx\]'$"):
        export_int8_onnx(classifier, tmp_path / "model.onnx", clips)
