"""Clips placed anywhere in the input, with background around, as windows of a long recording are.

A model that has only seen clips at the beginning of its input, with padding after them, takes the
silence of a long recording for one of its classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import irfft, next_fast_len
from torch import Tensor

EXCERPT = 2  # inputs: as much of a long recording is augmented
OVERHANG = 0.2  # of a clip, at most, that lies outside the input
SLIVER = 0.2  # of a clip, at most, in an example of background
SILENT = 0.3  # probability of digital silence around a clip, instead of noise
QUIETEST, LOUDEST = -90.0, -30.0  # level of the noise, in dB of full scale
BELOW_CLIP = 15.0  # dB from the clip to the noise, at least
STEEPEST = 2.0  # power of the noise falls with the frequency to at most this: 0 white, 2 brown
BACKGROUND_NAMES = frozenset(
    {"background", "background noise", "noise", "silence", "silent", "nothing"}
)


@dataclass(frozen=True)
class Placement:
    """Lays training clips in the network's input; a function of the clip and the generator alone.

    Args:
        samples: of the input.
        background_rate: share of examples that are background.
        background_target: of every class, in such an example.
    """

    samples: int
    background_rate: float
    background_target: float

    def excerpt(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """A random part of a waveform that is longer than `EXCERPT` inputs; a shorter one whole.

        What is cut away would be augmented for nothing, which takes long in long recordings.
        """
        size = EXCERPT * self.samples
        if len(waveform) <= size:
            return waveform
        start = int(generator.integers(len(waveform) - size + 1))
        return waveform[start : start + size]

    def place(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """A clip (samples,) anywhere in the input (self.samples,), noise around and under it.

        A clip that is longer than the input is cut. Up to `OVERHANG` of it may lie outside.
        """
        overhang = int(OVERHANG * min(len(waveform), self.samples))
        first, last = sorted((0, self.samples - len(waveform)))
        start = int(generator.integers(first - overhang, last + overhang + 1))
        return _lay(waveform, start, self._noise(waveform, generator))

    def background(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """The input without the clip, or with no more of it than a `SLIVER` at either end."""
        shown = int(generator.uniform(0, SLIVER) * min(len(waveform), self.samples))
        at_start, is_empty = generator.random(2) < 0.5
        start = shown - len(waveform) if at_start else self.samples - shown
        return _lay(waveform, self.samples if is_empty else start, self._noise(waveform, generator))

    def _noise(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """Noise of a random level and colour, quieter than the clip; or digital silence."""
        is_silent = generator.random() < SILENT
        clip_level = 10 * math.log10(max(float(waveform.square().mean()), 1e-12))
        loudest = max(QUIETEST, min(LOUDEST, clip_level - BELOW_CLIP))
        level, slope = generator.uniform(QUIETEST, loudest), generator.uniform(0, STEEPEST)
        if is_silent:
            return torch.zeros(self.samples)
        size = next_fast_len(self.samples, real=True)
        frequencies = np.arange(1, size // 2 + 2, dtype=np.float32)
        spectrum = generator.standard_normal((len(frequencies), 2), np.float32)
        spectrum *= (frequencies ** np.float32(-slope / 2))[:, None]
        noise = irfft(spectrum.view(np.complex64)[:, 0], size)[: self.samples]
        noise *= 10 ** (level / 20) / np.sqrt(np.square(noise).mean())
        return torch.from_numpy(noise)


def is_background(name: str) -> bool:
    """Whether a class of this name is what lies between the sounds of a recording."""
    return name.replace("_", " ").strip().lower() in BACKGROUND_NAMES


def _lay(waveform: Tensor, start: int, canvas: Tensor) -> Tensor:
    """Add to the canvas what of a waveform that begins at its sample `start` lies within it."""
    first, end = max(start, 0), min(start + len(waveform), len(canvas))
    if first < end:
        canvas[first:end] += waveform[first - start : end - start]
    return canvas
