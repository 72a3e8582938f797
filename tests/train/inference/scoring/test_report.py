"""The report of an evaluation: its tables agree with the scores and with each other."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data import Clip, Manifest
from train.inference import evaluate
from train.inference.scoring.evaluate import Evaluation
from train.inference.scoring.report import per_class, summary, worst, write_report
from train.inference.scoring.selection import Selection
from train.metrics import evaluate_scores, to_probabilities


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def evaluation(multi_label, sigmoid, clips=40, classes=4):
    """Random logits; class 3 has no clips."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (clips, classes)).astype(np.float32)
    targets = np.zeros((clips, classes), np.float32)
    targets[np.arange(clips), generator.integers(0, classes - 1, clips)] = 1
    if multi_label:
        targets[generator.random((clips, classes)) < 0.2] = 1
        targets[:, 3] = 0
    chosen = tuple(
        Clip(Path(f"{index}.wav"), tuple(np.flatnonzero(row).tolist()))
        for index, row in enumerate(targets)
    )
    manifest = Manifest("made", chosen, ("a", "b", "c", "d"), multi_label)
    selection = Selection("table", manifest, chosen, "all clips")
    return Evaluation(
        model="made",
        selection=selection,
        logits=torch.from_numpy(logits),
        targets=torch.from_numpy(targets),
        sigmoid=sigmoid,
        probabilities=to_probabilities(torch.from_numpy(logits), multi_label),
        scores=evaluate_scores(logits, targets, multi_label, sigmoid),
    )


@pytest.mark.parametrize(("multi_label", "sigmoid"), [(False, False), (False, True), (True, True)])
def test_scores_are_the_means_of_the_classes(multi_label, sigmoid):
    made = evaluation(multi_label, sigmoid)
    rows = per_class(made)
    assert [row[:2] for row in rows] == [
        (name, int(count)) for name, count in zip("abcd", made.targets.sum(0), strict=True)
    ]
    assert rows[3][2:] == (None, None, None, None)
    for column, name in enumerate(("mAP", "precision", "recall", "f1"), start=2):
        mean = np.mean([row[column] for row in rows[:3]])
        assert mean == pytest.approx(made.scores[name]), name


def test_the_worst_are_the_most_confident_mistakes():
    made = evaluation(False, False)
    rows = worst(made)
    wrong = (made.predicted != made.targets.argmax(1)).sum()
    assert len(rows) == wrong > 5
    assert rows == sorted(rows, key=lambda row: -row[3])
    clip, target, predicted, probability = rows[0]
    index = int(clip.removesuffix(".wav"))
    assert target == "abcd"[made.targets[index].argmax()]
    assert predicted == "abcd"[made.logits[index].argmax()]
    assert probability == pytest.approx(float(made.logits[index].softmax(0).max()))


def test_several_labels_have_no_confusion_matrix(tmp_path):
    write_report(evaluation(True, True), tmp_path)
    assert (tmp_path / "per_class.csv").is_file()
    assert not list(tmp_path.glob("confusion*"))
    (first, *_) = rows_of(tmp_path / "predictions.csv")
    logits = evaluation(True, True).logits[0]
    assert float(first["a"]) == pytest.approx(float(logits[0].sigmoid()), abs=1e-6)


@pytest.fixture(scope="module")
def scored(run_folder, corpus_folder):
    """The run on the fold that it validated on."""
    return evaluate(run_folder, corpus_folder, device="cpu", vectors=True)


@pytest.fixture(scope="module")
def report(scored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(scored, folder)
    return folder


def test_the_tables_agree(report, run_folder, scored):
    assert json.loads((report / "scores.json").read_text()) == summary(scored)
    assert (report / "predictions.csv").read_text() == (run_folder / "predictions.csv").read_text()
    scores = json.loads((report / "scores.json").read_text())
    matrix = rows_of(report / "confusion.csv")
    hits = sum(int(row[row["target"]]) for row in matrix)
    assert hits / 8 == scores["accuracy"]
    assert len(rows_of(report / "worst.csv")) == 8 - hits
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_parquet_holds_paths_probabilities_and_vectors(report, scored):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(report / "predictions.parquet")
    classes = scored.selection.manifest.classes
    names = [f"probability {name}" for name in classes]
    assert table.column_names == ["path", "target", "predicted", *names, "embedding"]
    for index, (row, clip) in enumerate(
        zip(table.to_pylist(), scored.selection.clips, strict=True)
    ):
        assert row["path"] == str(clip.path.resolve())
        assert row["target"] == classes[clip.targets[0]]
        probabilities = scored.probabilities[index]
        assert [row[name] for name in names] == probabilities.tolist()
        assert row["predicted"] == classes[int(probabilities.argmax())]
        assert row["embedding"] == scored.vectors[index].tolist()


def test_without_pyarrow_the_rest_is_written_with_a_note(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("train.inference.scoring.report.has_pyarrow", lambda: False)
    write_report(evaluation(False, False), tmp_path)
    assert "needs pyarrow; install it with `pip install pyarrow`" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.csv",
        "confusion.png",
        "per_class.csv",
        "predictions.csv",
        "scores.json",
        "worst.csv",
    ]
