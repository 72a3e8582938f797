"""`ast-audio predict`: any number of files, long ones by windows, in every form of output."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import load_audio
from data.audio import stream_audio
from train.inference import predict as predicting
from train.inference.predict import OwnLength, batches, predictions
from train.inference.recordings import Recordings, find_recordings


@pytest.fixture
def predict(run_command, model_folder):
    """Runs the command; its standard output and error."""

    def run(*words, model=model_folder):
        code, out, err = run_command("predict", model, *words, "--device", "cpu")
        assert code == 0, err
        return out, err

    return run


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


def test_every_recording_gets_the_classes_that_the_classifier_gives(predict, classifier, sounds):
    out, _ = predict(sounds, "--json", "--batch-size", "2")
    results = {entry["file"]: entry["classes"] for entry in json.loads(out)}
    paths = find_recordings([sounds])
    assert list(results) == [str(path) for path in paths]
    for path in paths:
        expected = classifier(load_audio(path))
        assert [entry["class"] for entry in results[str(path)]] == [name for name, _ in expected]
        probabilities = [entry["probability"] for entry in results[str(path)]]
        assert probabilities == pytest.approx([value for _, value in expected], abs=2e-6)


def test_the_table_lists_the_likeliest_classes(predict, sounds):
    out, err = predict(sounds / "a.wav", sounds / "short.wav", "--top-k", "2")
    lines = out.splitlines()
    assert [len(lines), lines[0], lines[3]] == [6, str(sounds / "a.wav"), str(sounds / "short.wav")]
    assert "note: 1 of 2 recordings are at 8000 Hz" in err


def test_a_csv_holds_a_row_a_class(predict, sounds, tmp_path):
    out, _ = predict(sounds, "--csv", tmp_path / "new" / "classes.csv")
    header, *rows = rows_of(tmp_path / "new" / "classes.csv")
    assert header == ["file", "class", "probability"]
    assert len(rows) == 4 * 3
    assert out == f"wrote {tmp_path / 'new' / 'classes.csv'}: 12 rows for 4 recordings\n"


def test_a_threshold_replaces_the_top_classes(predict, sounds):
    out, _ = predict(sounds / "a.wav", "--threshold", "0", "--top-k", "1", "--json")
    assert len(json.loads(out)[0]["classes"]) == 3
    out, _ = predict(sounds / "a.wav", "--threshold", "1")
    assert out.splitlines()[1].strip() == "no class reaches 1"


def test_a_timeline_is_that_of_the_classifier(predict, classifier, sounds, tmp_path):
    words = ["--timeline", "--hop", "0.5", "--top-k", "1", "--out", tmp_path / "out"]
    out, _ = predict(sounds, *words)
    assert out == f"wrote {tmp_path / 'out'}: a .csv and a .png for each of 4 recordings\n"
    header, *rows = rows_of(tmp_path / "out" / "long.wav.csv")
    assert header == ["start", "end", "class", "probability"]
    timeline = classifier.timeline(stream_audio(sounds / "long.wav"), 0.5)
    assert [float(row[0]) for row in rows] == pytest.approx(timeline.starts.tolist(), abs=1e-6)
    assert [float(row[1]) for row in rows] == pytest.approx(timeline.ends.tolist(), abs=1e-6)
    best = timeline.probabilities.max(1)
    assert [row[2] for row in rows] == [classifier.classes[index] for index in best.indices]
    assert [float(row[3]) for row in rows] == pytest.approx(best.values.tolist(), abs=2e-6)
    assert (tmp_path / "out" / "long.wav.png").read_bytes().startswith(b"\x89PNG")
    assert len(rows_of(tmp_path / "out" / "deeper" / "a.flac.csv")) == 2  # a clip: one window


def test_a_timeline_with_a_threshold_is_its_segments(predict, classifier, sounds):
    out, _ = predict(sounds / "long.wav", "--timeline", "--threshold", "0.4", "--json")
    expected = classifier.timeline(stream_audio(sounds / "long.wav")).segments(0.4)
    found = [tuple(entry.values()) for entry in json.loads(out)[0]["timeline"]]
    assert [row[2] for row in found] == [row[2] for row in expected]
    assert [row[0] for row in found] == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_names_that_occur_twice_do_not_overwrite_each_other(predict, sounds, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.wav").write_bytes((sounds / "a.wav").read_bytes())
    words = ["--timeline", "--json", "--out", tmp_path / "out"]
    predict(tmp_path / "x" / "a.wav", tmp_path / "x" / ".." / "y" / "a.wav", *words)
    found = sorted(str(file.relative_to(tmp_path / "out")) for file in tmp_path.rglob("*.json"))
    assert found == ["x/a.wav.json", "y/a.wav.json"]


def test_a_multi_label_model_gives_independent_probabilities(predict, classifier, sounds, tmp_path):
    parts = (classifier.model, classifier.frontend, classifier.classes, True)
    weights.save(tmp_path / "model", *parts)
    out, _ = predict(sounds / "a.wav", "--json", model=tmp_path / "model")
    found = {entry["class"]: entry["probability"] for entry in json.loads(out)[0]["classes"]}
    expected = AudioClassifier(*parts).probabilities(load_audio(sounds / "a.wav")[None])[0]
    assert [found[name] for name in classifier.classes] == pytest.approx(
        expected.tolist(), abs=2e-6
    )


def test_long_recordings_are_never_loaded_whole(predict, sounds, monkeypatch):
    def load(path, sample_rate):
        assert path.name != "long.wav"
        return load_audio(path, sample_rate)

    monkeypatch.setattr("train.inference.recordings.load_audio", load)
    predict(sounds)


def test_own_length_gives_what_the_classifier_gives_and_says_the_saving(
    predict, classifier, sounds
):
    out, said = predict(sounds, "--own-length", "--json")
    for entry in json.loads(out):
        expected = dict(classifier(load_audio(entry["file"]), own_length=True))
        for found in entry["classes"]:
            assert found["probability"] == pytest.approx(expected[found["class"]], abs=2e-6)
    assert "s for 3 clips" in said
    assert "estimated from one batch of 1 of them" in said


def test_own_length_says_when_it_saves_nothing(predict, sounds):
    _, said = predict(sounds / "long.wav", "--own-length")
    assert "nothing was saved" in said


def test_at_their_own_length_clips_of_a_batch_fill_the_same_patches(classifier, tmp_path):
    generator = np.random.default_rng(0)
    for index, samples in enumerate([2_600, 9_000, 2_700, 9_100, 4_500]):
        soundfile.write(tmp_path / f"{index}.wav", generator.normal(0, 0.1, samples), 16_000)
    recordings = Recordings(find_recordings([tmp_path]), classifier)
    options = predicting.PredictOptions("", (), own_length=True)
    names = [
        [path.stem for path in batch]
        for batch in batches(classifier, recordings, options, classifier.window_size)
    ]
    assert names == [["0", "2"], ["4"], ["1", "3"]]


def test_a_bad_file_is_named_or_left_out(run_command, model_folder, sounds, tmp_path):
    for name in ("a.wav", "long.wav"):
        (tmp_path / name).write_bytes((sounds / name).read_bytes())
    whole = (sounds / "long.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16_000)
    words = ("predict", model_folder, tmp_path, "--device", "cpu")
    code, _, err = run_command(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "cut.wav is truncated" in err
    code, out, err = run_command(*words, "--skip-unreadable", "--json")
    assert code == 0
    assert [entry["file"] for entry in json.loads(out)] == [
        str(tmp_path / "a.wav"),
        str(tmp_path / "long.wav"),
    ]
    assert "note: 2 of 4 recordings left out:" in err
    assert "short.wav lasts 6.2 ms" in err


def test_a_file_that_breaks_while_it_is_heard_is_left_out(classifier, sounds, monkeypatch):
    recordings = Recordings(find_recordings([sounds]), classifier, skip_unreadable=True)

    def breaking(path, rate):
        yield torch.zeros(16_000)
        raise ValueError(f"{path} is truncated")

    monkeypatch.setattr("train.inference.recordings.stream_audio", breaking)
    options = predicting.PredictOptions("", ())
    heard = [p.path.name for p in predictions(classifier, recordings, options, OwnLength())]
    assert "long.wav" not in heard
    assert len(heard) == 3
    assert list(recordings.failures) == [sounds / "long.wav"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--top-k", "0"], "top_k 0 is not positive"),
        (["--batch-size", "0"], "batch_size 0 is not positive"),
        (["--threshold", "1.5"], "threshold 1.5 is not a probability"),
        (["--hop", "0"], "hop 0.0 s is not positive"),
        (["--hop", "3"], "hop 3.0 s is not in"),
        (["--out", "somewhere"], "--out is for timelines"),
        (["--csv", "x.csv", "--json"], "give one of them"),
    ],
)
def test_options_out_of_range_are_one_line(run_command, model_folder, sounds, words, expected):
    code, _, err = run_command("predict", model_folder, sounds / "long.wav", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precision_is_close(predict, sounds, precision):
    exact, _ = predict(sounds / "a.wav", "--json", "--precision", "fp32")
    rough, _ = predict(sounds / "a.wav", "--json", "--precision", precision)
    first, second = (
        {entry["class"]: entry["probability"] for entry in json.loads(out)[0]["classes"]}
        for out in (exact, rough)
    )
    assert first != second
    assert first == pytest.approx(second, abs=0.1)


def test_overlapping_patches_of_a_longer_model(sounds):
    """The last window ends with the recording, and every clip up to a tenth longer is cut."""
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 1, "heads": 2, "num_frames": 460, "num_classes": 2}
    model = AST(ASTConfig(**sizes)).eval()
    classifier = AudioClassifier(model, Frontend(FrontendConfig(num_frames=460)), ("a", "b"))
    recordings = Recordings([sounds / "long.wav"], classifier)
    for timeline, windows in ((False, 1), (True, 2)):
        options = predicting.PredictOptions("", (), timeline=timeline)
        (found,) = predictions(classifier, recordings, options, OwnLength())
        assert len(found.timeline.starts) == windows
