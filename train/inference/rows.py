"""Recordings heard in consecutive rows of equal length, as BirdCLEF scores soundscapes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ast_model import AudioClassifier
from ast_model.timeline import Timeline
from train.inference.recordings import Unreadable

ROW_SECONDS = 5


def row_id(path: Path, start: float) -> str:
    """BirdCLEF's name of the row of a recording that begins at so many seconds."""
    return f"{path.stem}_{round(start) + ROW_SECONDS}"


def require_rows(classifier: AudioClassifier) -> None:
    """ValueError where a model cannot hear a row at once."""
    seconds = classifier.longest_clip / classifier.frontend.config.sample_rate
    if seconds < ROW_SECONDS:
        raise ValueError(
            f"the model hears {seconds:.2f} s at most at once, and a row lasts {ROW_SECONDS} s; "
            "use one that was trained with --num-frames 500"
        )


def require_own_stems(paths: Iterable[Path]) -> None:
    """ValueError where the rows of two recordings would have one name."""
    holders: dict[str, Path] = {}
    for path in paths:
        other = holders.setdefault(path.stem, path)
        if other != path:
            raise ValueError(
                f"the rows of {other} and {path} would have one name, {row_id(path, 0)} …; rename "
                "one, or leave it out"
            )


def rows_of(blocks: Iterable[Tensor], size: int, least: int) -> Iterator[Tensor]:
    """Consecutive rows of a recording, (size,) each but the last, which may be shorter.

    Memory is that of a row and a block. A rest of fewer than `least` samples is no row.
    """
    held, count = [], 0
    for piece in (piece for block in blocks for piece in block.split(size)):
        held.append(piece.clone())
        count += len(piece)
        if count >= size:
            samples = torch.cat(held)
            yield samples[:size]
            held, count = [samples[size:]], count - size
    if count >= least:
        yield torch.cat(held)


def row_timeline(
    classifier: AudioClassifier, path: Path, blocks: Iterable[Tensor], batch_size: int
) -> Timeline:
    """The probabilities of every class in each row; shorter rows are padded as in training.

    Args:
        path: of the recording, for the error.
        blocks: (samples,) each, consecutive, at the model's rate.

    Raises:
        Unreadable: the recording is too short for a row.
    """
    rate = classifier.frontend.config.sample_rate
    stream = rows_of(blocks, ROW_SECONDS * rate, classifier.frontend.fbank.window_size)
    # Kept tensors of each batch would lie between large ones, and scatter what those free.
    lengths, probabilities = [], array("f")
    while batch := list(islice(stream, batch_size)):
        lengths += [len(row) for row in batch]
        stacked, own = pad_sequence(batch, batch_first=True), torch.tensor(lengths[-len(batch) :])
        probabilities.frombytes(classifier.probabilities(stacked, own).cpu().numpy().tobytes())
    if not lengths:
        raise Unreadable(f"{path} is too short for a row: a model needs at least 25 ms")
    starts = torch.arange(len(lengths), dtype=torch.float64) * ROW_SECONDS
    ends = starts + torch.tensor(lengths, dtype=torch.float64) / rate
    found = torch.frombuffer(probabilities, dtype=torch.float32).view(len(lengths), -1)
    return Timeline(starts, ends, found, classifier.classes, classifier.multi_label)
