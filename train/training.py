"""Everything a run consists of in memory, and where the run stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ast_model import AST, Frontend
from ast_model.baseline import Baseline
from train.init_model import empty_model, initial_model
from train.optim import make_optimizer
from train.recipe import Recipe

Row = dict[str, float]

PARTS = ("model", "optimizer", "scaler", "ema", "average")
PLACE = ("epoch", "batch", "loss_sum", "clips", "rows", "ensemble", "skipped")


@dataclass
class Training:
    """A run in memory: everything that its state file holds, and where it stands."""

    recipe: Recipe
    model: AST | Baseline
    frontend: Frontend
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None = None  # moving average over the steps
    average: AveragedModel | None = None  # mean over the epochs of `average_epochs`
    class_weights: Tensor | None = None  # (classes,)
    replica: DistributedDataParallel | None = None  # of the model, where several processes train
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    loss_sum: float = 0.0  # over the clips of those batches
    clips: int = 0  # in those batches
    rows: list[Row] = field(default_factory=list)  # metrics.csv
    ensemble: Tensor | None = None  # probabilities (held-out clips, classes), summed over epochs
    skipped: list[str] = field(default_factory=list)  # files that could not be decoded

    @property
    def network(self) -> AST | Baseline | DistributedDataParallel:
        """What a training step runs: the model, or the way to it that averages its gradients."""
        return self.model if self.replica is None else self.replica

    @property
    def evaluated(self) -> AST | Baseline:
        """The model that is scored and saved."""
        return self.model if self.ema is None else self.ema.module

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) of the highest held-out score; the earliest of equals."""
        scores = [row[self.recipe.metric] for row in self.rows]
        return scores.index(max(scores)) + 1

    @property
    def finished(self) -> bool:
        """All epochs done, or `patience` of them without a better one."""
        if self.epoch >= self.recipe.epochs:
            return True
        waited = self.epoch - self.best_epoch if self.rows else 0
        return 0 < self.recipe.patience <= waited

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            "config": asdict(self.model.config),  # a start's file need not be there any more
            **{name: part.state_dict() for name, part in parts.items() if part is not None},
            **{name: getattr(self, name) for name in PLACE},
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name in PARTS:
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(state[name])
        for name in PLACE:
            setattr(self, name, state[name])


def build(
    recipe: Recipe,
    classes: Sequence[str],
    device: torch.device,
    state: dict[str, Any] | None = None,
) -> Training:
    """Model, front end, optimiser and scaler as they are before the first step, or in `state`.

    Args:
        classes: names of the model's outputs.
        state: what `Training.state` gave, to go on from there.

    Raises:
        FileNotFoundError, ValueError: as `initial_model`.
    """
    torch.manual_seed(recipe.seed)
    model = empty_model(state["config"]) if state else initial_model(recipe, classes)
    model = model.to(device)
    frontend = Frontend(recipe.frontend_config()).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    training = Training(recipe, model, frontend, make_optimizer(recipe, model), scaler)
    if recipe.ema_decay:
        rule = get_ema_multi_avg_fn(recipe.ema_decay)
        training.ema = AveragedModel(model, multi_avg_fn=rule)
    if recipe.average_epochs[0]:
        training.average = AveragedModel(model)
    if state:
        training.restore(state)
    return training
