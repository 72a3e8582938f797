"""Our side and transformers' on one waveform: agreement, and every way in which there is none."""

import importlib
import json
import shutil
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from weights.verify import FEATURES_TOLERANCE, LOGITS_TOLERANCE, verify

transformers = pytest.importorskip("transformers", reason="pip install ast-audio[hf]")

CLASSES = ("dog", "rain", "sea waves")
WAVEFORM = torch.randn(9_000, generator=torch.Generator().manual_seed(0)) / 10


@pytest.fixture
def saved(tiny, tmp_path):
    """`saved(window, hearing, **changes of the architecture)`: the folder of a model."""

    def save(window="hanning", hearing=None, **changes):
        config = FrontendConfig(64, window=window, mean=-5.0, std=3.0, **hearing or {})
        frontend = Frontend(config)
        weights.save(tmp_path / "ours", AudioClassifier(tiny(**changes), frontend, CLASSES))
        return tmp_path / "ours"

    return save


def write_theirs(folder, frames=64, dtype=torch.float32):
    """A folder that transformers wrote."""
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        max_length=frames, num_labels=3,
    )  # fmt: skip
    model = transformers.ASTForAudioClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    model.to(dtype).save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=frames).save_pretrained(folder)
    return folder


@pytest.fixture
def theirs(tmp_path):
    return write_theirs(tmp_path / "theirs")


def converted(folder):
    """A copy that went through our model."""
    ours = weights.load(folder)
    copy = folder.with_name("copy")
    weights.save(copy, ours)
    return copy


def edit(folder, change):
    """`change` the tensors of a folder, by their name on disk."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def refusal(*arguments):
    with pytest.raises(ValueError) as caught:
        verify(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_copy_agrees_with_what_transformers_wrote(theirs):
    agreement = verify(converted(theirs), WAVEFORM, theirs)
    assert agreement.same_features and agreement.holds
    assert agreement.features.absolute < FEATURES_TOLERANCE
    assert agreement.logits.relative < LOGITS_TOLERANCE / 10
    assert agreement.top_class == agreement.their_top_class


def test_a_model_of_ours_agrees_with_itself_in_transformers(saved):
    assert verify(saved(), WAVEFORM).holds


def test_one_changed_weight_of_the_copy_is_noticed(theirs):
    copy = converted(theirs)

    def change(tensors):
        tensors["classifier.dense.weight"][1, 2] += 0.01

    edit(copy, change)
    agreement = verify(copy, WAVEFORM, theirs)
    assert agreement.features.absolute < FEATURES_TOLERANCE
    assert agreement.logits.relative > LOGITS_TOLERANCE and not agreement.holds


def test_another_normalisation_of_the_copy_is_noticed(theirs):
    copy = converted(theirs)
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mean": -4.2}))
    agreement = verify(copy, WAVEFORM, theirs)
    assert agreement.features.absolute > FEATURES_TOLERANCE and not agreement.holds


def test_logits_that_are_not_numbers_never_agree(theirs):
    copy = converted(theirs)

    def change(tensors):
        tensors["classifier.dense.weight"][:] = 3e38  # finite, but not so their sums

    edit(copy, change)
    assert not verify(copy, WAVEFORM, theirs).holds


def test_behind_another_window_the_logits_of_our_features_are_compared(saved):
    agreement = verify(saved("hamming"), WAVEFORM)
    assert not agreement.same_features and agreement.missing == ("hamming window",)
    assert agreement.features.absolute > FEATURES_TOLERANCE
    assert agreement.logits.relative < LOGITS_TOLERANCE and agreement.holds


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("rate", [8_000, 32_000, 48_000])
def test_at_another_rate_transformers_has_the_same_features_with_torchaudio_only(
    saved, rate, monkeypatch
):
    folder = saved(hearing={"sample_rate": rate})
    waveform = WAVEFORM.repeat(5)[:rate]
    agreement = verify(folder, waveform)
    assert agreement.same_features and agreement.holds
    name = "models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer"
    module = importlib.import_module(f"transformers.{name}")
    for place in (module, transformers.utils):
        monkeypatch.setattr(place, "is_speech_available", lambda: False)
    agreement = verify(folder, waveform)
    assert agreement.missing == (f"rate of {rate} Hz without torchaudio",)
    assert agreement.features.absolute > 100 * FEATURES_TOLERANCE and agreement.holds


def test_behind_other_mel_edges_the_logits_of_our_features_are_compared(saved):
    hearing = {"sample_rate": 32_000, "low_freq": 50.0, "high_freq": 14e3}
    agreement = verify(saved(hearing=hearing), WAVEFORM.repeat(3))
    assert agreement.missing == ("lower mel edge of 50 Hz", "upper mel edge of 14000 Hz")
    assert agreement.features.absolute > FEATURES_TOLERANCE and agreement.holds


def test_the_top_classes_are_named_by_the_folder_each_side_reads(theirs):
    ours = weights.load(theirs)
    copy = theirs.with_name("copy")
    weights.save(copy, AudioClassifier(ours.model, ours.frontend, CLASSES))
    agreement = verify(copy, WAVEFORM, theirs)
    index = CLASSES.index(agreement.top_class)
    assert agreement.their_top_class == f"LABEL_{index}"


def test_half_precision_is_compared_in_float32(tmp_path):
    theirs = write_theirs(tmp_path / "theirs", dtype=torch.float16)
    assert verify(converted(theirs), WAVEFORM, theirs).holds


def test_without_an_extractor_of_theirs_ours_is_read(theirs):
    (theirs / "preprocessor_config.json").unlink()
    assert verify(converted(theirs), WAVEFORM, theirs).holds


def test_transformers_says_nothing_and_speaks_again_afterwards(theirs, capfd):
    copy = converted(theirs)
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify(copy, WAVEFORM, theirs)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == logging.WARNING and logging.is_progress_bar_enabled()
    logging.set_verbosity(level)


@pytest.mark.parametrize("changes", [{"distilled": False}, {"pooling": "patches"}])
def test_a_model_that_transformers_cannot_be_is_refused(saved, changes):
    assert "cannot be compared with transformers" in refusal(saved(**changes), WAVEFORM)


def test_without_transformers_the_remedy_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    assert refusal(saved(), WAVEFORM).endswith("run: pip install 'ast-audio[hf]'")


def test_weights_that_transformers_would_make_up_are_refused(theirs):
    copy = converted(theirs)
    edit(theirs, lambda tensors: tensors.pop("classifier.dense.bias"))
    message = refusal(copy, WAVEFORM, theirs)
    assert "missing_keys: classifier.dense.bias" in message and str(theirs) in message


def test_a_reference_of_another_length_is_refused(theirs, tmp_path):
    message = refusal(theirs, WAVEFORM, write_theirs(tmp_path / "longer", frames=80))
    assert "features have the shape (1, 64, 128) here and (1, 80, 128) in transformers" in message


def test_a_folder_that_is_gone_is_named(saved, theirs):
    shutil.rmtree(theirs)
    assert str(theirs) in refusal(saved(), WAVEFORM, theirs)
    with pytest.raises(FileNotFoundError, match="gone"):
        verify(theirs.with_name("gone"), WAVEFORM)
