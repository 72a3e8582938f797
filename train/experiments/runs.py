"""Which runs a folder holds, how they ended, and how the recipes of two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from train.run.folder import (
    METRICS,
    RECIPE,
    RESULTS,
    Row,
    RunRecord,
    find_runs,
    read_metrics,
    read_run,
    run_differences,
)


class RunSummary(NamedTuple):
    """A run in words; of an unreadable one, only `run`, `state` and `when`."""

    run: str  # its path, relative to the folder that was listed
    recipe: str = ""
    corpus: str = ""
    fold: str = ""
    seed: str = ""
    epochs: str = ""  # done/planned
    state: str = "unreadable"
    score: str = ""  # of a finished run the one to quote, else the last epoch's
    split: str = ""  # that the score is on, and its clips: "test (200)"
    model: str = ""  # that reached it: "best (epoch 22)"
    when: str = ""  # it last changed


def list_runs(folder: Path) -> list[RunSummary]:
    """Every run in and below a folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    return [_summary(folder, run) for run in find_runs(folder)]


def as_text(runs: Sequence[Sequence[str]]) -> str:
    """Summaries of runs as a table for the terminal, below a line of headings."""
    rows = [RunSummary._fields, *runs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _summary(folder: Path, run: Path) -> RunSummary:
    name = str(run.relative_to(folder)) if run != folder else run.name
    when = ""
    try:
        when = _changed(run)
        record = read_run(run)
        epochs = read_metrics(run)
        recipe, metric = record.recipe, record.recipe.metric
        score, split, model = _score(record, epochs)
    except (ValueError, OSError):  # damaged, not ours to read, or removed meanwhile
        return RunSummary(name, when=when)
    return RunSummary(
        run=name,
        recipe=recipe.name,
        corpus=recipe.corpus,
        fold="" if record.fold is None else str(record.fold),
        seed=str(recipe.seed),
        epochs=f"{len(epochs)}/{recipe.epochs}",
        state="finished" if record.finished else "unfinished",
        score="" if score is None else f"{metric} {score:.4f}",
        split=split,
        model=model,
        when=when,
    )


def _changed(run: Path) -> str:
    """When a run last wrote."""
    files = [run / file for file in (RECIPE, METRICS, RESULTS)]
    changed = max(file.stat().st_mtime for file in files if file.is_file())
    return datetime.fromtimestamp(changed).strftime("%Y-%m-%d %H:%M")


def _score(record: RunRecord, epochs: Sequence[Row]) -> tuple[float | None, str, str]:
    """The score to quote, or the last epoch's; the split, and its clips if known; the model."""
    if record.finished:
        quoted = record.quoted
        clips = "" if quoted.clips is None else f" ({quoted.clips})"
        return quoted.score, f"{quoted.split}{clips}", quoted.model
    if not epochs:
        return None, "", ""
    split = "validation" if record.fold is None else f"fold {record.fold}"
    return epochs[-1][record.recipe.metric], split, f"last (epoch {len(epochs)})"


def compare_runs(one: Path, other: Path) -> list[str]:
    """In what the runs in two folders differ, from the first to the second: "epochs 2 -> 9".

    Raises:
        FileNotFoundError, ValueError: one is no run folder.
    """
    first, second = read_run(one), read_run(other)
    recipe = replace(second.recipe, precision=second.precision)
    return run_differences(first, recipe, second.fold, second.fingerprint)
