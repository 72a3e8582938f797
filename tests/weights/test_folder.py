"""Saved models: round trip, transformers as the judge, damage."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from weights.folder import write_folder

CLASSES = ("dog", "rain", "sea waves")


def randomised(model):
    """Norms and biases too, which start out all alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def tiny(multi_label=False, **changes):
    sizes = {"num_classes": 3, "num_frames": 64, "width": 24, "heads": 3, "depth": 2}
    model = randomised(AST(ASTConfig(**sizes | changes)).eval())
    front_end = FrontendConfig(
        num_frames=64,
        mean=-5.0,
        std=3.0,
        sample_rate=32_000,
        padding="silence",
        padded_share=0.25,
        low_freq=50.0,
        high_freq=14e3,
    )
    return AudioClassifier(model, Frontend(front_end), CLASSES, multi_label)


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
    classifier = tiny(multi_label=True, **changes)
    classifier.save_pretrained(tmp_path / "model")
    loaded = AudioClassifier.from_pretrained(tmp_path / "model")
    assert loaded.model.config == classifier.model.config
    assert loaded.frontend.config == classifier.frontend.config
    assert loaded.classes == CLASSES
    assert loaded.multi_label
    for (name, ours), theirs in zip(
        classifier.model.state_dict().items(), loaded.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_folder_of_an_earlier_version_hears_from_20_hz_to_the_nyquist_frequency(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "preprocessor_config.json"
    content = json.loads(file.read_text())
    del content["low_freq"], content["high_freq"]
    file.write_text(json.dumps(content))
    assert AudioClassifier.from_pretrained(tmp_path / "model").frontend.config.band == (20, 16_000)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sampling_rate", 96_000, "sampling_rate 96000 is not an integer from 8,000 to 48,000"),
        ("high_freq", 17e3, "low_freq 50 and high_freq 17000 Hz do not fit sampling_rate 32000"),
        ("low_freq", 14e3, "low_freq 14000 and high_freq 14000 Hz do not fit"),
        ("low_freq", "50", "low_freq '50' is not a number in"),
    ],
)
def test_a_folder_with_a_rate_or_mel_edge_that_cannot_be_is_refused(tmp_path, key, value, message):
    tiny().save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message) as caught:
        AudioClassifier.from_pretrained(tmp_path / "model")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_transformers_loads_it_and_computes_the_same(tmp_path):
    transformers = pytest.importorskip("transformers")
    classifier = tiny(head_layer_norm_eps=1e-6)
    weights.save(tmp_path, classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs, report = transformers.ASTForAudioClassification.from_pretrained(
            tmp_path, output_loading_info=True, attn_implementation="sdpa"
        )
    assert not any(report.values()), report
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    fbank = torch.randn(2, 64, 128)
    with torch.no_grad():
        ours, reference = classifier.model(fbank), theirs.eval()(fbank).logits
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
    config = ours.frontend.config
    assert (config.window, config.sample_rate, config.band) == ("hanning", 16_000, (20, 8_000))
    fbank = torch.randn(2, 64, 128)
    with torch.no_grad():
        assert torch.allclose(ours.model(fbank), theirs(fbank).logits, rtol=1e-5, atol=1e-6)


def test_a_model_that_transformers_cannot_run_names_its_own_architecture(tmp_path):
    weights.save(tmp_path, tiny(distilled=False))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["AST"]


@pytest.mark.parametrize(
    ("changes", "window", "expected"),
    [
        ({}, "hanning", None),
        ({}, "hamming", "runs this model, but its ASTFeatureExtractor has no hamming window"),
        ({"distilled": False}, "hanning", "cannot run this model, which has no DIST token;"),
        ({"pooling": "patches"}, "hanning", "which has a head on the mean of the patch tokens;"),
        ({"patch": (128, 2)}, "hanning", "which has patches of 128 x 2;"),
        (
            {"patch": (128, 2), "distilled": False, "pooling": "patches"},
            "hamming",
            "patches of 128 x 2 and no DIST token and a head on the mean of the patch tokens;",
        ),
    ],
)
def test_saving_says_what_transformers_cannot_do_with_the_model(
    tmp_path, caplog, changes, window, expected
):
    saved = tiny(**changes)
    saved = AudioClassifier(saved.model, Frontend(FrontendConfig(64, window=window)), saved.classes)
    saved.save_pretrained(tmp_path / "model")
    assert len(caplog.messages) == (expected is not None)
    if expected:
        assert caplog.messages[0].startswith(f"{tmp_path / 'model'}: transformers ")
        assert expected in caplog.messages[0]
    caplog.clear()
    write_folder(tmp_path / "model", saved)  # as a training run does, after every epoch
    assert not caplog.messages


@pytest.mark.parametrize(
    ("frontend", "expected"),
    [
        (
            {"low_freq": 50.0},
            "has no lower mel edge of 50 Hz, so its features differ: give its model those of "
            "classifier.frontend",
        ),
        (
            {"sample_rate": 32_000, "high_freq": 14e3, "window": "hamming"},
            "has no hamming window and no upper mel edge of 14000 Hz, so its features differ: give "
            "its model those of classifier.frontend",
        ),
        ({"sample_rate": 8_000}, "needs torchaudio for 8000 Hz: install it beside"),
        ({"sample_rate": 16_000, "high_freq": 8e3}, None),
        (
            {"sample_rate": 32_000, "padding": "silence"},
            "needs torchaudio for 32000 Hz: install it beside, and pads short clips otherwise: "
            "give it waveforms padded with zeros to 20960 samples",
        ),
    ],
)
def test_saving_says_what_their_extractor_lacks_of_the_front_end(
    tmp_path, caplog, frontend, expected
):
    saved = tiny()
    frontend = Frontend(FrontendConfig(64, **{"window": "hanning"} | frontend))
    AudioClassifier(saved.model, frontend, CLASSES).save_pretrained(tmp_path / "model")
    prefix = f"{tmp_path / 'model'}: transformers runs this model, but its ASTFeatureExtractor "
    assert caplog.messages == ([f"{prefix}{expected}"] if expected else [])


def test_saving_over_a_model_replaces_it_and_leaves_nothing_else(tmp_path):
    weights.save(tmp_path / "last", tiny())
    weights.save(tmp_path / "last", tiny(distilled=False))
    assert not weights.load(tmp_path / "last").model.config.distilled
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_model_card_stays_until_there_is_another_one(tmp_path):
    weights.save(tmp_path, tiny(), "# mine\n")
    weights.save(tmp_path, tiny(distilled=False))
    assert (tmp_path / "README.md").read_text() == "# mine\n"
    weights.save(tmp_path, tiny(), "# new\n")
    assert (tmp_path / "README.md").read_text() == "# new\n"


@pytest.mark.parametrize(
    "files",
    [
        ["main.py", "notes.txt"],
        ["config.json"],  # of some other program
        ["README.md"],
        ["model.safetensors"],
    ],
)
def test_a_folder_of_other_things_is_refused_and_keeps_them(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"something else than a model .{files[0]}.*new folder"):
        weights.save(tmp_path, tiny())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("name", ["notes.txt", "state"])
def test_a_model_folder_with_something_of_the_users_is_refused(tmp_path, name):
    weights.save(tmp_path, tiny())
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"something else than a model .{name}."):
        tiny().save_pretrained(tmp_path)
    assert (tmp_path / name).is_dir()


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="model is a file; give a folder"):
        weights.save(tmp_path / "model", tiny())
    assert (tmp_path / "model").read_text() == "mine"


