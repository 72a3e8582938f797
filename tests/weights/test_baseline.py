"""Image models of timm as baselines: saved and loaded like an AST."""

import pytest
import torch

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig, without_memory

timm = pytest.importorskip("timm")

CLASSES = ("dog", "rain", "sea waves")
CONFIG = BaselineConfig("test_efficientnet", 3, 64, 128)


@pytest.fixture
def folder(tmp_path):
    model = Baseline(CONFIG).eval()
    frontend = Frontend(FrontendConfig(num_frames=64, mean=-5.0, std=3.0))
    weights.save(tmp_path / "model", AudioClassifier(model, frontend, CLASSES, multi_label=True))
    return tmp_path / "model", model


def test_it_comes_back_as_it_was(folder):
    path, model = folder
    loaded = weights.load(path)
    assert (loaded.model.config, loaded.classes, loaded.multi_label) == (CONFIG, CLASSES, True)
    assert loaded.frontend.config == FrontendConfig(64, 128, "hamming", -5.0, 3.0)
    fbank = torch.randn(2, 64, 128)
    with torch.no_grad():
        assert torch.equal(loaded.model(fbank), model(fbank))
    assert len(loaded.classify(torch.randn(8_000) / 10, top_k=2)) == 2


def test_it_is_loaded_as_it_is(folder):
    with pytest.raises(ValueError, match=r"is a baseline of timm, loaded as it is.*num_frames"):
        weights.load(folder[0], num_frames=128)


def test_its_classes_and_statistics_can_be_given(folder):
    loaded = weights.load(folder[0], classes=["a", "b", "c"], mean=-4.0, multi_label=False)
    assert (loaded.classes, loaded.multi_label) == (("a", "b", "c"), False)
    assert loaded.frontend.config == FrontendConfig(64, 128, "hamming", -4.0, 3.0)


def test_other_tensors_are_refused_in_one_line(folder):
    config = folder[0] / "config.json"
    config.write_text(config.read_text().replace('"num_classes": 3', '"num_classes": 2'))
    with pytest.raises(ValueError, match=r"does not hold a test_efficientnet") as error:
        weights.load(folder[0])
    assert "\n" not in str(error.value)


def test_a_name_that_timm_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"timm cannot make the baseline 'efficientnet_b99'"):
        Baseline(BaselineConfig("efficientnet_b99", 3, 64, 128))


@pytest.mark.parametrize("name", ["tf_efficientnet_b3", "seresnext50_32x4d", "eca_nfnet_l0"])
def test_the_usual_baselines_take_a_spectrogram(name):
    model = Baseline(BaselineConfig(name, 3, 64, 128)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 64, 128)).shape == (1, 3)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "maxvit_tiny_tf_512", "qwen3_vit_88m_enc"]
)
def test_a_model_of_another_input_is_refused_without_its_memory(name):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    with pytest.raises(ValueError, match=f"{name} does not take a spectrogram of 64 frames"):
        without_memory(BaselineConfig(name, 3, 64, 128))


def test_a_baseline_of_another_input_is_refused_by_its_folder(tmp_path):
    model, frontend = Baseline(BaselineConfig("test_vit3", 3, 160, 160)), FrontendConfig(160, 160)
    weights.save(tmp_path, AudioClassifier(model.eval(), Frontend(frontend), CLASSES))
    assert weights.load(tmp_path).model.config.num_frames == 160
    for name, field in (("config.json", "num_frames"), ("preprocessor_config.json", "max_length")):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace(f'"{field}": 160', f'"{field}": 96'))
    with pytest.raises(ValueError, match=rf"^{tmp_path}: test_vit3 does not take a .* 96 frames"):
        weights.load(tmp_path)
