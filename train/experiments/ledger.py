"""`ast-audio ledger`: every published result, how to reproduce it, and what was reached here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from train.experiments.cost import Cost, count
from train.experiments.paper import CLASSES, DATA, TRAINING_CLIPS, Published, published
from train.experiments.runs import RunRecord, find_runs, is_same_recipe, read_run
from train.experiments.statistics import estimate
from train.recipe import Recipe
from train.run_folder import read_json

HEADER = ("result", "published", "source", "command", "data", "weights", "hours", "here")
NOTE = (
    "Hours are of training alone: epochs x clips over the measured speed, scaled by the network's "
    "FLOPs where that was measured on another recipe. Here: mean ± standard deviation over the "
    "finished runs of the same recipe, whatever their fold, seed and precision; not run where "
    "there is none. `ast-audio download` fetches ESC-50 and Speech Commands; AudioSet is the "
    "user's own."
)


def ledger(runs: Path, bench: Sequence[Path] = ()) -> str:
    """The ledger, in Markdown, made from run folders alone.

    Args:
        runs: folder with the runs; those of other versions are left out.
        bench: files of `python -m train.experiments.cost`, of the machine to estimate hours for.

    Raises:
        FileNotFoundError, ValueError: there is no such folder or file, or it holds something else.
    """
    finished = _finished(runs)
    speeds = [_read_cost(file) for file in bench]
    rows = [HEADER, ("---",) * len(HEADER)]
    rows += [_row(number, finished, speeds) for number in published()]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", NOTE, ""])


def _finished(folder: Path) -> list[RunRecord]:
    found = []
    for run in find_runs(folder):
        try:
            past = read_run(run)
        except ValueError:
            continue  # of another version; `ast-audio runs` lists it
        if past.finished:
            found.append(past)
    return found


def _read_cost(file: Path) -> Cost:
    try:
        return Cost(**read_json(file))
    except TypeError:
        raise ValueError(
            f"{file} holds no measured cost; write it with `python -m train.experiments.cost`"
        ) from None


def _row(
    number: Published, finished: Sequence[RunRecord], speeds: Sequence[Cost]
) -> tuple[str, ...]:
    return (
        number.result,
        number.value,
        number.source,
        f"`{number.command}`" if "`" not in number.command else number.command,
        DATA[number.recipe.corpus],
        _weights(number.recipe),
        _hours(number, speeds),
        _ours(number, finished),
    )


def _weights(recipe: Recipe) -> str:
    names = {"scratch": "no", "imagenet": "ImageNet", "audioset": "AudioSet"}
    return names.get(recipe.init_from, recipe.init_from)


def _hours(number: Published, speeds: Sequence[Cost]) -> str:
    """Of the measured recipe that is nearest in FLOPs."""
    if not speeds:
        return "not measured"
    recipe = number.recipe
    flops = _flops(replace(recipe, name="", init_from="scratch"), CLASSES[recipe.corpus])
    near = min(speeds, key=lambda cost: abs(math.log(cost.flops / flops)))
    clips = number.trainings * recipe.epochs * TRAINING_CLIPS[recipe.corpus]
    hours = clips / near.training_speed * flops / near.flops / 3600
    return f"{hours:,.{0 if hours >= 10 else 1}f} ({near.device})"


@cache
def _flops(recipe: Recipe, classes: int) -> int:
    return count(recipe, classes)[2]


def _ours(number: Published, finished: Sequence[RunRecord]) -> str:
    same = [
        run
        for run in finished
        if is_same_recipe(run.recipe, number.recipe, ignored=("name", "seed", "precision"))
    ]
    if not same or number.model == "ensemble":
        data, weights = DATA[number.recipe.corpus], _weights(number.recipe)
        return f"not run here: needs {data} and {weights} weights"
    last = number.model == "last"
    ours = estimate([run.held_out_score("last") if last else run.score for run in same])
    factor, digits = (1, 3) if number.recipe.metric == "mAP" else (100, 2)
    text = f"{factor * ours.mean:.{digits}f}"
    text += "" if ours.sd is None else f" ± {factor * ours.sd:.{digits}f}"
    folds = sorted({run.fold for run in same if run.fold is not None})
    of = f", folds {', '.join(map(str, folds))}" if folds else ""
    name = f"{number.recipe.metric} of the last epoch" if last else same[0].score_name
    return f"{text} ({ours.count} run{'' if ours.count == 1 else 's'}{of}; {name})"
