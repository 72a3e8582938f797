"""What a recipe of pretraining leaves to the data: each choice with its reason.

recipe = choose_for_pretraining(PRETRAINING_RECIPES["ssast"], clips)
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np

from data import Clips
from data.cache import ClipCache
from train.preparation.choose import Choice, apply, apply_all, input_length, statistics
from train.preparation.measure import clip_frames
from train.pretraining.recipe import PretrainingRecipe

PUBLISHED = {"tiny224": (120, 5e-4), "small224": (60, 2.5e-4)}  # small: between tiny and base
PUBLISHED_BASE = (24, 1e-4)
OF_MAE = (128, 5e-4)
STEPS_AN_EPOCH = 30  # with fewer, batches get smaller
LEAST_BATCH = 16
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 6000, 10, 100
PUBLISHED_WARMUP = 1000  # steps
LONG_RUN = 20 * PUBLISHED_WARMUP  # steps from which on a run is as published
MUCH_CUT = 0.2  # of the sound

CHOSEN_BY_DATA = frozenset(
    {
        *("num_frames", "mean", "std", "batch_size", "epochs"),
        *("warmup_epochs", "warmup_steps", "learning_rate", "schedule"),
    }
)
"""The fields that `choose_for_pretraining` can choose."""

logger = logging.getLogger(__name__)


def largest(recipe: PretrainingRecipe) -> tuple[int, float]:
    """Size of a batch in a large data set, and the learning rate that goes with it."""
    return OF_MAE if recipe.method == "mae" else PUBLISHED.get(recipe.preset, PUBLISHED_BASE)


def batch_size(recipe: PretrainingRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """The published one; smaller where an epoch would have few steps."""
    size, _ = largest(recipe)
    while size // 2 >= LEAST_BATCH and num_clips < STEPS_AN_EPOCH * size:
        size //= 2
    return Choice({"batch_size": size}, f"{-(-num_clips // size)} steps an epoch")


def epochs(recipe: PretrainingRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """The published 10 of a large data set, more of a small one."""
    an_epoch = -(-num_clips // recipe.batch_size)
    number = min(max(round(STEPS / an_epoch), FEWEST_EPOCHS), MOST_EPOCHS)
    return Choice(
        {"epochs": number},
        f"{number * an_epoch} steps; about {STEPS}, but at least {FEWEST_EPOCHS} epochs and at "
        f"most {MOST_EPOCHS}",
    )


def schedule(recipe: PretrainingRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """As published in a long run, which has time to wait for a plateau; else a cosine."""
    steps = recipe.epochs * -(-num_clips // recipe.batch_size)
    if steps < LONG_RUN or recipe.method == "mae":
        return Choice({"schedule": "cosine"}, f"{steps} steps, down to zero at the end")
    return Choice({"schedule": "plateau"}, f"as published, since {steps} steps are a long run")


def warmup(recipe: PretrainingRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """A tenth of the run, but no more than the published 1,000 steps."""
    if "warmup_steps" not in recipe.from_data:
        return Choice({"warmup_epochs": 0.0}, "warmup_steps are given")
    if "warmup_epochs" not in recipe.from_data:
        return Choice({"warmup_steps": 0}, "warmup_epochs are given")
    steps = recipe.epochs * -(-num_clips // recipe.batch_size)
    if steps >= 10 * PUBLISHED_WARMUP:
        return Choice({"warmup_epochs": 0.0, "warmup_steps": PUBLISHED_WARMUP}, "as published")
    values = {"warmup_epochs": recipe.epochs / 10, "warmup_steps": 0}
    return Choice(values, "a tenth of the epochs")


def learning_rate(recipe: PretrainingRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """The published one, with the root of the batch size."""
    size, rate = largest(recipe)
    rate = float(f"{rate * math.sqrt(recipe.batch_size / size):.2g}")
    return Choice({"learning_rate": rate}, f"for batches of {recipe.batch_size}")


BEFORE_MEASURING = (input_length,)
AFTER_MEASURING = (batch_size, epochs, schedule, warmup, learning_rate)


def choose_for_pretraining(
    recipe: PretrainingRecipe, clips: Clips, cache: ClipCache | None = None
) -> PretrainingRecipe:
    """The recipe with every field of `recipe.from_data` chosen; each choice is logged, and why.

    Args:
        clips: the training split. Headers are read, and up to `SAMPLED_CLIPS` clips decoded.

    Returns:
        A recipe that leaves nothing to the data. Where no clip can be read, what follows from clips
        is as it was: the audit stops such a run.
    """
    frames = clip_frames(clips, cache)
    if len(frames):
        recipe = apply_all(recipe, BEFORE_MEASURING, frames, len(clips))
        recipe = apply(recipe, statistics(recipe, clips, cache))
        recipe = apply_all(recipe, AFTER_MEASURING, frames, len(clips))
        _warn_of_cut(recipe, frames)
    return replace(recipe, from_data=frozenset())


def _warn_of_cut(recipe: PretrainingRecipe, frames: np.ndarray) -> None:
    """Long recordings are cut to the input, so that most of their sound is never heard."""
    kept = np.minimum(frames, recipe.num_frames).sum() / frames.sum()
    if 1 - kept > MUCH_CUT:
        logger.warning(
            f"{1 - kept:.0%} of the sound lies beyond the input of {recipe.num_frames} frames and "
            "is never heard: cut the recordings into clips of that length"
        )
