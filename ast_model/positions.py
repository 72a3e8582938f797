"""Fitting a learned positional grid to another number of patches (paper, section 2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("bilinear", "nearest")


def fit_positions(
    positions: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    mode: str = "bilinear",
) -> Tensor:
    """Fit positional embeddings to another patch grid; the special tokens keep theirs.

    Axis by axis, time first: a shorter axis keeps the middle of the old one, a longer one is
    interpolated. This is the authors' rule; the paper's text says "cut and bilinear interpolate".

    Args:
        positions: (1, special tokens + old frequency * old time, width); the special tokens come
            first, then the patches in frequency-major order.
        old_grid: (frequency, time) that `positions` was learned on.
        new_grid: (frequency, time) to fit it to.
        mode: "bilinear" (`align_corners=False`) or "nearest", for an axis that grows.

    Returns:
        (1, special tokens + new frequency * new time, width), same dtype.

    Raises:
        ValueError: `positions` does not hold `old_grid`, or the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"positions mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    old_frequency, old_time = old_grid
    num_special = positions.shape[1] - old_frequency * old_time
    if positions.dim() != 3 or num_special < 0:
        raise ValueError(
            f"positions of shape {tuple(positions.shape)} do not hold a grid of {old_grid} patches"
        )
    special, patches = positions[:, :num_special], positions[:, num_special:]
    width = positions.shape[2]
    grid = patches.transpose(1, 2).reshape(1, width, old_frequency, old_time)
    grid = _fit_axis(grid, 3, new_grid[1], mode)
    grid = _fit_axis(grid, 2, new_grid[0], mode)
    return torch.cat([special, grid.flatten(2).transpose(1, 2)], dim=1)


def _fit_axis(grid: Tensor, axis: int, new: int, mode: str) -> Tensor:
    old = grid.shape[axis]
    if new <= old:
        return grid.narrow(axis, old // 2 - new // 2, new)
    size = list(grid.shape[2:])
    size[axis - 2] = new
    align_corners = False if mode == "bilinear" else None
    return F.interpolate(grid, size=size, mode=mode, align_corners=align_corners)
