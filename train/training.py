"""A run in memory: model, front end, optimiser, scaler and where the run stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ast_model import AST, ASTConfig, Frontend
from train.recipe import Recipe
from train.start import starting_model

Row = dict[str, float]


@dataclass
class Training:
    """A run in memory: everything that its state file holds, and where it stands."""

    recipe: Recipe
    model: AST
    frontend: Frontend
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    loss_sum: float = 0.0  # over the clips of those batches
    rows: list[Row] = field(default_factory=list)  # metrics.csv

    def state(self) -> dict[str, Any]:
        parts = {
            name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")
        }
        names = ("epoch", "batch", "loss_sum", "rows")
        config = asdict(self.model.config)  # a start's file need not be there any more
        return {"config": config, **parts, **{name: getattr(self, name) for name in names}}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "batch", "loss_sum", "rows"):
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
        FileNotFoundError, ValueError: as `starting_model`.
    """
    torch.manual_seed(recipe.seed)
    model = AST(ASTConfig(**state["config"])) if state else starting_model(recipe, classes)
    model = model.to(device)
    frontend = Frontend(recipe.frontend_config()).to(device)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    optimizer = kind(
        model.parameters(),
        recipe.learning_rate,
        recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,  # one kernel for all parameters, on a CPU too
    )
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    training = Training(recipe, model, frontend, optimizer, scaler)
    if state:
        training.restore(state)
    return training
