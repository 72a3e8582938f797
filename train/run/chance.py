"""Whether a run scores better than chance, and what to try where it does not.

A run is asked once: after a fifth of its epochs, but not before 100 optimiser steps, nor within the
warm-up, nor before three epochs unless 1,000 steps are done. One that ends earlier is asked at its
end, if it has 100 steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from train.preparation.choose import is_pretrained, start_of
from train.preparation.preflight import FEWEST_STEPS
from train.recipe import Recipe
from train.run.folder import Row

ASKED_AFTER = 5  # a fifth of the epochs
FEWEST_EPOCHS, MANY_STEPS = 3, 1000
LUCK = 0.95  # guessing scores no better in so many of 100 runs
DRAWS = 100  # random rankings
FAR = 10.0  # times the usual learning rate, either way
FALLEN = 0.9  # of the first epoch's training loss: below it, something is learnt


class Chance(NamedTuple):
    """What knowing nothing of the sound scores, 0 to 1."""

    score: float  # accuracy: always the most frequent class; mAP: the mean of random rankings
    luck: float  # the most that this scores in `LUCK` of such runs


def chance(targets: np.ndarray, metric: str) -> Chance:
    """What chance scores on clips.

    Args:
        targets: (clips, classes), 0 or 1.
        metric: accuracy, or mAP.
    """
    count = len(targets)
    if metric == "accuracy":
        score = float(targets.mean(axis=0).max())
        return Chance(score, float(binom.ppf(LUCK, count, score)) / count)
    generator, draws = np.random.default_rng(0), np.zeros(DRAWS)
    positives = targets.sum(axis=0).astype(int)
    occurring = positives[positives > 0]
    for number in occurring:
        hits = np.arange(1, number + 1)
        for draw in range(DRAWS):
            ranks = 1 + np.sort(generator.choice(count, number, replace=False, shuffle=False))
            draws[draw] += (hits / ranks).mean()  # average precision of a random ranking
    draws /= len(occurring)
    return Chance(float(draws.mean()), float(np.quantile(draws, LUCK)))


def is_asked(recipe: Recipe, epoch: int, steps_per_epoch: int, finished: bool) -> bool:
    """Whether this is the one epoch after which a run is compared with chance.

    Args:
        epoch: the one that has ended, from 1.
        finished: whether it is the run's last.
    """
    enough = (e for e in range(1, recipe.epochs) if _is_enough(recipe, e, steps_per_epoch))
    first = next(enough, recipe.epochs)
    is_first = epoch == first or (finished and epoch < first)
    return is_first and epoch * steps_per_epoch >= FEWEST_STEPS


def _is_enough(recipe: Recipe, epoch: int, steps_per_epoch: int) -> bool:
    steps = epoch * steps_per_epoch
    warmup = recipe.warmup_steps or recipe.warmup_epochs * steps_per_epoch
    tried = epoch >= FEWEST_EPOCHS or steps >= MANY_STEPS
    return tried and ASKED_AFTER * epoch >= recipe.epochs and steps >= max(FEWEST_STEPS, warmup)


def remedies(recipe: Recipe, rows: Sequence[Row], steps_per_epoch: int) -> list[str]:
    """What to try where a run has not learnt, the likeliest first.

    Args:
        rows: of the epochs so far, as in `metrics.csv`.
    """
    found, start = [], start_of(recipe)
    pretrained = is_pretrained(recipe)
    kind = "pretrained" if pretrained else "random"
    if recipe.freeze_backbone and not pretrained:
        found.append("--no-freeze-backbone, since what is frozen is random")
    if recipe.layer_decay < 1 and not pretrained:
        found.append("--layer-decay 1, since the lower blocks are random and hardly change")
    usual, rate = start.learning_rate, recipe.learning_rate
    if rate < usual / FAR or (rate > usual * FAR and not recipe.freeze_backbone):
        found.append(f"--learning-rate {usual:g}, the usual one of {kind} weights, not {rate:g}")
    steps = recipe.epochs * steps_per_epoch
    if steps < start.steps / 2:
        found.append(
            f"more --epochs or a smaller --batch-size, since {kind} weights want about "
            f"{start.steps} steps, not {steps}"
        )
        if recipe.mixup_rate:
            found.append("--mixup-rate 0, since mixtures want a longer run")
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    if last < FALLEN * first:
        found.append(
            f"other labels or splits: the training loss falls ({first:.3f} to {last:.3f}), but "
            "what is learnt does not hold for the validation clips"
        )
    elif not found:
        found.append(
            f"--learning-rate {3 * rate:.2g} or {rate / 3:.2g}; and listen to some clips of each "
            "class, whether their labels are right"
        )
    return found
