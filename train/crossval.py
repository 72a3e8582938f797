"""Cross-validation over a data set's folds: run, resume, one table, two plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from data import Manifest
from data.cache import ClipCache
from data.files import atomic_file
from train.distributed import is_main_process
from train.loop import train
from train.plots import confusion, learning_curves
from train.recipe import Recipe
from train.run_folder import read_predictions, write_table
from train.training import Row


def cross_validate(
    recipe: Recipe,
    manifest: Manifest,
    folder: str | Path,
    folds: Sequence[int] | None = None,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
) -> str:
    """Train with every fold held out once; finished folds are not run again.

    Writes `crossval.md`, `crossval.csv`, `plots/learning_curves.png` and `plots/confusion.png`
    (all folds' held-out clips at the last epoch) beside the run folders `fold1`, `fold2`, …

    Args:
        folds: a part of the data set's folds; None for all.
        device, cache, workers, compile: as `train`.

    Returns:
        The table, in Markdown.

    Raises:
        ValueError: as `train`.
    """
    folder = Path(folder)
    folds = folds or manifest.folds
    if not folds:
        raise ValueError(f"{manifest.name} has no folds; cross-validation needs them")
    for fold in folds:
        manifest.split(fold)  # before anything expensive, that every fold exists
    runs = {
        fold: train(recipe, manifest, fold, folder / f"fold{fold}", device, cache, workers, compile)
        for fold in folds
    }
    table = summary(runs)
    text = markdown(recipe.name, table)
    if is_main_process():
        write_table(folder / "crossval.csv", table)
        with atomic_file(folder / "crossval.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        draw(folder, runs, manifest.classes, recipe.name)
    return text


def best_mean_epoch(runs: Mapping[int, Sequence[Row]]) -> int:
    """The epoch (from 1) of the highest accuracy averaged over the folds; the earliest of equals.

    This is how the authors choose ESC-50's epoch. It looks at the held-out folds. Of folds that
    stopped early, only the epochs that all have count.
    """
    epochs = min(map(len, runs.values()))
    accuracy = np.array([[row["accuracy"] for row in rows[:epochs]] for rows in runs.values()])
    return int(accuracy.mean(axis=0).argmax()) + 1


def summary(runs: Mapping[int, Sequence[Row]]) -> list[dict[str, str | float]]:
    """A row a fold, then mean and sample standard deviation over the folds."""
    best = best_mean_epoch(runs)
    table: list[dict[str, str | float]] = [
        {
            "fold": str(fold),
            f"last epoch ({len(rows)})": rows[-1]["accuracy"],
            f"best mean epoch ({best})": rows[best - 1]["accuracy"],
            "macro F1, last": rows[-1]["f1"],
            "mAP, last": rows[-1]["mAP"],
        }
        for fold, rows in runs.items()
    ]
    columns = [name for name in table[0] if name != "fold"]
    values = {name: [row[name] for row in table] for name in columns}
    table.append({"fold": "mean", **{name: mean(values[name]) for name in columns}})
    if len(runs) > 1:
        deviations = {name: stdev(values[name]) for name in columns}
        table.append({"fold": "standard deviation", **deviations})
    return table


def markdown(title: str, table: Sequence[Mapping[str, str | float]]) -> str:
    """The table as text, scores in percent."""
    header = list(table[0])
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for row in table:
        scores = [f"{100 * row[name]:.2f}" for name in header[1:]]
        lines.append(" | ".join([str(row["fold"]), *scores]))
    note = (
        "Accuracy in %. Standard deviation over the folds (n - 1). The best mean epoch is the "
        "authors' way to choose: it looks at the held-out folds, so quote the last epoch."
    )
    return "\n".join([f"### {title}", "", *(f"| {line} |" for line in lines), "", note, ""])


def draw(
    folder: Path, runs: Mapping[int, Sequence[Row]], classes: Sequence[str], title: str
) -> None:
    """Learning curves of all folds, and one confusion matrix over all held-out clips."""
    curves = {f"fold {fold}": rows for fold, rows in runs.items()}
    learning_curves(curves, folder / "plots" / "learning_curves.png")
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    for fold in runs:
        for target, scores in read_predictions(folder / f"fold{fold}" / "predictions.csv"):
            matrix[classes.index(target), int(np.argmax(scores))] += 1
    confusion(matrix, classes, folder / "plots" / "confusion.png", f"{title}, all folds")
