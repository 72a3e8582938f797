"""The report of an evaluation: its tables agree with the scores and with each other."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ast_model.quantise import Int8Linear
from data import Clip, Manifest, load_audio
from train.inference.report import Evaluation, per_class, worst, write_report
from train.inference.selection import Selection, load_trained
from train.metrics import evaluate_scores


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
    scores = evaluate_scores(logits, targets, multi_label, sigmoid)
    parts = (torch.from_numpy(logits), torch.from_numpy(targets), sigmoid, scores)
    return Evaluation(selection, *parts)


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
    write_report(evaluation(True, True), {}, tmp_path)
    assert (tmp_path / "per_class.csv").is_file()
    assert not list(tmp_path.glob("confusion*"))
    (first, *_) = rows_of(tmp_path / "predictions.csv")
    logits = evaluation(True, True).logits[0]
    assert float(first["a"]) == pytest.approx(float(logits[0].sigmoid()), abs=1e-6)


@pytest.fixture(scope="module")
def report(run_folder, corpus_folder, tmp_path_factory):
    """What the command writes for the run's held-out fold."""
    from train.cli import main

    folder = tmp_path_factory.mktemp("report")
    words = ["--data", str(corpus_folder), "--device", "cpu", "--no-use-cache"]
    assert main(["evaluate", str(run_folder), *words, "--out", str(folder)]) == 0
    return folder


def test_the_scores_are_those_of_the_last_epoch(report, run_folder):
    scores = json.loads((report / "scores.json").read_text())
    assert [scores[name] for name in ("corpus", "part", "fold", "clips")] == [
        "esc50",
        "fold 2",
        2,
        8,
    ]
    last = rows_of(run_folder / "metrics.csv")[-1]
    for name in ("accuracy", "f1", "mAP", "AUC", "loss"):
        assert scores[name] == pytest.approx(float(last[name]), abs=1e-6)


def test_the_tables_agree(report, run_folder):
    assert (report / "predictions.csv").read_text() == (run_folder / "predictions.csv").read_text()
    scores = json.loads((report / "scores.json").read_text())
    matrix = rows_of(report / "confusion.csv")
    hits = sum(int(row[row["target"]]) for row in matrix)
    assert hits / 8 == scores["accuracy"]
    assert len(rows_of(report / "worst.csv")) == 8 - hits
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_parquet_holds_paths_probabilities_and_vectors(report, run_folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(report / "predictions.parquet")
    predictions = rows_of(report / "predictions.csv")
    classifier = load_trained(str(run_folder), torch.device("cpu")).classifier
    names = [f"probability {name}" for name in classifier.classes]
    assert table.column_names == ["path", "target", "predicted", *names, "embedding"]
    for row, prediction in zip(table.to_pylist(), predictions, strict=True):
        path = Path(row["path"])
        assert (path.is_absolute(), path.name) == (True, prediction["clip"])
        assert row["target"] == prediction["target"]
        probabilities = [float(prediction[name]) for name in classifier.classes]
        assert [row[name] for name in names] == pytest.approx(probabilities, abs=1e-6)
        assert row["predicted"] == classifier.classes[int(np.argmax(probabilities))]
        vector = classifier.embed(load_audio(path)[None])[0]
        assert np.allclose(row["embedding"], vector, atol=1e-4)


def test_int8_is_scored_in_8_bit_integers(run_command, run_folder, corpus_folder, monkeypatch):
    layers = []
    original = Int8Linear.__init__
    monkeypatch.setattr(Int8Linear, "__init__", lambda *args: layers.append(original(*args)))
    words = (
        "evaluate",
        run_folder,
        "--data",
        corpus_folder,
        "--json",
        "--device",
        "cpu",
        "--precision",
    )
    scores = {}
    for precision in ("fp32", "int8"):
        code, out, err = run_command(*words, precision)
        assert code == 0, err
        scores[precision] = json.loads(out)
    assert len(layers) > 4
    assert 0 < abs(scores["int8"]["loss"] - scores["fp32"]["loss"]) < 0.1


def test_without_pyarrow_the_rest_is_written_with_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("train.inference.report.has_pyarrow", lambda: False)
    write_report(evaluation(False, False), {"clips": 40}, tmp_path)
    assert "needs pyarrow; install it with `pip install pyarrow`" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.csv",
        "confusion.png",
        "per_class.csv",
        "predictions.csv",
        "scores.json",
        "worst.csv",
    ]