def test_saving_through_a_link_writes_where_it_points(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    weights.save(tmp_path / "link", tiny())
    assert (tmp_path / "link").is_symlink()
    assert weights.load(tmp_path / "there").classes == CLASSES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_names_that_a_foreign_folder_has_twice_are_made_distinct(tmp_path, caplog):
    weights.save(tmp_path, tiny())
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["id2label"] = {"0": "dog", "1": "dog", "2": "dog (1)"}
    file.write_text(json.dumps(config))
    assert weights.load(tmp_path).classes == ("dog", "dog (1)", "dog (1) (2)")
    assert f"{tmp_path}: class 1 has the name of another one" in caplog.text


def test_full_disk_keeps_the_old_model(tmp_path, monkeypatch):
    classifier = tiny()
    weights.save(tmp_path / "last", classifier)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"could not write .*last: No space left on device; free"):
        weights.save(tmp_path / "last", tiny(distilled=False))
    assert weights.load(tmp_path / "last").model.config == classifier.model.config
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a model folder: config.json is missing"):
        weights.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_configuration_is_named(tmp_path, name, content):
    weights.save(tmp_path, tiny())
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        weights.load(tmp_path)


def test_every_deviating_key_or_shape_is_an_error(tmp_path):
    weights.save(tmp_path, tiny())
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
