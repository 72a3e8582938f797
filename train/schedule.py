"""The learning rate as a function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of an optimiser step, counted from 0.

    Step schedule (authors' code): `learning_rate` for `decay_from` epochs, then times `decay` at
    the start of the next and of every `decay_every`th further one. Cosine: from `learning_rate`
    after the warm-up down to zero after the last step. The warm-up rises linearly and its first
    step is not zero.
    """
    warmup_steps = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if recipe.schedule == "step":
        epoch = step // steps_per_epoch
        late = epoch - recipe.decay_from
        factor = recipe.decay ** (1 + late // recipe.decay_every if late >= 0 else 0)
    else:
        steps = max(recipe.epochs * steps_per_epoch - warmup_steps, 1)
        progress = max(step - warmup_steps, 0) / steps
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * warmup * factor
