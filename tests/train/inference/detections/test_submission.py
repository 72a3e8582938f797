"""Submissions to BirdCLEF: rows of five seconds to the end of every soundscape."""

import csv

import numpy as np
import pytest
import soundfile
import torch

from data import load_audio
from tests.birdclef_layout import RATE, TONES, write_sound
from train.inference.detections import submit
from train.inference.predict import Predictor
from train.inference.rows import row_timeline, rows_of
from train.shards import Shard

SPECIES = tuple(TONES)
OPTIONS = {"batch_size": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory):
    """Three: of whole rows, with a shorter last row, and one that is a short row alone."""
    folder = tmp_path_factory.mktemp("soundscapes")
    for number, (name, seconds) in enumerate([("a", 15.0), ("b", 12.3), ("c", 1.0)]):
        write_sound(folder / f"soundscape_{name}.ogg", 1_000.0 * (number + 1), seconds, number)
    return folder


def table(file):
    with file.open(newline="") as opened:
        header, *rows = csv.reader(opened)
    return header, {row[0]: [float(cell) for cell in row[1:]] for row in rows}


@pytest.mark.precision
def test_every_row_has_the_probabilities_that_its_five_seconds_have_alone(
    birds, soundscapes, tmp_path
):
    classifier, folder = birds
    together = OPTIONS | {"batch_size": 3}  # the short last row in a batch of whole ones
    written = submit(folder, soundscapes, tmp_path / "submission.csv", **together)
    header, rows = table(tmp_path / "submission.csv")
    assert header == ["row_id", *SPECIES]
    ends = {"a": (5, 10, 15), "b": (5, 10, 15), "c": (5,)}
    assert list(rows) == [f"soundscape_{name}_{end}" for name in ends for end in ends[name]]
    assert (written.rows, written.recordings) == (7, 3)
    for name, seconds in ends.items():
        waveform = load_audio(soundscapes / f"soundscape_{name}.ogg", RATE)
        for end in seconds:
            row = waveform[RATE * (end - 5) : RATE * end]
            alone = classifier.probabilities(row[None], torch.tensor([len(row)]))[0]
            assert rows[f"soundscape_{name}_{end}"] == pytest.approx(alone.tolist(), abs=1e-4)


def test_rows_are_the_same_however_a_recording_comes_in_blocks():
    waveform = torch.arange(1_234.0)
    for size in (1, 7, 100, 250, 1_234, 5_000):
        rows = list(rows_of(waveform.split(size), 100, least=20))
        assert [len(row) for row in rows] == [100] * 12 + [34]
        assert torch.equal(torch.cat(rows), waveform)
    assert [len(row) for row in rows_of([waveform[:119]], 100, least=20)] == [100]


def test_rows_are_made_as_they_are_asked_for():
    """However long a soundscape is, one row and one block are held."""
    taken = []

    def blocks():
        for number in range(1_000):
            taken.append(number)
            yield torch.zeros(60)

    rows = rows_of(blocks(), 100, least=20)
    for number in range(1, 20):
        next(rows)
        assert len(taken) <= (100 * number) // 60 + 1


def test_shards_and_a_second_call_give_the_same_file(birds, soundscapes, tmp_path, monkeypatch):
    folder = birds[1]
    submit(folder, soundscapes, tmp_path / "whole.csv", **OPTIONS)
    out = tmp_path / "submission.csv"
    for number in (1, 2):
        submit(folder, soundscapes, out, shard=Shard(number, 2), **OPTIONS)
    monkeypatch.setattr(Predictor, "_windows", None)  # nothing is heard again
    submit(folder, soundscapes, out, **OPTIONS)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_list_of_classes_makes_the_columns(birds, soundscapes, tmp_path):
    submit(birds[1], soundscapes, tmp_path / "s.csv", classes=["comrav"], **OPTIONS)
    assert table(tmp_path / "s.csv")[0] == ["row_id", "comrav"]
    with pytest.raises(ValueError, match="the model has no class 'dodo'"):
        submit(birds[1], soundscapes, tmp_path / "t.csv", classes=["dodo"], **OPTIONS)


def test_what_cannot_be_submitted_is_one_line(birds, model_folder, soundscapes, tmp_path):
    with pytest.raises(ValueError, match=r"hears 0\.72 s at most at once, and a row lasts 5 s"):
        submit(model_folder, soundscapes, tmp_path / "s.csv", device="cpu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        submit(birds[1], tmp_path / "none", tmp_path / "s.csv", device="cpu")
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        soundfile.write(tmp_path / place / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="would have one name, a_5 …; rename one"):
        submit(birds[1], [tmp_path / "x", tmp_path / "y"], tmp_path / "s.csv", device="cpu")
    classifier = birds[0]
    with pytest.raises(ValueError, match=r"a\.wav is too short for a row"):
        row_timeline(classifier, tmp_path / "a.wav", [torch.zeros(100)], batch_size=1)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    "words",
    [("--threshold", "0.5"), ("--hop", "1"), ("--top-k", "2"), ("--timeline",), ("--no-pad",)],
)
def test_the_command_refuses_what_a_submission_has_no_use_for(
    run_command, birds, soundscapes, tmp_path, words
):
    form = ("--format", "birdclef", "--out", tmp_path / "s.csv")
    code, _, err = run_command("predict", birds[1], soundscapes, *form, *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"leave out {words[0]}" in err


def test_the_command_writes_the_submission(run_command, birds, soundscapes, tmp_path):
    form = ("--format", "birdclef", "--out", tmp_path / "s.csv")
    code, out, err = run_command("predict", birds[1], soundscapes, *form, "--device", "cpu")
    assert code == 0, err
    assert f"wrote {tmp_path / 's.csv'}: 7 rows of 3 recordings" in out
    assert len(table(tmp_path / "s.csv")[1]) == 7
