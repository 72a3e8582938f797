"""The report of an evaluation: scores, classes, mistakes and predictions as files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from data.files import require_replaceable, write_json
from train.inference.scoring.evaluate import Evaluation
from train.metrics import confusion_matrix
from train.run.folder import write_predictions
from train.run.plots import confusion
from train.run.tables import INSTALL, has_pyarrow, write_csv, write_parquet

SCORES_FILE = "scores.json"
ROWS_AT_ONCE = 1000  # of predictions.parquet

logger = logging.getLogger(__name__)


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The scores, and of what: as JSON."""
    selection = evaluation.selection
    return {
        "model": evaluation.model,
        "corpus": selection.corpus,
        "split": selection.name,
        "fold": selection.fold,
        "clips": len(selection.clips),
        "pad": evaluation.pad,
        "keep_tokens": evaluation.keep_tokens,
        "unreadable": [str(path) for path in evaluation.unreadable],
        **evaluation.scores,
    }


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write the files of a report.

    scores.json          the scores, and of what
    per_class.csv        clips, average precision, precision, recall and F1 of each class
    confusion.csv, .png  clips by true and predicted class, of a corpus with one class a clip
    worst.csv            clips whose likeliest class they do not have, the most confident first
    predictions.csv      clip, true class, probability of each class
    predictions.parquet  the same with paths and vectors, where pyarrow is installed
    """
    selection = evaluation.selection
    clips, classes = selection.clips, selection.manifest.classes
    write_json(folder / SCORES_FILE, summary(evaluation))
    write_csv(folder / "per_class.csv", PER_CLASS, per_class(evaluation))
    write_csv(folder / "worst.csv", WORST, worst(evaluation))
    write_predictions(
        folder / "predictions.csv", selection.manifest, clips, evaluation.probabilities
    )
    if not selection.manifest.multi_label:
        matrix = confusion_matrix(evaluation.logits.numpy(), evaluation.targets.numpy())
        rows = ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
        write_csv(folder / "confusion.csv", ("target", *classes), rows)
        title = f"{selection.corpus}, {selection.name}, {len(clips)} clips"
        confusion(matrix, classes, folder / "confusion.png", title)
    if has_pyarrow():
        write_parquet(folder / "predictions.parquet", _tables(evaluation))
    else:
        logger.warning(f"predictions.parquet left out: it needs pyarrow; {INSTALL}")


def require_report_folder(folder: Path) -> None:
    """ValueError where a file that a report would replace was not written by one."""
    scores = ('{\n  "model":', '{\n  "soundscapes":')  # of clips, and of rows of soundscapes
    beginnings = {
        SCORES_FILE: scores,
        "per_class.csv": (",".join(PER_CLASS),),
        "worst.csv": (",".join(WORST),),
        "predictions.csv": ("clip,target,",),
        "confusion.csv": ("target,",),
    }
    for name, begins in beginnings.items():
        require_replaceable(folder / name, *begins)


PER_CLASS = ("class", "clips", "average_precision", "precision", "recall", "f1")


def per_class(evaluation: Evaluation) -> list[tuple[Any, ...]]:
    """Rows of `PER_CLASS`, as `evaluate_scores` averages them; None where there are no clips."""
    manifest = evaluation.selection.manifest
    logits = evaluation.logits.double()
    scores = (logits if evaluation.sigmoid else logits.log_softmax(dim=1)).numpy()
    top = evaluation.predicted.numpy()[:, None] == np.arange(len(manifest.classes))
    predicted = logits.numpy() > 0 if manifest.multi_label else top
    return rows_of_classes(manifest.classes, evaluation.targets.numpy() > 0, scores, predicted)


def rows_of_classes(
    classes: Sequence[str], targets: np.ndarray, scores: np.ndarray, predicted: np.ndarray
) -> list[tuple[Any, ...]]:
    """Rows of `PER_CLASS`; None where there are no clips.

    Args:
        targets, predicted: (clips, classes) bool.
        scores: (clips, classes), by which clips are ranked.
    """
    rows = []
    for index, name in enumerate(classes):
        target, count = targets[:, index], int(targets[:, index].sum())
        if not count:
            rows.append((name, 0, None, None, None, None))
            continue
        precision, recall, f1, _ = precision_recall_fscore_support(
            target, predicted[:, index], average="binary", zero_division=0
        )
        area = average_precision_score(target, scores[:, index])
        rows.append((name, count, *map(float, (area, precision, recall, f1))))
    return rows


WORST = ("clip", "target", "predicted", "probability")


def worst(evaluation: Evaluation) -> list[tuple[str, str, str, float]]:
    """Rows of `WORST`: the clips whose likeliest class they do not have, most confident first."""
    classes = evaluation.selection.manifest.classes
    mistakes = []
    for clip, index, probabilities in zip(
        evaluation.selection.clips,
        evaluation.predicted.tolist(),
        evaluation.probabilities,
        strict=True,
    ):
        if index not in clip.targets:
            target = "|".join(classes[target] for target in clip.targets)
            mistakes.append((str(clip.path), target, classes[index], float(probabilities[index])))
    return sorted(mistakes, key=lambda row: -row[3])


def _tables(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Columns that Renumics Spotlight shows: `path` as sound, `embedding` as a point on a map."""
    classes, clips = evaluation.selection.manifest.classes, evaluation.selection.clips
    for start in range(0, len(clips), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        probabilities = evaluation.probabilities[rows].numpy()
        table: dict[str, Any] = {
            "path": [str(clip.path.resolve()) for clip in clips[rows]],
            "target": ["|".join(classes[t] for t in clip.targets) for clip in clips[rows]],
            "predicted": [classes[index] for index in evaluation.predicted[rows].tolist()],
        }
        for index, name in enumerate(classes):
            table[f"probability {name}"] = probabilities[:, index].copy()
        if evaluation.vectors is not None:
            table["embedding"] = evaluation.vectors[rows].numpy()
        yield table
