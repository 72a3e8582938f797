"""Cross-validation over a data set's folds: run, resume, one table, two plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from data import Clips, Manifest
from data.cache import ClipCache
from data.files import atomic_file
from train.distributed import is_main_process
from train.loop import train
from train.metrics import one_hot
from train.recipe import Recipe
from train.run.chance import chance
from train.run.folder import PREDICTIONS, Row, read_predictions, write_table
from train.run.plots import confusion, confusion_title, learning_curves
from train.run.said_once import said_once
from train.run.schema import read_clips


@said_once()
def cross_validate(
    recipe: Recipe,
    manifest: Manifest,
    folder: str | Path,
    *,
    folds: Sequence[int] = (),
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
) -> str:
    """Train with every fold as the validation split once; finished folds are not run again.

    Writes `crossval.md`, `crossval.csv`, `plots/learning_curves.png` and, of classes that exclude
    each other, `plots/confusion.png` (all folds' validation clips, final checkpoints) beside the
    run folders `fold1`, `fold2`, …

    Args:
        folds: some of the data set's folds; none for all.
        device, cache, workers, compile: as `train`.

    Returns:
        The table, in Markdown.

    Raises:
        ValueError: the data set has no folds, or not these; as `train`.
    """
    folder = Path(folder)
    folds = folds or manifest.folds
    if not folds:
        raise ValueError(
            f"{manifest.name} has no folds, which cross-validation needs: give the data a column "
            "of folds, or use `ast-audio train`, which splits them at random"
        )
    for fold in folds:
        manifest.split(fold)  # before anything expensive, that every fold exists
    options = {"device": device, "cache": cache, "workers": workers, "compile": compile}
    runs = {
        fold: train(recipe, manifest, folder / f"fold{fold}", fold=fold, **options)
        for fold in folds
    }
    table = summary(runs, recipe.metric)
    text = markdown(recipe.name, table)
    if is_main_process():
        write_table(folder / "crossval.csv", table)
        with atomic_file(folder / "crossval.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        draw(folder, runs, manifest, recipe)
    return text


def best_mean_epoch(runs: Mapping[int, Sequence[Row]], metric: str) -> int:
    """The epoch (from 1) of the best mean score over the folds; the earliest of equals.

    This is how the authors choose ESC-50's epoch. It looks at the validation folds. Of folds that
    stopped early, only the epochs that all have count.
    """
    epochs = min(map(len, runs.values()))
    scores = np.array([[row[metric] for row in rows[:epochs]] for rows in runs.values()])
    return int(scores.mean(axis=0).argmax()) + 1


def summary(runs: Mapping[int, Sequence[Row]], metric: str) -> list[dict[str, str | float]]:
    """A row a fold, then mean and sample standard deviation over the folds.

    Each fold's final checkpoint is its own last epoch, where patience ended some before others.
    """
    best = best_mean_epoch(runs, metric)
    first, last = min(map(len, runs.values())), max(map(len, runs.values()))
    epochs = f"epoch {last}" if first == last else f"epochs {first} to {last}"
    table: list[dict[str, str | float]] = [
        {
            "fold": str(fold),
            f"{metric}, final checkpoint ({epochs})": rows[-1][metric],
            f"{metric}, epoch with the best mean ({best})": rows[best - 1][metric],
            "macro F1, final": rows[-1]["f1"],
            "mAP, final": rows[-1]["mAP"],
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
        "Scores in %. Standard deviation over the folds (n - 1). The epoch with the best mean over "
        "the folds is the authors' choice: it looks at the validation folds, so quote the final "
        "checkpoint."
    )
    return "\n".join([f"### {title}", "", *(f"| {line} |" for line in lines), "", note, ""])


def draw(
    folder: Path, runs: Mapping[int, Sequence[Row]], manifest: Manifest, recipe: Recipe
) -> None:
    """Learning curves of all folds, and one confusion matrix over all validation clips."""
    curves = {f"fold {fold}": rows for fold, rows in runs.items()}
    classes, count = manifest.classes, len(curves)
    files = [folder / f"fold{fold}" / PREDICTIONS for fold in runs]
    scored = {clip for file in files for clip, *_ in read_clips(file)}  # unreadable ones were not
    validation = chain.from_iterable(manifest.split(fold)[1] for fold in runs)
    clips = Clips.of(clip for clip in validation if manifest.relative(clip.path) in scored)
    validated = f"each fold validated once, {len(clips):,} clips"
    learning_curves(
        curves,
        folder / "plots" / "learning_curves.png",
        recipe.metric,
        f"{recipe.name}: {count} fold{'' if count == 1 else 's'}; {validated}",
        "validation",
        chance(one_hot(clips, len(classes)), recipe.metric).score,
    )
    if manifest.multi_label:
        return
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    for file in files:
        for target, scores in read_predictions(file, classes):
            matrix[classes.index(target), int(np.argmax(scores))] += 1
    folds = f"validation clips of fold{'' if count == 1 else 's'} {', '.join(map(str, runs))}"
    title = confusion_title(recipe.name, folds, matrix, "last epochs")
    confusion(matrix, classes, folder / "plots" / "confusion.png", title)
