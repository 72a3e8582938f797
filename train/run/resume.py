"""Whether a state file goes on with a run: the same one, a model of this shape, within its steps.

A state that does not is refused before anything of it is loaded, since optimisers and models take
much that does not fit without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from train.run.folder import START_AGAIN, STATE, run_differences, run_record
from train.run.log import Run
from train.tasks import task_of

if TYPE_CHECKING:
    from train.loop import TrainState

OF_INITIAL_WEIGHTS = {"mlp_ratio", "layer_norm_eps", "head_layer_norm_eps"}
"""What a model keeps of the one that it started from, whatever the recipe says."""
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of Adam and AdamW, of each parameter
SCHEDULED = "lr"  # the one value of an optimiser's group that changes in a run


def stored_model(saved: Mapping[str, Any], run: Run) -> nn.Module:
    """The model of a state, still to be filled with its parameters.

    Raises:
        ValueError: the state is of another run, or its model is not the recipe's.
    """
    file = run.folder / STATE
    if "run" in saved:  # of version 0 it is not known
        try:
            stored, wanted = run_record(saved["run"], file), run.recipe
        except ValueError as error:
            raise ValueError(f"{error}; {START_AGAIN}") from None
        clips = run.identity["clips"]
        differing = run_differences(stored, wanted, run.splits.fold, clips, ["precision"])
        _require(not differing, file, f"of another run ({'; '.join(differing)})")
    config, task = saved["config"], task_of(run.recipe)
    _require_config(config, asdict(task.config(run)), file)
    if run.recipe.model == "ast":  # no memory is taken before the shapes are known to fit
        try:
            with torch.device("meta"):
                shapes = task.empty_model(config).state_dict()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file} is of another model: {error}; {START_AGAIN}") from None
        _require_like(saved["model"], shapes, "model", file)
    return task.empty_model(config)


def _require_config(config: Mapping[str, Any], expected: Mapping[str, Any], file: Path) -> None:
    """The recipe's model, but for what it keeps of the one that it started from."""
    strange = ", ".join(sorted(map(repr, config.keys() - expected.keys())))
    _require(not strange, file, f"of a model that this version does not know ({strange:.60})")
    differing = []
    for name in config.keys() & expected.keys() - OF_INITIAL_WEIGHTS:
        given, value = config[name], expected[name]
        if isinstance(given, dict) and isinstance(value, dict):  # of an encoder
            _require_config(given, value, file)
        elif not _equal(given, value):
            differing.append(f"{name} {given!r:.60}, the recipe's is {value!r:.60}")
    _require(not differing, file, f"of another model ({'; '.join(sorted(differing))})")


def require_resumable(saved: Mapping[str, Any], state: TrainState, run: Run) -> None:
    """Raises ValueError unless all that a state file holds fits a run that has not begun."""
    file, recipe = run.folder / STATE, state.recipe
    epoch, batch = saved["epoch"], saved["batch"]
    within = (epoch, batch) <= (recipe.epochs, 0) and batch < state.steps_per_epoch
    _require(within, file, f"at epoch {epoch}, batch {batch}, beyond the end of the run")
    most = batch * recipe.batch_size
    _require(saved["clips"] <= most, file, f"after {saved['clips']} clips in {batch} batches")
    models = {"model": state.model, "ema": state.ema, "average": state.average}
    for name, model in models.items():
        if model is not None:
            _require(name in saved, file, f"of a recipe without {name}")
            _require_like(saved[name], model.state_dict(), name, file)
    if recipe.checkpoint_ensemble and epoch:
        shape = (len(run.splits.validation), len(run.manifest.classes))
        fits = saved["ensemble"] is not None and saved["ensemble"].shape == shape
        _require(fits, file, "of other predictions than the recipe's ensemble has")
    steps = epoch * state.steps_per_epoch + batch
    _require_optimizer(saved["optimizer"], state.optimizer, steps, file)
    _require_scaler(saved["scaler"], state.scaler, file)


def _require_optimizer(
    saved: Mapping[str, Any], optimizer: torch.optim.Optimizer, steps: int, file: Path
) -> None:
    """The same groups, and the moments of every parameter, or of none where no step was taken."""
    own = optimizer.state_dict()["param_groups"]
    groups, moments = saved.get("param_groups"), saved.get("state")
    like = isinstance(groups, list) and isinstance(moments, dict) and len(groups) == len(own)
    for group, expected in zip(groups if like else [], own, strict=False):
        names = (expected.keys() & group.keys() if isinstance(group, dict) else set()) - {SCHEDULED}
        like &= {"params", "scale"} <= names and all(_equal(group[n], expected[n]) for n in names)
        like &= isinstance(group, dict) and _is_number(group.get(SCHEDULED), math.inf)
    _require(like, file, "of another optimiser")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    _require(moments.keys() in (set(), {*range(len(parameters))}), file, "of other parameters")
    for index, moment in moments.items():
        known = isinstance(moment, dict) and moment.keys() == MOMENTS
        _require(known, file, f"damaged: parameter {index} has other moments than Adam's")
        shape = parameters[index].shape
        shapes = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        expected = {name: torch.empty(shapes[name], device="meta") for name in MOMENTS}
        _require_like(moment, expected, f"moments of parameter {index}", file)
        fits = 0 < moment["step"] <= steps and not (moment["exp_avg_sq"] < 0).any()
        _require(fits, file, f"damaged: parameter {index} has moments that no training gives")


def _require_scaler(saved: Mapping[str, Any], scaler: torch.amp.GradScaler, file: Path) -> None:
    """What scales the gradients in fp16; in other precisions there is none."""
    own = scaler.state_dict()
    fits = own.keys() <= saved.keys() and all(
        _is_number(saved[name], torch.finfo(torch.float32).max) for name in own
    )
    _require(fits, file, "of another precision")
    changing = {"scale", "_growth_tracker"}
    fits = all(saved[name] == own[name] for name in own.keys() - changing)
    _require(fits and (not own or saved["scale"] > 0), file, "damaged: of another gradient scale")


def _require_like(
    saved: Mapping[str, Any], expected: Mapping[str, Tensor], name: str, file: Path
) -> None:
    """Tensors of the same names, shapes and types."""
    strange = ", ".join(sorted(map(repr, saved.keys() ^ expected.keys()))[:3])
    _require(not strange, file, f"of another model: {name} differs in {strange:.200}")
    for key, tensor in expected.items():
        given = saved[key]
        like = isinstance(given, Tensor) and given.shape == tensor.shape
        like = like and given.dtype == tensor.dtype
        wanted = f"of shape {tuple(tensor.shape)} and {tensor.dtype}"
        _require(like, file, f"of another model: {name}, {key} is no tensor {wanted}")


def _equal(given: Any, expected: Any) -> bool:
    """Compare without asking a tensor for its truth."""
    if isinstance(given, int | float) and isinstance(expected, int | float):
        return given == expected
    if type(given) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(given) == len(expected) and all(map(_equal, given, expected))
    return given == expected


def _is_number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and 0 <= value < most


def _require(holds: bool, file: Path, what: str) -> None:
    if not holds:
        raise ValueError(f"{file} is {what}; {START_AGAIN}")
