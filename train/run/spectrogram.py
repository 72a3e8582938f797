"""The axes of a spectrogram: frequencies on the mel scale, and time."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator

from ast_model.frontend import KaldiFbank

TICKS = (250, 500, 1000, 2000, 4000, 8000, 16_000)  # Hz
TIME_STEPS = (15, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between two ticks


def draw_spectrogram(
    axes: Axes,
    columns: np.ndarray,
    seconds_a_column: float,
    fbank: KaldiFbank,
    start: float = 0.0,
    cmap: str = "magma",
):
    """Draw (columns, mels) with its frequencies in Hz, on the mel scale; returns the image."""
    mels = columns.shape[1]
    low, high = np.nanpercentile(columns, (5, 99.8))
    extent = (start, start + len(columns) * seconds_a_column, -0.5, mels - 0.5)
    image = axes.imshow(
        columns.T, cmap=cmap, vmin=low, vmax=max(high, low + 1), extent=extent, origin="lower",
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    lowest, highest = fbank.band
    ticks = [hertz for hertz in TICKS if lowest <= hertz <= highest]
    rows = [mel_row(hertz, mels, fbank.band) for hertz in ticks]
    positions = [min(max(row, -0.5), mels - 0.5) for row in rows]
    names = [f"{hertz} Hz" if hertz < 1000 else f"{hertz // 1000} kHz" for hertz in ticks]
    axes.set_yticks(positions, names)
    axes.set_ylabel("frequency")
    return image


def mel_row(hertz: float, num_mel_bins: int, band: tuple[float, float]) -> float:
    """Where a frequency lies in a spectrogram of that many bins: n at the centre of bin n.

    Args:
        band: lower and upper edge of the filterbank, in Hz.
    """

    def mel(frequency: float) -> float:
        return 1127 * math.log(1 + frequency / 700)

    low, high = map(mel, band)
    return (mel(hertz) - low) / (high - low) * (num_mel_bins + 1) - 1


def time_axis(axes: Axes, start: float, end: float) -> None:
    """From `start` to `end` seconds; of more than two minutes, in minutes."""
    axes.set_xlim(start, end)
    if end <= 120:
        axes.set_xlabel("time (s)")
        return
    axes.set_xlabel("time (min:s)")
    step = next((step for step in TIME_STEPS if end - start <= 12 * step), (end - start) / 12)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{int(t) // 60}:{int(t) % 60:02d}"))
