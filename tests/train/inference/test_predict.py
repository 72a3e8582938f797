"""`predict` and its command: any number of files, long ones by windows, every form of output."""

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
from train.buckets import own_frames
from train.inference import predict
from train.inference.predict import Predictor
from train.inference.recordings import Recordings, find_recordings


@pytest.fixture
def command(run_command, model_folder):
    """Runs the command; its standard output and error."""

    def run(*words):
        code, out, err = run_command("predict", model_folder, *words, "--device", "cpu")
        assert code == 0, err
        return out, err

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("train.cli.predict.timeline_figure", lambda *_: None)
    monkeypatch.setattr("train.cli.predict.save_figure", lambda *_: None)


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


@pytest.mark.precision
def test_every_recording_gets_the_classes_that_the_classifier_gives(
    model_folder, classifier, sounds
):
    found = {each.path: each for each in predict(model_folder, [sounds], batch_size=2)}
    assert found.keys() == set(find_recordings([sounds]))
    for path, each in found.items():
        top = each.timeline.top()
        expected = classifier.classify(path)
        assert [name for name, _ in top] == [name for name, _ in expected]
        assert [p for _, p in top] == pytest.approx([p for _, p in expected], abs=1e-6)
        assert each.spectrogram is None
    assert len(found[sounds / "a.wav"].timeline.starts) == 1
    assert len(found[sounds / "long.wav"].timeline.starts) > 10


@pytest.mark.precision
def test_the_command_prints_what_the_function_gives(command, model_folder, sounds):
    results = json.loads(command(sounds, "--json")[0])
    assert [entry["file"] for entry in results] == [str(p) for p in find_recordings([sounds])]
    expected = {str(p.path): p.timeline.top() for p in predict(model_folder, [sounds])}
    for entry in results:
        printed = [(each["class"], each["probability"]) for each in entry["classes"]]
        assert printed == [(name, round(p, 6)) for name, p in expected[entry["file"]]]


def test_the_caller_computes_in_its_own_precision_between_two_predictions(model_folder, sounds):
    for _ in predict(model_folder, [sounds], precision="bf16", device="cpu"):
        assert not torch.is_autocast_enabled("cpu")


def test_the_table_lists_the_likeliest_classes(command, sounds):
    out, err = command(sounds / "a.wav", sounds / "short.wav", "--top-k", "2")
    lines = out.splitlines()[2:-2]  # without what runs, how fast it was, and the other rate
    assert [len(lines), lines[0], lines[3]] == [6, str(sounds / "short.wav"), str(sounds / "a.wav")]
    assert "note: 1 of 2 recordings are at 8000 Hz" in err


def test_what_was_heard_before_a_fault_is_printed(run_command, model_folder, sounds, monkeypatch):
    def breaking(path, rate):
        raise ValueError(f"{path} is truncated")

    monkeypatch.setattr("train.inference.recordings.stream_audio", breaking)
    code, out, err = run_command("predict", model_folder, sounds, "--device", "cpu")
    assert (code, "long.wav is truncated" in err) == (2, True)
    assert len([line for line in out.splitlines() if line.startswith(str(sounds))]) == 3


def test_a_csv_is_begun_before_the_last_recording_is_heard(command, sounds, tmp_path, monkeypatch):
    begun = []

    def looking(path, rate):
        begun.extend(file.name for file in tmp_path.iterdir())
        yield from stream_audio(path, rate)

    monkeypatch.setattr("train.inference.recordings.stream_audio", looking)
    command(sounds, "--csv", tmp_path / "classes.csv")
    assert [name.endswith("classes.csv") for name in begun] == [True]
    assert [file.name for file in tmp_path.iterdir()] == ["classes.csv"]


def test_a_csv_holds_a_row_a_class(command, sounds, tmp_path):
    out, _ = command(sounds, "--csv", tmp_path / "new" / "classes.csv")
    header, *rows = rows_of(tmp_path / "new" / "classes.csv")
    assert header == ["file", "class", "probability"]
    assert len(rows) == 4 * 3
    assert out.endswith(f"wrote {tmp_path / 'new' / 'classes.csv'}: 12 rows for 4 recordings\n")


