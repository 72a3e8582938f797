"""Clips of mixed length in batches of which none is computed on padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice

from ast_model import AST, Frontend
from ast_model.baseline import Baseline

Frames = Callable[[int], int]


def own_frames(name: object, model: AST | Baseline, frontend: Frontend) -> Frames:
    """Of a clip's samples, the input frames that the model needs for it without padding.

    Args:
        name: of the model, for the error.

    Raises:
        ValueError: the model is no AST, so that it has one input length only.
    """
    if not isinstance(model, AST):
        raise ValueError(f"{name} is no AST: only an AST runs at a recording's own length")
    fbank = frontend.fbank

    def frames(samples: int) -> int:
        return model.config.unpadded_frames(fbank.num_frames(max(samples, fbank.window_size)))

    return frames


def buckets(
    samples: Sequence[int], batch_size: int, frames: Frames | None = None
) -> Iterator[list[int]]:
    """Indices of clips in batches of similar length, the shortest first.

    With `frames`, all clips of a batch need the same input frames: each then runs on the patches
    that it would run on alone, whatever else is in the batch.

    Args:
        samples: of each clip.
        frames: what `own_frames` gives; None where clips are padded.
    """
    order = sorted(range(len(samples)), key=samples.__getitem__)
    for _, bucket in groupby(order, lambda index: frames(samples[index]) if frames else 0):
        while batch := list(islice(bucket, batch_size)):
            yield batch
