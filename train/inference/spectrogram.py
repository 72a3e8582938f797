"""Spectrograms as pictures: beside what a model heard in them, or what it looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ast_model import AudioClassifier
from ast_model.frontend import KaldiFbank
from ast_model.timeline import Timeline, likeliest
from train.run.plots import VERMILION
from train.run.spectrogram import draw_spectrogram, time_axis

MOST_COLUMNS = 2048  # of a spectrogram, more than a figure has pixels
CLASSES_DRAWN = 16  # in a timeline, all of a model that has no more
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
    above.set_title(_drawable(title), parse_math=False)
    figure.colorbar(drawn, ax=above, pad=0.01).set_label("log-mel energy")
    cells = _draw_classes(below, timeline, [name for name, _ in best])
    if len(best) < len(timeline.classes):
        chosen = f"{len(best)} of {len(timeline.classes)} classes: those with the highest"
        below.set_title(f"{chosen} probability in any window", loc="left", fontsize=10)
    figure.colorbar(cells, ax=below, pad=0.01, ticks=(0, 0.5, 1)).set_label("probability")
    time_axis(below, 0, end)
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

    The arguments are those of `draw_attention`.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots()
    image = draw_attention(axes, classifier, waveform, attention, start)
    axes.set_title(_drawable(title), parse_math=False)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("attention, 1 = the mean of all patches")
    return figure


def draw_attention(
    axes: Axes,
    classifier: AudioClassifier,
    waveform: Tensor,
    attention: Tensor,
    start: float = 0.0,
):
    """Draw an attention map over a grey spectrogram; returns the image of the map.

    Overlapping patches are drawn at their centres, as wide and as high as the stride.

    Args:
        waveform: (samples,), up to the model's window.
        attention: (frequency, time), sum 1.
        start: of the waveform in its recording, seconds.
    """
    config, fbank = classifier.model.config, classifier.frontend.fbank
    step = fbank.shift / fbank.sample_rate  # seconds a frame
    columns = fbank(waveform[None].to(fbank.mel.device))[0][0].cpu().numpy()
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
    time_axis(axes, start, end)
    return image


def _mark_padding(axes: Axes, start: float, end: float, step: float) -> None:
    if end - start < 2 * step:
        return
    axes.axvline(start, color="#444444", linewidth=1, linestyle="--")
    if end - start > 60 * step:
        style = {"ha": "center", "va": "top", "color": "#444444"}
        axes.text((start + end) / 2, 0.97, "padding", transform=axes.get_xaxis_transform(), **style)


def _drawable(title: str) -> str:
    """The name of a file whose bytes are not UTF-8 has characters that no font can have."""
    return title.encode(errors="backslashreplace").decode()
