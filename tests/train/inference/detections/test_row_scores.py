"""Scores of soundscapes against a table of their rows."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from tests.birdclef_layout import TONES, write_sound
from train.inference.detections import score_rows, submit

SPECIES = tuple(TONES)


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory):
    """Two, of three rows each; the last of `b` is short."""
    folder = tmp_path_factory.mktemp("soundscapes")
    write_sound(folder / "a.ogg", 1_000.0, 15.0, seed=1)
    write_sound(folder / "b.ogg", 4_000.0, 12.0, seed=2)
    return folder


LABELS = {
    "a_5": "amecro barswa",
    "a_10": "nocall",
    "a_15": "amecro",
    "b_5": "barswa",
    "b_15": "",
}


def write_labels(file, labels=LABELS):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("row_id", "site", "birds")])
        csv.writer(opened).writerows((name, "COL", birds) for name, birds in labels.items())
    return file


@pytest.mark.precision
def test_the_scores_are_those_of_the_submission(birds, soundscapes, tmp_path):
    found = score_rows(birds[1], soundscapes, write_labels(tmp_path / "l.csv"), device="cpu")
    assert (found.soundscapes, found.rows) == (2, 5)
    submit(birds[1], soundscapes, tmp_path / "s.csv", device="cpu")
    with (tmp_path / "s.csv").open(newline="") as opened:
        submission = {row["row_id"]: row for row in csv.DictReader(opened)}
    scores = np.array([[float(submission[name][bird]) for bird in SPECIES] for name in LABELS])
    targets = np.array([[bird in names.split() for bird in SPECIES] for names in LABELS.values()])
    ones = np.ones((5, 3))
    padded = np.concatenate([targets, ones]), np.concatenate([scores, ones])
    assert found.scores["padded_cmAP"] == pytest.approx(average_precision_score(*padded), abs=1e-5)
    present = targets.any(axis=0)
    expected = f1_score(
        targets[:, present], scores[:, present] > 0.5, average="macro", zero_division=0
    )
    assert found.scores["f1"] == pytest.approx(expected)
    assert [row[:2] for row in found.per_class] == [("amecro", 2), ("barswa", 2), ("comrav", 0)]
    areas = [average_precision_score(targets[:, c], scores[:, c]) for c in (0, 1)]
    assert [row[2] for row in found.per_class] == pytest.approx([*areas, None])


def test_the_command_writes_scores_and_a_row_a_class(run_command, birds, soundscapes, tmp_path):
    labels = write_labels(tmp_path / "l.csv")
    words = ("evaluate", birds[1], "--data", soundscapes, "--row-labels", labels)
    code, out, err = run_command(*words, "--device", "cpu", "--out", tmp_path / "report")
    assert code == 0, err
    assert "5 rows of 2 soundscapes\n" in out
    content = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert f"padded_cmAP {content['padded_cmAP']:.4f}" in out
    header, *rows = (tmp_path / "report" / "per_class.csv").read_text().splitlines()
    assert header.startswith("class,clips,average_precision")
    assert [row.split(",")[0] for row in rows] == list(SPECIES)
    for option in (
        *(("--fold", "1"), ("--split", "all"), ("--no-pad",), ("--joined", "1")),
        *(("--workers", "2"), ("--cache", str(tmp_path))),
    ):
        code, _, err = run_command(*words, *option)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"leave out {option[0]}" in err


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"a_20": "amecro"},
            r"line 2: the row 'a_20' lies beyond the end of .*a\.ogg, which lasts",
        ),
        ({"a_5": "dodo"}, "line 2: the model has no class 'dodo'"),
        ({"c_5": "amecro"}, "line 2: there is no soundscape 'c' in"),
        ({"a_7": "amecro"}, "line 2: row_id 'a_7': expected the soundscape's name, _ and"),
        ({"a_05": "amecro"}, "line 2: row_id 'a_05': expected"),
        ({"a_0": "amecro"}, "line 2: row_id 'a_0': expected"),
        ({"5": "amecro"}, "line 2: row_id '5': expected"),
        ({}, "labels no rows"),
        ({"a_5": "nocall"}, "no clip has a class"),
    ],
)
def test_labels_that_fit_no_row_are_one_line(birds, soundscapes, tmp_path, labels, message):
    table = write_labels(tmp_path / "l.csv", labels)
    with pytest.raises(ValueError, match=message) as caught:
        score_rows(birds[1], soundscapes, table, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_or_names_a_row_twice_is_one_line(birds, soundscapes, tmp_path):
    with pytest.raises(FileNotFoundError, match="the columns row_id and birds"):
        score_rows(birds[1], soundscapes, tmp_path / "none.csv", device="cpu")
    table = write_labels(tmp_path / "l.csv", {"a_5": "amecro"})
    with table.open("a") as file:
        file.write("a_5,COL,barswa\n")
    with pytest.raises(ValueError, match="line 3: row_id 'a_5' is listed already"):
        score_rows(birds[1], soundscapes, table, device="cpu")