def test_a_threshold_replaces_the_top_classes(command, sounds):
    out, _ = command(sounds / "a.wav", "--threshold", "0", "--top-k", "1", "--json")
    assert len(json.loads(out)[0]["classes"]) == 3
    out, _ = command(sounds / "a.wav", "--threshold", "1")
    assert out.splitlines()[3].strip() == "no class reaches 1"


def test_a_timeline_is_that_of_the_classifier(command, classifier, sounds, tmp_path, no_pictures):
    words = ["--timeline", "--hop", "0.5", "--top-k", "1", "--out", tmp_path / "out"]
    out, _ = command(sounds, *words)
    assert out.endswith(f"wrote {tmp_path / 'out'}: a .csv and a .png for each of 4 recordings\n")
    header, *rows = rows_of(tmp_path / "out" / "long.wav.csv")
    assert header == ["start", "end", "class", "probability"]
    timeline = classifier.timeline(stream_audio(sounds / "long.wav"), hop=0.5)
    assert [float(row[0]) for row in rows] == pytest.approx(timeline.starts.tolist(), abs=1e-6)
    assert [float(row[1]) for row in rows] == pytest.approx(timeline.ends.tolist(), abs=1e-6)
    best = timeline.probabilities.max(1)
    assert [row[2] for row in rows] == [classifier.classes[index] for index in best.indices]
    assert [float(row[3]) for row in rows] == pytest.approx(best.values.tolist(), abs=2e-6)
    assert len(rows_of(tmp_path / "out" / "deeper" / "a.flac.csv")) == 2  # a clip: one window


def test_a_timeline_is_drawn(command, sounds, tmp_path):
    command(sounds / "long.wav", "--timeline", "--out", tmp_path)
    assert (tmp_path / "long.wav.png").read_bytes().startswith(b"\x89PNG")


def test_a_timeline_with_a_threshold_is_its_segments(command, classifier, sounds):
    out, _ = command(sounds / "long.wav", "--timeline", "--threshold", "0.4", "--json")
    expected = classifier.timeline(stream_audio(sounds / "long.wav")).segments(0.4)
    found = [tuple(entry.values()) for entry in json.loads(out)[0]["timeline"]]
    assert [row[2] for row in found] == [row[2] for row in expected]
    assert [row[0] for row in found] == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_names_that_occur_twice_do_not_overwrite_each_other(command, sounds, tmp_path, no_pictures):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.wav").write_bytes((sounds / "a.wav").read_bytes())
    words = ["--timeline", "--json", "--out", tmp_path / "out"]
    command(tmp_path / "x" / "a.wav", tmp_path / "x" / ".." / "y" / "a.wav", *words)
    found = sorted(str(file.relative_to(tmp_path / "out")) for file in tmp_path.rglob("*.json"))
    assert found == ["x/a.wav.json", "y/a.wav.json"]


def test_a_multi_label_model_gives_independent_probabilities(classifier, sounds, tmp_path):
    parts = (classifier.model, classifier.frontend, classifier.classes)
    independent = AudioClassifier(*parts, multi_label=True)
    weights.save(tmp_path / "model", independent)
    (found,) = predict(tmp_path / "model", [sounds / "a.wav"], device="cpu")
    expected = independent.probabilities(load_audio(sounds / "a.wav")[None])
    assert torch.allclose(found.timeline.probabilities, expected, atol=1e-6)


def test_long_recordings_are_never_loaded_whole(model_folder, sounds, monkeypatch):
    def load(path, sample_rate):
        assert path.name != "long.wav"
        return load_audio(path, sample_rate)

    monkeypatch.setattr("train.inference.recordings.load_audio", load)
    assert len(list(predict(model_folder, [sounds], device="cpu"))) == 4


def test_without_padding_clips_score_as_alone_and_it_is_said_what_that_saves(
    command, classifier, sounds
):
    out, said = command(sounds, "--no-pad", "--json")
    for entry in json.loads(out):
        expected = dict(classifier.classify(entry["file"], pad=False))
        for found in entry["classes"]:
            assert found["probability"] == pytest.approx(expected[found["class"]], abs=2e-6)
    assert "s for 3 recordings" in said
    assert "estimated from one batch of 1 of them" in said
    out, _ = command(sounds / "long.wav", "--no-pad")
    assert "no time was saved" in out


