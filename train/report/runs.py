"""What the page says of one run, or of the folds of a cross-validation."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from data import Manifest
from train.recipe import GROUPS, Recipe
from train.recipes import RECIPES
from train.report.charts import Chart, loss_chart, reliability_chart, score_chart
from train.report.mistakes import Mistake, open_data, show_mistakes, worst_mistakes
from train.report.predictions import Predictions, joined, read_run_predictions
from train.report.scores import (
    Calibration,
    ClassScores,
    Interval,
    calibration,
    confusion,
    draw_weights,
    score_classes,
    wilson,
)
from train.run.environment import Start, read_starts
from train.run.folder import (
    RECIPE,
    Row,
    RunRecord,
    find_runs,
    read_metrics,
    read_results,
    read_run,
    recipe_differences,
)

MOST_CLASSES = 60  # of a confusion matrix that is shown whole
MOST_LISTED = 1000  # classes with their scores
MOST_CONFUSIONS = 12  # pairs of classes
SCORES = ("accuracy", "mAP", "f1", "AUC", "loss")  # of each model

logger = logging.getLogger(__name__)


class ModelRow(NamedTuple):
    """A model of a run on a split."""

    split: str
    clips: int | None
    model: str
    scores: list[float | None]  # as `SCORES`


class FoldRow(NamedTuple):
    """A run of a cross-validation."""

    fold: str
    epochs: str  # "5 of 5"
    clips: int | None
    scores: Row | None  # None of a run that is not finished


class Confusion(NamedTuple):
    """Clips of one class that are taken for another."""

    truth: str
    said: str
    count: int
    clips: int  # of the class


@dataclass
class Evaluated:
    """What the predictions of finished runs say."""

    predictions: Predictions
    split: str
    accuracy: Interval
    classes: list[ClassScores]  # the least average precision first
    resamples: int  # of the bootstrap
    calibration: Calibration
    reliability: Chart
    matrix: np.ndarray | None  # of classes that exclude each other, and are not too many
    confusions: list[Confusion]  # the most frequent first
    mistakes: list[Mistake]
    num_mistakes: int


@dataclass
class RunsPage:
    """A run, or a cross-validation, as the page shows it."""

    folder: Path
    runs: list[RunRecord]
    epochs: dict[str, list[Row]]  # rows of metrics.csv, by what the run is called
    starts: dict[str, list[Start]]
    evaluated: Evaluated | None  # None where no run is finished
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        return self.runs[0].recipe

    @property
    def is_crossval(self) -> bool:
        return not (self.folder / RECIPE).is_file()

    @property
    def charts(self) -> list[Chart]:
        epochs = {name: rows for name, rows in self.epochs.items() if rows}
        split = "validation"
        if len(self.runs) == 1 and self.runs[0].fold is not None:
            split = f"fold {self.runs[0].fold}"
        chances = [
            r["chance"] for run in self.finished if "chance" in (r := read_results(run.folder))
        ]
        chance = float(np.mean(chances)) if chances else None
        metric = self.recipe.metric
        return [loss_chart(epochs, split), score_chart(epochs, metric, split, chance)]

    @property
    def finished(self) -> list[RunRecord]:
        return [run for run in self.runs if run.finished]

    @property
    def models(self) -> list[ModelRow]:
        """Every model of a finished run on every split that it was scored on."""
        rows = []
        for run in self.finished if not self.is_crossval else []:
            results = read_results(run.folder)
            for split in ("validation", "test"):
                name = results["validation_split"] if split == "validation" else split
                clips = results.get("clips", {}).get(split)
                for model, scores in results.get(split, {}).items():
                    epoch = results["validation"].get(model, {}).get("epoch")
                    shown = model if epoch is None else f"{model} (epoch {epoch:.0f})"
                    rows.append(ModelRow(name, clips, shown, [scores.get(n) for n in SCORES]))
        return rows

    @property
    def folds(self) -> list[FoldRow]:
        """The runs of a cross-validation."""
        rows = []
        for run, epochs in zip(self.runs, self.epochs.values(), strict=True):
            results = read_results(run.folder) if run.finished else {}
            scores = results["validation"]["last"] if results else None
            clips = results.get("clips", {}).get("validation")
            done = f"{len(epochs)} of {run.recipe.epochs}"
            rows.append(FoldRow(str(run.fold), done, clips, scores))
        return rows

    @property
    def mean(self) -> tuple[float, float | None]:
        """Of the metric over the finished folds, final checkpoints; standard deviation (n - 1)."""
        scores = [row.scores[self.recipe.metric] for row in self.folds if row.scores]
        return mean(scores), stdev(scores) if len(scores) > 1 else None

    @property
    def changes(self) -> list[str]:
        """In what the recipe differs from the one that has its name: "epochs 40 -> 5"."""
        named = RECIPES.get(self.recipe.name)
        if named is None:
            return []
        new, old = self.recipe.to_json(), named.to_json()
        return [f"{n}: {old[n]} → {new[n]}" for n in new if n != "summary" and new[n] != old[n]]

    @property
    def fields(self) -> list[tuple[str, list[tuple[str, Any]]]]:
        """Every field of the recipe, by subject."""
        content, groups = self.recipe.to_json(), []
        for group in GROUPS:
            title = re.sub("(?<!^)(?=[A-Z])", " ", group.__name__).lower()
            groups.append((title, [(each.name, content[each.name]) for each in fields(group)]))
        return groups


def find_folds(folder: Path) -> list[Path]:
    """The run folders of a cross-validation; none where it holds none."""
    return [run for run in find_runs(folder) if run.parent == folder]


def describe_runs(
    folder: Path, runs: Sequence[Path], data: Path | None, count: int, device: str, budget: int
) -> RunsPage:
    """A run, or the folds of a cross-validation.

    Args:
        data: where the clips lie; None: no sounds and pictures.
        count: mistakes that are shown.
        budget: bytes of all sounds and pictures.

    Raises:
        FileNotFoundError, ValueError: a file of a run is damaged, no epoch is finished, the runs
            are not of one recipe or of other data than that, or of no classes.
    """
    records = sorted(map(read_run, runs), key=lambda run: run.fold or 0)
    for run in records:
        if not isinstance(run.recipe, Recipe):
            raise ValueError(
                f"{run.folder} was pretrained without labels: it has no classes to report on; give "
                "a run that was trained on classes"
            )
        if differing := recipe_differences(run, records[0].recipe):
            raise ValueError(
                f"{run.folder} is of another recipe than {records[0].folder} "
                f"({'; '.join(differing)}): they are not folds of one cross-validation"
            )
    _require_folds(folder, records)
    epochs = {_name(run): read_metrics(run.folder) for run in records}
    if not any(epochs.values()):
        raise ValueError(f"{folder} has no finished epoch yet, so there is nothing to report")
    manifest = None if data is None else open_data(records, data)
    starts = {_name(run): read_starts(run.folder) for run in records}
    page = RunsPage(folder, records, epochs, starts, None)
    _note_unfinished(page)
    if page.finished:
        page.evaluated = _evaluate(page, count)
        _add_media(page, manifest, device, budget)
    return page


def _require_folds(folder: Path, runs: Sequence[RunRecord]) -> None:
    """ValueError where several runs, or one below the folder, are not of one fold each."""
    first: dict[int, Path] = {}
    for run in runs:
        if run.folder == folder:
            return
        if run.fold is None:
            raise ValueError(
                f"{run.folder} has no fold, so {folder} is no cross-validation; give the run folder"
            )
        if run.fold in first:
            raise ValueError(
                f"{first[run.fold]} and {run.folder} are both of fold {run.fold}; move one of them "
                f"out of {folder}"
            )
        first[run.fold] = run.folder


def _name(run: RunRecord) -> str:
    return run.folder.name if run.fold is None else f"fold {run.fold}"


def _note_unfinished(page: RunsPage) -> None:
    for run, (name, rows) in zip(page.runs, page.epochs.items(), strict=True):
        if not run.finished:
            subject = name if page.is_crossval else "This run"
            page.notes.append(
                f"{subject} is not finished: {len(rows)} of {run.recipe.epochs} epochs. Its scores "
                "by class, calibration and mistakes come with its last epoch."
            )


def _evaluate(page: RunsPage, count: int) -> Evaluated:
    tables = [read_run_predictions(run) for run in page.finished]
    table = joined(tables, [run.folder for run in page.finished])
    split = "test" if table.model == "best" else "validation"
    if split == "validation" and page.runs[0].fold is not None:
        numbers = [str(run.fold) for run in page.finished]
        split = f"fold{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}"
    matrix = confusion(table) if table.exclusive else None
    found = calibration(table)
    mistakes, total = worst_mistakes(zip(page.finished, tables, strict=True), count)
    classes = sorted(
        score_classes(table), key=lambda each: (each.average_precision or (2,), each.name)
    )
    if len(classes) > MOST_LISTED:
        page.notes.append(f"Of {len(classes):,} classes, the {MOST_LISTED:,} weakest are listed.")
    return Evaluated(
        predictions=table,
        split=split,
        accuracy=wilson(int(table.correct.sum()), len(table.names)),
        classes=classes[:MOST_LISTED],
        resamples=len(draw_weights(*table.truth.shape)),
        calibration=found,
        reliability=reliability_chart(found),
        matrix=matrix if matrix is not None and len(matrix) <= MOST_CLASSES else None,
        confusions=[] if matrix is None else _confusions(matrix, table.classes),
        mistakes=mistakes,
        num_mistakes=total,
    )


def _confusions(matrix: np.ndarray, classes: Sequence[str]) -> list[Confusion]:
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        Confusion(classes[row], classes[column], int(wrong[row, column]), int(matrix[row].sum()))
        for row, column in pairs
        if wrong[row, column]
    ]


def _add_media(page: RunsPage, manifest: Manifest | None, device: str, budget: int) -> None:
    evaluated = page.evaluated
    if not evaluated.mistakes:
        return
    if manifest is None:
        page.notes.append(
            "The mistakes have no sounds and pictures: this page was made without --data, the "
            "folder of the recordings."
        )
        return
    show_mistakes(evaluated.mistakes, evaluated.predictions.model, manifest, device, budget)
    if silent := sum(not mistake.audio for mistake in evaluated.mistakes):
        page.notes.append(
            f"{silent} of {len(evaluated.mistakes)} mistakes that are shown cannot be heard; what "
            "is missing is said beside each."
        )
