"""The optimiser and its parameter groups."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from train.recipe import BaseRecipe
from train.run.schema import Row

HEAD = ("head_norm.", "head.")


def make_optimizer(recipe: BaseRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that are trained; with `freeze_backbone` those
    of the head and the last norm.

    A group's `scale` is its factor on the schedule's learning rate: `layer_decay` to the power of
    the group's distance from the head (BEiT's rule: the head 0, the last block 1, …, the patch
    embedding with tokens and positions depth + 1).

    Raises:
        ValueError: `layer_decay` or `freeze_backbone` for a model that is no AST.
    """
    groups = [
        {"params": parameters, "scale": recipe.layer_decay**distance}
        for distance, parameters in sorted(_by_distance(recipe, model).items())
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(
        groups,
        recipe.learning_rate,
        recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,  # one kernel for all parameters of a group, on a CPU too
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The schedule's rate, times each group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _by_distance(recipe: BaseRecipe, model: nn.Module) -> dict[int, list[nn.Parameter]]:
    """Trained parameters by their distance from the head; frozen ones lose their gradient."""
    if recipe.layer_decay == 1 and not recipe.freeze_backbone:
        return {0: [each for each in model.parameters() if each.requires_grad]}
    if not hasattr(model, "blocks"):
        raise ValueError(
            "--layer-decay and --freeze-backbone know an AST's layers; use --model ast"
        )
    depth = len(model.blocks)
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        distance = _distance(name, depth)
        if recipe.freeze_backbone and distance:
            parameter.requires_grad_(False)
        else:
            groups.setdefault(distance, []).append(parameter)
    return groups


def _distance(name: str, depth: int) -> int:
    if name.startswith((*HEAD, "norm.")):
        return 0
    block = re.match(r"blocks\.(\d+)\.", name)
    return depth - int(block[1]) if block else depth + 1


def learning_rate(
    recipe: BaseRecipe, step: int, steps_per_epoch: int, rows: Sequence[Row] = ()
) -> float:
    """Learning rate of an optimiser step, counted from 0.

    Step schedule (authors' code): `learning_rate` for `lr_decay_from` epochs, then times `lr_gamma`
    at the start of the next and of every `lr_decay_every`th further one. Plateau (SSAST's code):
    times `lr_gamma` after each `lr_decay_every` + 1 epochs in a row that were not better than the
    best before. Cosine: from `learning_rate` after the warm-up down to zero after the last step.
    The warm-up rises linearly and its first step is not zero.

    Args:
        rows: of the epochs before this step.
    """
    warmup_steps = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if recipe.schedule == "step":
        epoch = step // steps_per_epoch
        late = epoch - recipe.lr_decay_from
        factor = recipe.lr_gamma ** (1 + late // recipe.lr_decay_every if late >= 0 else 0)
    elif recipe.schedule == "plateau":
        factor = recipe.lr_gamma ** plateaus(map(recipe.better, rows), recipe.lr_decay_every)
    else:
        steps = max(recipe.epochs * steps_per_epoch - warmup_steps, 1)
        progress = max(step - warmup_steps, 0) / steps
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * warmup * factor


def plateaus(scores: Iterable[float], patience: int) -> int:
    """How often more than `patience` scores in a row were not above the highest before.

    As PyTorch's ReduceLROnPlateau counts with a threshold of 0.
    """
    highest, waited, found = -math.inf, 0, 0
    for score in scores:
        waited = 0 if score > highest else waited + 1
        highest = max(highest, score)
        if waited > patience:
            waited, found = 0, found + 1
    return found
