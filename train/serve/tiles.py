"""Spectrograms in tiles, drawn when they are looked at; and attention over them."""

from __future__ import annotations

import io
from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ast_model.frontend import KaldiFbank
from train.run.spectrogram import TICKS, mel_row
from train.serve.audio import Recording

COLUMNS = 256  # of a tile
WHOLE_LEVELS = 5  # up to 2^5 frames a column are all read; of more, a few in their middle
WHOLE_SAMPLES = 2**24  # of the file, that are read for a tile
SAMPLED = 8  # frames
HIGHEST_LEVEL = 24  # 2^24 frames of 10 ms are two days a column
MOST_TILES = 2**32  # of a level
CACHE_BYTES = 64 * 2**20
EXCERPTS = 24  # of a recording, for the range of its colours
PALETTE = (colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()


class Tiles:
    """PNG tiles of recordings: a column is 2^level frames, a tile 256 columns.

    Where a column is longer than 32 frames (fewer above 200 kHz) it shows eight of them, so that a
    tile of hours costs no more than 256 short reads. Tiles are kept up to 64 MiB.
    """

    def __init__(self, fbank: KaldiFbank) -> None:
        self.fbank = fbank
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    @property
    def step(self) -> float:
        """Seconds a frame."""
        return self.fbank.shift / self.fbank.sample_rate

    def ticks(self) -> list[tuple[int, float]]:
        """(Hz, share of the height from below) of the frequency axis."""
        mels, band = self.fbank.mel.shape[1], self.fbank.band
        low, high = band
        return [(t, (mel_row(t, mels, band) + 0.5) / mels) for t in TICKS if low <= t <= high]

    def png(self, recording: Recording, level: int, number: int) -> bytes:
        """The tile from column `number` times 256 on.

        Raises:
            ValueError: it lies beyond the recording, or the file cannot be read.
        """
        if not 0 <= level <= HIGHEST_LEVEL or not 0 <= number < MOST_TILES:
            raise ValueError(f"there is no tile {number} of level {level}")
        key = recording.id, level, number
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        png = self._draw(recording, level, number)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = png
                self._size += len(png)
            while self._size > CACHE_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1])
        return png

    def _draw(self, recording: Recording, level: int, number: int) -> bytes:
        column = self.step * 2**level  # seconds
        start = number * COLUMNS * column
        count = min(COLUMNS, int(np.ceil((recording.seconds - start) / column)))
        if count <= 0:
            raise ValueError(f"{recording.name} ends before tile {number} of level {level}")
        samples = count * column * recording.header.sample_rate
        if level <= WHOLE_LEVELS and samples <= WHOLE_SAMPLES:
            columns = self._whole(recording, start, count, 2**level)
        else:
            columns = self._sampled(recording, start + column / 2 + column * np.arange(count))
        if recording.colours is None:
            recording.colours = self._range(recording)
        low, high = recording.colours
        shades = ((columns - low) / (high - low)).clamp(0, 1).mul(255).byte().numpy()
        image = Image.fromarray(np.ascontiguousarray(shades.T[::-1]), mode="P")
        image.putpalette(PALETTE)
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    def _whole(self, recording: Recording, start: float, count: int, frames: int) -> Tensor:
        """(columns, mels), each the mean of its frames."""
        seconds = (count * frames * self.fbank.shift + self.fbank.window_size) / self._rate
        (waveform,) = recording.waveforms([start], seconds, self._rate)
        fbank = self._frames(waveform[None])[0]
        missing = count * frames - len(fbank)
        if missing > 0:  # of the last column, where the recording ends within a window
            fbank = torch.cat([fbank, fbank[-1:].expand(missing, -1)])
        return fbank[: count * frames].unflatten(0, (count, frames)).mean(1)

    def _sampled(self, recording: Recording, middles: np.ndarray) -> Tensor:
        """(columns, mels), each the mean of a few frames from its middle on."""
        samples = self.fbank.num_samples(SAMPLED)
        excerpts = torch.zeros(len(middles), samples)
        seconds = samples / self._rate
        starts = middles.clip(0, max(0, recording.seconds - seconds)).tolist()
        waveforms = recording.waveforms(starts, seconds, self._rate)
        for excerpt, waveform in zip(excerpts, waveforms, strict=True):
            excerpt[: len(waveform)] = waveform[:samples]
        return self._frames(excerpts).mean(1)

    def _range(self, recording: Recording) -> tuple[float, float]:
        """Log-mel energies of the darkest and the brightest colour, of excerpts all over."""
        middles = recording.seconds * (np.arange(EXCERPTS) + 0.5) / EXCERPTS
        low, high = np.percentile(self._sampled(recording, middles).numpy(), (5, 99.8))
        return float(low), max(float(high) + 1, float(low) + 1)

    def _frames(self, waveforms: Tensor) -> Tensor:
        """(clips, frames, mels); clips shorter than a window are filled with silence."""
        short = self.fbank.window_size - waveforms.shape[1]
        waveforms = torch.nn.functional.pad(waveforms, (0, max(0, short)))
        return self.fbank(waveforms.to(self.fbank.mel.device))[0].cpu()

    @property
    def _rate(self) -> int:
        return self.fbank.sample_rate
