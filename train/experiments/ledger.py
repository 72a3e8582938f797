"""The ledger: every published result, how to reproduce it, and the score reached here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from train.experiments.cost import Cost, count, read_cost
from train.experiments.paper import CORPORA, PublishedResult, published_results
from train.experiments.statistics import RunScore, estimate
from train.recipe import Recipe
from train.run.folder import (
    RunRecord,
    find_runs,
    read_results,
    read_run,
    recipe_differences,
)

HEADER = ("result", "published", "source", "command", "data", "weights", "hours", "here")
NOTE = (
    "Hours are of training alone: epochs x clips over the measured speed, scaled by the network's "
    "FLOPs where that was measured on another recipe. Here: mean ± standard deviation over the "
    "finished runs of the same recipe, whatever their fold, seed and precision; not run where "
    "there is none. `ast-audio download` fetches ESC-50 and Speech Commands; AudioSet is the "
    "user's own."
)


def ledger(runs: Path, costs: Sequence[Path] = ()) -> str:
    """The ledger, in Markdown, made from run folders alone.

    Args:
        runs: folder with the runs; those that cannot be read are left out.
        costs: files that `ast-audio cost` wrote on the machine to estimate hours for.

    Raises:
        FileNotFoundError, ValueError: there is no such folder or file, or it holds something else.
    """
    finished = _finished(runs)
    measured = [read_cost(file) for file in costs]
    rows = [HEADER, ("---",) * len(HEADER)]
    rows += [_row(result, finished, measured) for result in published_results()]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", NOTE, ""])


def _finished(folder: Path) -> list[RunRecord]:
    finished = []
    for run in find_runs(folder):
        try:
            record = read_run(run)
            if record.finished:
                read_results(run)
                finished.append(record)
        except (ValueError, OSError):
            continue  # unreadable; `ast-audio runs` lists it
    return finished


def _row(
    result: PublishedResult, finished: Sequence[RunRecord], costs: Sequence[Cost]
) -> tuple[str, ...]:
    return (
        result.title,
        result.score,
        result.source,
        f"`{result.command}`" if "`" not in result.command else result.command,
        CORPORA[result.recipe.corpus].title,
        _weights(result.recipe),
        _hours(result, costs),
        _score_here(result, finished),
    )


def _weights(recipe: Recipe) -> str:
    names = {"scratch": "no", "imagenet": "ImageNet", "audioset": "AudioSet"}
    return names.get(recipe.init_from, recipe.init_from)


def _hours(result: PublishedResult, costs: Sequence[Cost]) -> str:
    """From the speed of the measured recipe that is nearest in FLOPs."""
    if not costs:
        return "not measured"
    recipe, corpus = result.recipe, CORPORA[result.recipe.corpus]
    flops = _flops(replace(recipe, name="", init_from="scratch"), corpus.num_classes)
    nearest = min(costs, key=lambda cost: abs(math.log(cost.flops / flops)))
    clips = result.num_runs * recipe.epochs * corpus.training_clips
    hours = clips / nearest.training_speed * flops / nearest.flops / 3600
    return f"{hours:,.{0 if hours >= 10 else 1}f} ({nearest.device})"


@cache
def _flops(recipe: Recipe, num_classes: int) -> int:
    return count(recipe, num_classes)[2]


def _score_here(result: PublishedResult, finished: Sequence[RunRecord]) -> str:
    recipe, ignored = result.recipe, ("name", "seed", "precision")
    runs = [run for run in finished if not recipe_differences(run, recipe, ignored)]
    if not runs or result.model == "ensemble":
        data, weights = CORPORA[recipe.corpus].title, _weights(recipe)
        return f"not run here: needs {data} and {weights} weights"
    if result.model == "last":
        scores = [run.validation_score("last") for run in runs]
        name = f"{recipe.metric} of the final checkpoint"
    else:
        scores, name = [run.score for run in runs], runs[0].score_name
    mean = estimate([RunScore(score) for score in scores])
    factor, digits = (1, 3) if recipe.metric == "mAP" else (100, 2)
    text = f"{factor * mean.mean:.{digits}f}"
    text += "" if mean.sd is None else f" ± {factor * mean.sd:.{digits}f}"
    folds = sorted({run.fold for run in runs if run.fold is not None})
    of = f", folds {', '.join(map(str, folds))}" if folds else ""
    return f"{text} ({mean.count} run{'' if mean.count == 1 else 's'}{of}; {name})"
