"""`ast-audio runs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from train.cli.options import parse, unless_given
from train.cli.terminal import shown
from train.experiments.runs import as_text, compare_runs, list_runs

LONGEST_CELL = 100  # letters


@dataclass(frozen=True)
class RunsOptions:
    """List every run below a folder: recipe, data, how far it came, score; or compare two."""

    folder: Positional[Path] = Path("runs")
    """Where to look."""
    diff: Annotated[tuple[Path, Path] | None, unless_given("none", "RUN RUN")] = None
    """Two run folders: list the fields in which their recipes differ, instead."""


def run(words: Sequence[str]) -> None:
    options = parse(RunsOptions, words, "runs")
    if options.diff:
        differences = map(shown, compare_runs(*options.diff))
        print("\n".join(differences) or "the same recipe, fold and clips")
    elif runs := list_runs(options.folder):
        print(as_text([[shown(cell, LONGEST_CELL) for cell in run] for run in runs]))
    else:
        print(f"no runs in {options.folder}")
