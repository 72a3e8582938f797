"""Spectrograms as pictures: beside what a model heard in them, or what it looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from torch import Tensor

from ast_model import AudioClassifier
from ast_model.frontend import KaldiFbank
from ast_model.timeline import Timeline, likeliest
from train.run.plots import VERMILION

MOST_COLUMNS = 2048  # of a spectrogram, more than a figure has pixels
CLASSES_DRAWN = 16  # in a timeline, all of a model that has no more
LOW_FREQUENCY = 20.0  # Hz, where KaldiFbank's lowest filter begins
TICKS = (250, 500, 1000, 2000, 4000, 8000, 16_000)  # Hz
TIME_STEPS = (15, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between two ticks
CELLS_WITH_NUMBERS = 12  # in a row of the timeline; more would overlap

# From transparent, so that the spectrogram shows through where the model hardly looks.
TRANSPARENT, OPAQUE = ((*to_rgb(VERMILION), alpha) for alpha in (0, 0.9))
ATTENTION = LinearSegmentedColormap.from_list("attention", [TRANSPARENT, OPAQUE])


class SpectrogramStream:
    """The log-mel spectrogram of a recording of any length, in a few thousand columns.

    A column is the mean of as many frames as it takes; memory does not grow with the recording.
    """

    def __init__(self, fbank: KaldiFbank) -> None:
        self.fbank = fbank
        self.frames_a_column = 1
        self.columns = torch.zeros(0, fbank.mel.shape[1])  # (columns, mels)
        self._frames = self.columns  # not yet a column
        self._samples = torch.zeros(0)  # not yet a frame

    @property
    def seconds_a_column(self) -> float:
        return self.frames_a_column * self.fbank.shift / self.fbank.sample_rate

    def through(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The blocks as they are, each added on its way."""
        for block in blocks:
            self.add(block)
            yield block

    def add(self, block: Tensor) -> None:
        """Add consecutive samples, (samples,)."""
        samples = torch.cat([self._samples, block])
        if len(samples) >= self.fbank.window_size:
            frames = self.fbank(samples[None].to(self.fbank.mel.device))[0][0].cpu()
            samples = samples[len(frames) * self.fbank.shift :]
            self._add_frames(frames)
        self._samples = samples.clone()

    def _add_frames(self, frames: Tensor) -> None:
        frames = torch.cat([self._frames, frames])
        whole = len(frames) // self.frames_a_column * self.frames_a_column
        added = frames[:whole].unflatten(0, (-1, self.frames_a_column)).mean(1)
        self.columns = torch.cat([self.columns, added])
        self._frames = frames[whole:].clone()
        while len(self.columns) > MOST_COLUMNS:
            if len(self.columns) % 2:  # the last has no partner: back to the frames it stands for
                last = self.columns[-1:].expand(self.frames_a_column, -1)
                self._frames = torch.cat([last, self._frames])
            pairs = self.columns[: len(self.columns) // 2 * 2].unflatten(0, (-1, 2))
            self.columns = pairs.mean(1)
            self.frames_a_column *= 2


def timeline_figure(spectrogram: SpectrogramStream, timeline: Timeline, title: str) -> Figure:
    """The recording's spectrogram, and below it the probabilities of its classes over time.

    Of many classes, those of the highest probabilities in any window are drawn, and a line says so.
    Where windows overlap, each is drawn up to half way to the next.
    """
    best = likeliest(timeline.probabilities.amax(0), timeline.classes, CLASSES_DRAWN)
    figure = Figure(figsize=(12, 4.6 + 0.3 * len(best)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 0.3 + 0.3 * len(best)))
    end = float(timeline.ends[-1])
    columns = spectrogram.columns.numpy()
    drawn = draw_spectrogram(above, columns, spectrogram.seconds_a_column, spectrogram.fbank)
    above.set_title(title, parse_math=False)
    figure.colorbar(drawn, ax=above, pad=0.01).set_label("log-mel energy")
    cells = _draw_classes(below, timeline, [name for name, _ in best])
    if len(best) < len(timeline.classes):
        chosen = f"{len(best)} of {len(timeline.classes)} classes: those with the highest"
        below.set_title(f"{chosen} probability in any window", loc="left", fontsize=10)
    figure.colorbar(cells, ax=below, pad=0.01, ticks=(0, 0.5, 1)).set_label("probability")
    _time_axis(below, 0, end)
    return figure


def _draw_classes(axes: Axes, timeline: Timeline, names: list[str]):
    rows = [timeline.classes.index(name) for name in names]
    values = timeline.probabilities[:, rows].T.numpy()  # (classes, windows)
    starts, ends = timeline.starts.numpy(), timeline.ends.numpy()
    centres = (starts + ends) / 2
    edges = np.concatenate([starts[:1], (centres[1:] + centres[:-1]) / 2, ends[-1:]])
    cells = axes.pcolormesh(edges, np.arange(len(rows) + 1), values, cmap="Blues", vmin=0, vmax=1)
    labels = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels, parse_math=False)
    axes.hlines(np.arange(1, len(rows)), edges[0], edges[-1], color="#D8D8D8", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    if len(centres) <= CELLS_WITH_NUMBERS:
        for row, column in np.ndindex(values.shape):
            centre = ((edges[column] + edges[column + 1]) / 2, row + 0.5)
            colour = "white" if values[row, column] > 0.45 else "#444444"
            text = f"{values[row, column]:.0%}"
            axes.annotate(text, centre, ha="center", va="center", color=colour, fontsize=9)
    return cells


def attention_figure(
    classifier: AudioClassifier, waveform: Tensor, attention: Tensor, start: float, title: str
) -> Figure:
    """An attention map over the spectrogram of what the model looked at.

    Overlapping patches are drawn at their centres, as wide and as high as the stride.

    Args:
        waveform: (samples,), up to the model's window.
        attention: (frequency, time), sum 1.
        start: of the waveform in its recording, seconds.
    """
    config, fbank = classifier.model.config, classifier.frontend.fbank
    step = fbank.shift / fbank.sample_rate  # seconds a frame
    columns = fbank(waveform[None].to(fbank.mel.device))[0][0].cpu().numpy()
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots()
    draw_spectrogram(axes, columns, step, fbank, start, cmap="gray_r")
    rows, times = attention.shape
    (patch_height, patch_width), (high, wide) = config.patch, config.stride
    left, bottom = (patch_width - wide) / 2 * step, (patch_height - high) / 2 - 0.5
    extent = (start + left, start + left + times * wide * step, bottom, bottom + rows * high)
    relative = attention.numpy() * attention.numel()  # 1: as much as every patch would have
    image = axes.imshow(
        relative, cmap=ATTENTION, vmin=0, extent=extent, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    end = start + config.num_frames * step
    _mark_padding(axes, start + len(columns) * step, end, step)
    axes.set_ylim(-0.5, columns.shape[1] - 0.5)
    axes.set_title(title, parse_math=False)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("attention, 1 = the mean of all patches")
    _time_axis(axes, start, end)
    return figure


def _mark_padding(axes: Axes, start: float, end: float, step: float) -> None:
    if end - start < 2 * step:
        return
    axes.axvline(start, color="#444444", linewidth=1, linestyle="--")
    if end - start > 60 * step:
        style = {"ha": "center", "va": "top", "color": "#444444"}
        axes.text((start + end) / 2, 0.97, "padding", transform=axes.get_xaxis_transform(), **style)


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
    low, high = np.percentile(columns, (5, 99.8))
    extent = (start, start + len(columns) * seconds_a_column, -0.5, mels - 0.5)
    image = axes.imshow(
        columns.T, cmap=cmap, vmin=low, vmax=max(high, low + 1), extent=extent, origin="lower",
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    ticks = [hertz for hertz in TICKS if hertz <= fbank.sample_rate / 2]
    positions = [min(mel_row(hertz, mels, fbank.sample_rate), mels - 0.5) for hertz in ticks]
    names = [f"{hertz} Hz" if hertz < 1000 else f"{hertz // 1000} kHz" for hertz in ticks]
    axes.set_yticks(positions, names)
    axes.set_ylabel("frequency")
    return image


def mel_row(hertz: float, num_mel_bins: int, sample_rate: int) -> float:
    """Where a frequency lies in a spectrogram of that many bins: n at the centre of bin n."""

    def mel(frequency: float) -> float:
        return 1127 * math.log(1 + frequency / 700)

    low, high = mel(LOW_FREQUENCY), mel(sample_rate / 2)
    return (mel(hertz) - low) / (high - low) * (num_mel_bins + 1) - 1


def _time_axis(axes: Axes, start: float, end: float) -> None:
    axes.set_xlim(start, end)
    if end <= 120:
        axes.set_xlabel("time (s)")
        return
    axes.set_xlabel("time (min:s)")
    step = next((step for step in TIME_STEPS if end - start <= 12 * step), (end - start) / 12)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{int(t) // 60}:{int(t) % 60:02d}"))
