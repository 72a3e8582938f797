"""`ast-audio runs`: what ran, with which recipe, how it ended, and how two recipes differ."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from train.recipe import Recipe
from train.run_folder import METRICS, RECIPE, RESULTS, read_json, read_recipe

HEADER = ("run", "recipe", "corpus", "fold", "seed", "epochs", "state", "score", "when")


@dataclass(frozen=True)
class RunRecord:
    """A run folder as it lies there."""

    folder: Path
    recipe: Recipe
    fold: int | None
    clips: str | None  # fingerprint of the data
    finished: bool

    @property
    def score(self) -> float:
        """What `score_name` says, 0 to 1; of a finished run."""
        results = self._results
        if "test" in results:
            return results["test"]["best"][self.recipe.metric]
        return self.held_out_score("averaged" if "averaged" in results else "last")

    @property
    def score_name(self) -> str:
        """What the score is of."""
        results = self._results
        if "test" in results:
            return f"{self.recipe.metric} on the test part, epoch chosen on the validation part"
        model = "averaged weights" if "averaged" in results else "last epoch"
        return f"{self.recipe.metric} on the held-out clips, {model}"

    def held_out_score(self, model: str) -> float:
        """The recipe's metric of `last`, `best` or `averaged` on what was held out, 0 to 1."""
        return self._results[model][self.recipe.metric]

    @property
    def _results(self) -> dict[str, Any]:
        file, metric = self.folder / RESULTS, self.recipe.metric
        results = read_json(file)
        rows = [results, results.get("test")] if isinstance(results, dict) else [None]
        scores = [row.get("last") for row in rows if isinstance(row, dict)]
        if not scores or not all(isinstance(row, dict) and metric in row for row in scores):
            raise ValueError(f"{file} is not of this version; run it again in a new folder")
        return results


def read_run(folder: Path) -> RunRecord:
    """What a run folder holds.

    Raises:
        ValueError: another version wrote it.
    """
    recipe, fold = read_recipe(folder / RECIPE)
    clips = read_json(folder / RECIPE).get("clips")
    return RunRecord(folder, recipe, fold, clips, (folder / RESULTS).is_file())


def find_runs(folder: Path) -> list[Path]:
    """Every run folder in and below a folder, in order.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; give one that holds runs")
    return sorted(file.parent for file in folder.rglob(RECIPE))


def is_same_recipe(stored: Recipe, wanted: Recipe, ignored: Sequence[str] = ()) -> bool:
    """Whether a run trained this recipe, on whatever device `auto` found its precision.

    Args:
        ignored: fields that may differ.
    """
    names = [*ignored, *(["precision"] if wanted.precision == "auto" else [])]
    return replace(stored, **{name: getattr(wanted, name) for name in names}) == wanted


def history(folder: Path) -> str:
    """A table of all runs below a folder, as text.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    rows = [_row(folder, run) for run in find_runs(folder)]
    if not rows:
        return f"no runs in {folder}"
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (HEADER, *rows)
    )
    return "\n".join(lines)


def _row(folder: Path, run: Path) -> tuple[str, ...]:
    name = str(run.relative_to(folder)) if run != folder else run.name
    when = datetime.fromtimestamp(_last_change(run)).strftime("%Y-%m-%d %H:%M")
    try:
        past = read_run(run)
        rows = _epochs(run)
        recipe, metric = past.recipe, past.recipe.metric
        score = past.score if past.finished else float(rows[-1][metric]) if rows else None
    except (ValueError, KeyError):
        return (name, *_names(run), "", "another version", "", when)
    return (
        name,
        recipe.name,
        recipe.corpus,
        "" if past.fold is None else str(past.fold),
        str(recipe.seed),
        f"{len(rows)}/{recipe.epochs}",
        "finished" if past.finished else "unfinished",
        "" if score is None else f"{metric} {score:.4f}",
        when,
    )


def _names(run: Path) -> tuple[str, str, str, str]:
    """Recipe, corpus, fold and seed of a recipe.json that is not of this version."""
    try:
        fields = _fields(run)
    except ValueError:
        return "", "", "", ""
    return tuple(str(fields.get(name, "")) for name in ("name", "corpus", "fold", "seed"))


def _epochs(run: Path) -> list[dict[str, str]]:
    file = run / METRICS
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _last_change(run: Path) -> float:
    files = [run / name for name in (RECIPE, METRICS, RESULTS)]
    return max(file.stat().st_mtime for file in files if file.is_file())


def difference(one: Path, other: Path) -> str:
    """The fields in which two runs' recipes differ, one a line; runs of other versions too.

    Raises:
        FileNotFoundError, ValueError: one is no run folder.
    """
    first, second = _fields(one), _fields(other)
    absent = "(no such field)"
    lines = [
        f"{name}: {first.get(name, absent)} -> {second.get(name, absent)}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name, absent) != second.get(name, absent)
    ]
    return "\n".join(lines) or "the same recipe, fold and clips"


def _fields(run: Path) -> dict[str, Any]:
    """The recipe's fields, the fold and the clips' fingerprint, as they are stored."""
    file = run / RECIPE
    if not file.is_file():
        raise FileNotFoundError(f"{run} is no run folder: it has no {RECIPE}")
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), dict):
        raise ValueError(f"{file} is not a run's recipe; give a run folder")
    return {**content["recipe"], "fold": content.get("fold"), "clips": content.get("clips")}
