"""The order of a training epoch: shuffled or balanced, for one process or one of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.manifest import Clip, Clips

# Ends of the seeds: they keep these streams apart from each other and from those of
# `clip_generator`, whose seeds have a word less, which numpy fills up with 0.
SHUFFLED, BALANCED = (0, 1), (0, 2)


def clip_weights(clips: Sequence[Clip], num_classes: int) -> np.ndarray:
    """How often to draw each clip so that rare classes are heard more often.

    A class weighs 1000 / (clips that have it + 0.01), a clip the sum over its classes (the authors'
    code for AudioSet).

    It helps where some classes have a hundred times the clips of others and all of them count alike
    in the metric (mean average precision). It hurts where a rare class has a handful of clips,
    which are then learned by heart, and it shifts the scores away from how common a class is.

    Returns:
        (clips,) float64, above 0.

    Raises:
        ValueError: a clip has no class, so that it would never be drawn; or one beyond
            `num_classes`.
    """
    targets, counts = Clips.of(clips).targets()
    if not counts.all():
        raise ValueError(
            f"{(counts == 0).sum()} of {len(clips)} clips have no class (first: "
            f"{clips[int(counts.argmin())].path}) and balanced sampling would never draw them: "
            "give them one, remove them, or shuffle"
        )
    if len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise ValueError(
            f"clips have the classes {targets.min()} to {targets.max()}: expected 0 to "
            f"{num_classes - 1}"
        )
    class_weights = 1000 / (np.bincount(targets, minlength=num_classes) + 0.01)
    owners = np.repeat(np.arange(len(clips)), counts)
    return np.bincount(owners, class_weights[targets], minlength=len(clips))


def balanced_order(weights: np.ndarray, num_draws: int, seed: int, epoch: int) -> np.ndarray:
    """Draw clips with replacement, each in proportion to its weight; a function of (seed, epoch).

    weights: (clips,), as `clip_weights` gives them. Returns (num_draws,) int64.
    """
    generator = np.random.default_rng([seed, epoch, *BALANCED])
    return generator.choice(len(weights), num_draws, p=weights / weights.sum())


@dataclass(frozen=True, eq=False)
class Batches(Sequence[list[int]]):
    """Lists of clip indices, each made when it is asked for; equal to any sequence of the same."""

    order: np.ndarray  # (draws,) int64
    bounds: np.ndarray  # (batches, 2) where each begins and ends in `order`

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Batches(self.order, self.bounds[index])
        first, end = self.bounds[index]
        return self.order[first:end].tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


def epoch_batches(
    num_clips: int,
    batch_size: int,
    seed: int,
    epoch: int,
    weights: np.ndarray | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Batches:
    """The batches of a training epoch, a function of (seed, epoch): lists of clip indices.

    Shuffled, no clip is dropped or taken twice. With `weights`, as many clips are drawn with
    replacement; draw number d, of clip c, is index c + d * num_clips, which `ClipDataset` takes for
    clip c with random numbers of this draw's own. The last batch holds what is left.

    Of several processes, each gets a contiguous shard of every batch, in the order of their ranks:
    joined, the shards are the batches of one process. They differ in size by at most one clip; of a
    last batch with fewer clips than processes, some are empty. All ranks have equally many batches.

    Args:
        batch_size: clips of a batch, over all processes.
        weights: (num_clips,), to draw by; None shuffles.
        rank, world_size: which of how many processes.

    Raises:
        ValueError: not as many weights as clips, or no such rank.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}: expected from 0 to {world_size - 1}")
    if weights is None:
        order = np.random.default_rng([seed, epoch, *SHUFFLED]).permutation(num_clips)
    elif len(weights) == num_clips:
        order = balanced_order(weights, num_clips, seed, epoch)
        order += np.arange(num_clips) * num_clips
    else:
        raise ValueError(f"{len(weights)} weights for {num_clips} clips: expected one for each")
    starts = np.arange(0, num_clips, batch_size)
    sizes = np.minimum(batch_size, num_clips - starts)
    edges = [starts + sizes * shard // world_size for shard in (rank, rank + 1)]
    return Batches(order, np.stack(edges, axis=1))
