"""Which patches of each clip are hidden: drawn for a batch at once, from each clip's seed alone.

The random numbers are a hash of (seed, draw, position), not the state of a generator. So a clip's
mask does not depend on the batch, the process or the device that it is in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

CLUSTERS = (3, 4, 5)  # patches along the side of a square; each clip has one of them

# splitmix64 (Steele, Lea and Flood, 2014), in signed integers, whose products wrap around too
INCREMENT = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
BITS = 24  # that float32 holds exactly


def hidden_first(seeds: Tensor, grid: tuple[int, int], clusters: bool, draw: int = 0) -> Tensor:
    """The patches of each clip in the order in which they are hidden, so many as are wanted.

    Without clusters the order is random. With clusters, squares of patches are hidden one after
    the other from random starts (SSAST, section 2.2); those that reach beyond the grid are cut. All
    squares of a clip are of one size, which is one of `CLUSTERS`.

    Args:
        seeds: (B,) int64.
        grid: patches along (frequency, time).
        draw: a number for each mask of a clip.

    Returns:
        (B, patches) int64: patch numbers, frequency-major.
    """
    if not clusters:
        return _uniforms(seeds, draw, grid[0] * grid[1]).argsort(dim=1, stable=True)
    # A square that starts before the grid may reach into it. To draw starts again and again hides
    # what to go through all of them once in random order hides: so each start gets a random time,
    # and a patch is hidden at the earliest time of the starts whose squares cover it.
    reach = max(CLUSTERS) - 1
    rows, columns = grid[0] + reach, grid[1] + reach
    uniforms = _uniforms(seeds, draw, rows * columns + 1)
    times = uniforms[:, 1:].unflatten(1, (rows, columns))
    by_side = []
    for side in CLUSTERS:
        unused = max(CLUSTERS) - side
        earliest = -max_pool2d(-times[:, None, unused:, unused:], side, stride=1)
        by_side.append(earliest.flatten(1))
    chosen = (uniforms[:, 0] * len(CLUSTERS)).long()
    hidden_at = torch.stack(by_side)[chosen, torch.arange(len(seeds), device=seeds.device)]
    return hidden_at.argsort(dim=1, stable=True)


def _uniforms(seeds: Tensor, draw: int, count: int) -> Tensor:
    """(B, count) float32 in [0, 1)."""
    stream = _hash(_hash(seeds) + draw)
    bits = _hash(stream[:, None] + torch.arange(count, device=seeds.device) * INCREMENT)
    return _shifted(bits, 64 - BITS).float() / 2**BITS


def _hash(values: Tensor) -> Tensor:
    values = values + INCREMENT
    values = (values ^ _shifted(values, 30)) * FIRST
    values = (values ^ _shifted(values, 27)) * SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """To the right by so many bits, filled with zeros."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
