"""What is heard when in a long recording: overlapping windows, and the scores of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Timeline:
    """Probabilities of every class in each window of a recording, in the order of time.

    Args:
        starts: (windows,) float64, seconds from the beginning of the recording.
        ends: (windows,) float64, seconds.
        probabilities: (windows, classes) float32.
        classes: names of the columns.
        multi_label: probabilities are independent (sigmoid); else those of a window sum to one.
    """

    starts: Tensor
    ends: Tensor
    probabilities: Tensor
    classes: tuple[str, ...]
    multi_label: bool

    def clip_probabilities(self) -> Tensor:
        """Probabilities of the whole recording, (classes,).

        Multi-label: the highest of the windows, since a sound is in the recording if it is in
        one window. Single-label: their mean, which sums to one again.
        """
        return self.probabilities.amax(0) if self.multi_label else self.probabilities.mean(0)

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes of the whole recording, best first: [(class, probability), ...]."""
        return likeliest(self.clip_probabilities(), self.classes, k)

    def segments(
        self, threshold: float | Sequence[float], gap: float = 0.0
    ) -> list[tuple[float, float, str, float]]:
        """Where each class is heard.

        Windows in which the class reaches the threshold are joined where they touch or overlap,
        so that segments of one class never overlap.

        Args:
            threshold: least probability of a window, in [0, 1]; of all classes, or one for each.
            gap: windows of one class that lie up to so many seconds apart are joined, too.

        Returns:
            [(start, end, class, probability), ...], sorted; times in seconds, and the highest
            probability of the joined windows.

        Raises:
            ValueError: a threshold is not in [0, 1], or the gap is negative or no number.
        """
        of_all = isinstance(threshold, int | float)
        thresholds = [threshold] * len(self.classes) if of_all else threshold
        for each in thresholds:
            if not 0 <= each <= 1:
                raise ValueError(f"threshold {each} is not a probability; use one in [0, 1]")
        if not 0 <= gap < math.inf:
            raise ValueError(f"gap {gap} s is not a length of time; use 0 or more seconds")
        segments = []
        columns = self.probabilities.unbind(1)
        for name, column, least in zip(self.classes, columns, thresholds, strict=True):
            heard = column >= least
            values = (values[heard].tolist() for values in (self.starts, self.ends, column))
            for start, end, probability in _merge(zip(*values, strict=True), gap):
                segments.append((start, end, name, probability))
        return sorted(segments)


def _merge(windows: Iterable[tuple[float, ...]], gap: float) -> list[tuple[float, ...]]:
    """Join windows (start, end, probability), in the order of time, up to `gap` s apart."""
    merged: list[tuple[float, ...]] = []
    for start, end, probability in windows:
        if merged and start <= merged[-1][1] + gap:
            start, _, highest = merged.pop()
            probability = max(probability, highest)
        merged.append((start, end, probability))
    return merged


def likeliest(probabilities: Tensor, classes: Sequence[str], k: int) -> list[tuple[str, float]]:
    """The k likeliest classes, best first, of probabilities (classes,); all if there are fewer."""
    if k < 1:
        raise ValueError(f"top_k {k} is not positive; ask for at least one class")
    best = probabilities.topk(min(k, len(classes)))
    return [
        (classes[index], value)
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def as_mono(waveform: Any) -> Tensor:
    """A tensor (samples,) of anything like one; ValueError if it is not one mono clip."""
    samples = waveform
    if isinstance(samples, np.ndarray):  # torch takes no negative strides, no foreign byte order
        samples = np.asarray(samples, samples.dtype.newbyteorder("="), order="C")
    try:
        samples = torch.as_tensor(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise no_waveform(waveform) from error
    if samples.dim() == 0:
        raise no_waveform(waveform)
    if samples.dim() != 1:
        raise ValueError(
            f"waveform has shape {tuple(samples.shape)}, expected (samples,): one mono clip; "
            "average the channels of stereo (mean over their axis), give several clips as a list "
            "(of a batch: list(batch)) or call the classifier with the batch"
        )
    return samples


def no_waveform(given: Any) -> ValueError:
    """The error for something that holds no samples."""
    dtype = f" of {given.dtype}" if hasattr(given, "dtype") else ""
    return ValueError(
        f"{type(given).__name__}{dtype} is no waveform; give the path of an audio file, or an "
        "array or tensor (samples,) of one mono clip and its rate as sample_rate=; give several "
        "recordings to classify, as a list"
    )


def windows(blocks: Iterable[Any], size: int, hop: int) -> Iterator[tuple[int, Tensor]]:
    """Overlapping windows of a recording that comes in blocks of any sizes.

    A window begins every `hop` samples as long as it fits. If samples are left, one more window
    ends with the recording: models have been trained on full windows rather than on padded ones.
    A recording shorter than a window is one shorter window.

    Memory is that of a few windows, however long a recording or a block is.

    Args:
        blocks: (samples,) each, consecutive; one may be overwritten when the next is asked for.
        size: samples of a window.
        hop: samples from one window to the next; 1 <= hop <= size.

    Yields:
        (index of the first sample, samples (size,)).

    Raises:
        ValueError: there are no samples, or a block is not (samples,).
    """
    held: list[Tensor] = []  # the samples from `first` to `end`
    first, end = 0, 0
    start = 0  # of the next window
    for piece in (piece.clone() for block in blocks for piece in as_mono(block).split(size)):
        held.append(piece)
        end += len(piece)
        if end < start + size:
            continue
        samples = torch.cat(held)
        while start + size <= end:
            yield start, samples[start - first :][:size]
            start += hop
        # The window that ends with the recording may begin right after the last one yielded.
        held, first = [samples[start - hop - first :]], start - hop
    if end == 0:
        raise ValueError("the recording holds no samples; give one of at least one window of 25 ms")
    if start == 0:
        yield 0, torch.cat(held)
    elif end > start - hop + size:
        yield end - size, torch.cat(held)[-size:]
