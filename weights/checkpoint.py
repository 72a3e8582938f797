"""From the tensors of a file to a classifier: collect by name and shape, adapt, build."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.positions import fit_positions
from weights.names import is_head

logger = logging.getLogger(__name__)

STATISTICS = {
    "AudioSet": (-4.2677393, 4.5689974),
    "ESC-50": (-6.6268077, 5.358466),
    "Speech Commands": (-6.845978, 5.5654526),
}
"""Mean and std of the log-mel values, from the authors' recipes."""

AUDIOSET_CLASSES = 527
MOST_NOTES = 5  # of classes that are renamed

Positions = Literal["bilinear", "nearest", "reinit"]


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a file; `state` has no head if the file has none."""

    config: ASTConfig
    state: dict[str, Tensor]  # float32, under our names
    frontend: FrontendConfig
    classes: tuple[str, ...]
    multi_label: bool


def numbered_classes(count: int) -> tuple[str, ...]:
    """Names for classes whose own are unknown: class_0, class_1, …"""
    return tuple(f"class_{index}" for index in range(count))


def distinct(classes: Sequence[str], source: object) -> tuple[str, ...]:
    """The names of a file's classes; those that occur twice get their index, with a note."""
    names: dict[str, str] = {}  # from what a class is called to what the file calls it
    for index, name in enumerate(classes):
        own = name
        while own in names:
            own = f"{own} ({index})"
        names[own] = name
    changed = [(index, own) for index, (own, name) in enumerate(names.items()) if own != name]
    for index, own in changed[:MOST_NOTES]:
        logger.warning(f"{source}: class {index} has the name of another one: it is {own!r:.100}")
    if len(changed) > MOST_NOTES:
        logger.warning(f"{source}: {len(changed)} classes have the name of another one")
    return tuple(names)


def collect(
    stored: Mapping[str, Tensor],
    config: ASTConfig,
    names: Callable[[str], list[str]],
    source: object,
    with_head: bool = True,
    ignorable: str = r"(?!)",
) -> dict[str, Tensor]:
    """The file's tensors under our names, in float32.

    Args:
        stored: the tensors under the file's names.
        config: the architecture that they have to fit exactly.
        names: the function of `weights.names` for this kind of file.
        source: what to call the file in messages.
        with_head: whether the file has a class head.
        ignorable: regular expression of the keys that are not needed; those found are logged.

    Raises:
        ValueError: a key is missing or unknown, or a tensor has another shape than `config` asks.
    """
    if config.depth > len(stored):  # a damaged file could ask for millions of blocks
        raise ValueError(f"{source}: a depth of {config.depth} does not fit {len(stored)} tensors")
    with torch.device("meta"):  # names and shapes only
        expected = AST(config).state_dict()
    if not with_head:
        expected = {name: tensor for name, tensor in expected.items() if not is_head(name)}
    wanted = {part for name in expected for part in names(name)}
    missing, rest = wanted - stored.keys(), stored.keys() - wanted
    ignored = {name for name in rest if re.fullmatch(ignorable, name)}
    unknown = rest - ignored
    if missing or unknown:
        raise ValueError(
            f"{source} does not hold this AST: missing {sorted(missing)[:3]} "
            f"({len(missing)} in all), unknown {sorted(unknown)[:3]!s:.200} ({len(unknown)} in all)"
        )
    if ignored:
        logger.warning(f"{source}: ignored, no AST needs them: {', '.join(sorted(ignored)):.1000}")
    return {name: _join(stored, names(name), tensor, source) for name, tensor in expected.items()}


def _join(
    stored: Mapping[str, Tensor], parts: list[str], expected: Tensor, source: object
) -> Tensor:
    for part, slot in zip(parts, expected.chunk(len(parts)), strict=True):
        if stored[part].shape != slot.shape:
            raise ValueError(
                f"{source}: {part} has shape {tuple(stored[part].shape)}, "
                f"the configuration asks for {tuple(slot.shape)}"
            )
    return torch.cat([stored[part].float() for part in parts])


def carry_positions(
    positions: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], mode: Positions
) -> Tensor:
    """`fit_positions`; or, with "reinit", random ones (std 0.02) for all tokens."""
    if mode not in get_args(Positions):
        raise ValueError(f"positions {mode!r} is unknown; use {', '.join(get_args(Positions))}")
    if mode != "reinit":
        return fit_positions(positions, old_grid, new_grid, mode)
    num_special = positions.shape[1] - old_grid[0] * old_grid[1]
    random = positions.new_empty(1, num_special + new_grid[0] * new_grid[1], positions.shape[2])
    return nn.init.trunc_normal_(random, std=0.02)


def adapt(checkpoint: Checkpoint, positions: Positions = "bilinear", **requests: Any) -> Checkpoint:
    """The checkpoint for another input, stride, pooling or number of classes.

    Each change is logged.

    Args:
        checkpoint: what a file holds.
        positions: how they are carried to another grid; "reinit" makes them random on any.
        **requests: fields of `ASTConfig` (`num_frames`, `num_mel_bins`, `stride`, `pooling`,
            `num_classes`); None leaves a field as it is.

    Raises:
        ValueError: a request is out of range.
    """
    old = checkpoint.config
    requested = {name: value for name, value in requests.items() if value is not None}
    config = replace(old, **requested)
    state = dict(checkpoint.state)
    state["positions"] = carry_positions(state["positions"], old.grid, config.grid, positions)
    if positions == "reinit":
        logger.warning("positions made anew, randomly")
    elif config.grid != old.grid:
        logger.warning(f"positions fitted from {_shape(old.grid)} patches to {_shape(config.grid)}")
    for name in ("num_frames", "num_mel_bins", "stride", "pooling"):
        if getattr(config, name) != getattr(old, name):
            logger.warning(f"{name} changed from {getattr(old, name)} to {getattr(config, name)}")
    names = checkpoint.classes
    if config.num_classes != old.num_classes:
        state = {name: tensor for name, tensor in state.items() if not is_head(name)}
        names = numbered_classes(config.num_classes)
        logger.warning(f"a new head for {config.num_classes} classes instead of {old.num_classes}")
    frontend = replace(
        checkpoint.frontend, num_frames=config.num_frames, num_mel_bins=config.num_mel_bins
    )
    return Checkpoint(config, state, frontend, names, checkpoint.multi_label)


def build(checkpoint: Checkpoint) -> AudioClassifier:
    """The classifier, in evaluation mode on the CPU; a missing head is initialised randomly."""
    with torch.device("meta"):
        model = AST(checkpoint.config)
    model.load_state_dict(checkpoint.state, strict=False, assign=True)  # `collect` was strict
    if not any(map(is_head, checkpoint.state)):
        model.head_norm.to_empty(device="cpu")
        model.head.to_empty(device="cpu")
        model.reset_head()
    frontend = Frontend(checkpoint.frontend)
    classifier = AudioClassifier(model, frontend, checkpoint.classes, checkpoint.multi_label)
    return classifier.eval()


def _shape(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