def test_without_padding_clips_of_a_batch_fill_the_same_patches(classifier, tmp_path):
    generator = np.random.default_rng(0)
    for index, samples in enumerate([2_600, 9_000, 2_700, 9_100, 4_500]):
        soundfile.write(tmp_path / f"{index}.wav", generator.normal(0, 0.1, samples), 16_000)
    recordings = Recordings(find_recordings([tmp_path]), classifier)
    frames = own_frames("it", classifier.model, classifier.frontend)
    batches = Predictor(classifier, recordings, frames=frames).batches(recordings.seconds)
    names = [[path.stem for path in batch] for batch in batches]
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


def test_a_file_that_breaks_while_it_is_heard_is_left_out(
    model_folder, sounds, monkeypatch, caplog
):
    def breaking(path, rate):
        yield torch.zeros(16_000)
        raise ValueError(f"{path} is truncated")

    monkeypatch.setattr("train.inference.recordings.stream_audio", breaking)
    heard = [p.path.name for p in predict(model_folder, [sounds], skip_unreadable=True)]
    assert "long.wav" not in heard
    assert len(heard) == 3
    assert "1 of 4 recordings left out:\n" in caplog.text


def test_arguments_are_checked_before_the_first_prediction_is_asked_for(model_folder, sounds):
    with pytest.raises(ValueError, match="batch_size 0 is not positive"):
        predict(model_folder, [sounds], batch_size=0)
    with pytest.raises(FileNotFoundError, match="none"):
        predict(model_folder, [sounds / "none"])
    with pytest.raises(ValueError, match=r"hop 3 s is not in \(0, 0.655\] s"):
        predict(model_folder, [sounds / "short.wav"], hop=3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--top-k", "0"], "--top-k: 0 is too small"),
        (["--batch-size", "0"], "--batch-size: 0 is too small"),
        (["--threshold", "1.5"], "--threshold 1.5 is not a probability"),
        (["--hop", "0"], "hop 0.0 s is not in"),
        (["--hop", "3"], "hop 3.0 s is not in"),
        (["--out", "somewhere"], "--out is for timelines"),
        (["--csv", "x.csv", "--json"], "give one of them"),
    ],
)
def test_options_out_of_range_are_one_line(run_command, model_folder, sounds, words, expected):
    code, _, err = run_command("predict", model_folder, sounds / "long.wav", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


@pytest.mark.precision
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precision_is_close(model_folder, sounds, precision):
    exact, rough = (
        next(predict(model_folder, [sounds / "a.wav"], precision=name, device="cpu"))
        for name in ("fp32", precision)
    )
    assert not torch.equal(exact.timeline.probabilities, rough.timeline.probabilities)
    assert torch.allclose(exact.timeline.probabilities, rough.timeline.probabilities, atol=0.1)


def test_a_little_longer_than_the_model_is_cut_but_not_in_a_timeline(sounds):
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 1, "heads": 2, "num_frames": 460, "num_classes": 2}
    model = AST(ASTConfig(**sizes)).eval()
    classifier = AudioClassifier(model, Frontend(FrontendConfig(num_frames=460)), ("a", "b"))
    recordings = Recordings([sounds / "long.wav"], classifier)
    for timeline, windows in ((False, 1), (True, 2)):
        (found,) = Predictor(classifier, recordings, timeline).predictions()
        assert len(found.timeline.starts) == windows


def test_a_name_that_is_not_utf8_is_heard_and_written_in_every_form(command, tmp_path, sounds):
    path, out = tmp_path / "sounds" / "\udcff.wav", tmp_path / "out"
    path.parent.mkdir()
    path.write_bytes((sounds / "a.wav").read_bytes())
    text, _ = command(path.parent)
    assert f"{path.parent}/\\udcff.wav" in text
    assert json.loads(command(path, "--json")[0])[0]["file"] == str(path)
    command(path, "--csv", tmp_path / "a.csv")
    assert b"/\xff.wav,dog" in (tmp_path / "a.csv").read_bytes()
    for more in ((), ("--json",)):
        command(path, "--timeline", "--out", out, *more)
    assert {each.name for each in out.iterdir()} == {
        f"\udcff.wav.{form}" for form in ("csv", "json", "png")
    }
