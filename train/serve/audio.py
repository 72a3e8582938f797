"""One recording that is looked at: any part of it is read from its file when it is asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from data.audio import Header, read_spans
from train.serve.jobs import Job

WAV_HEADER = 44  # bytes
LONGEST_WAV = 600.0  # seconds: 4 GiB, all that a WAV can hold, is less than a day


@dataclass(eq=False)
class Recording:
    """A file, what its header says, and the job that analyses it."""

    id: str
    name: str  # for people
    path: Path
    header: Header
    job: Job
    digest: str = ""  # of an upload's content
    colours: tuple[float, float] | None = field(default=None, repr=False)  # log-mel energies

    @property
    def seconds(self) -> float:
        return self.header.seconds

    @property
    def place(self) -> Path:
        """What a table of verdicts calls it: of an upload, uploads of one name are told apart."""
        return Path(f"upload-{self.digest}", self.name) if self.digest else self.path

    def waveforms(self, starts: Iterable[float], seconds: float, sample_rate: int) -> list[Tensor]:
        """Samples (samples,) from each start (s) on at that rate; fewer where the file ends."""
        rate = self.header.sample_rate
        begins = (round(start * rate) for start in starts)
        spans = read_spans(self.path, begins, round(seconds * rate))
        if rate != sample_rate:
            spans = [soxr.resample(samples, rate, sample_rate) for samples in spans]
        return [torch.from_numpy(samples) for samples in spans]


class Wav:
    """A span of a recording as a mono 16-bit WAV that exists only where it is read.

    Args:
        recording: at whose sample rate it is.
        start, end: seconds.
    """

    def __init__(self, recording: Recording, start: float, end: float) -> None:
        rate = recording.header.sample_rate
        self.path = recording.path
        self.first = round(start * rate)
        self.samples = round(end * rate) - self.first
        self.header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", 36 + 2 * self.samples, b"WAVE", b"fmt ", 16),
            *(1, 1, rate, 2 * rate, 2, 16),  # PCM, channels, rate, bytes a second and sample, bits
            *(b"data", 2 * self.samples),
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return WAV_HEADER + 2 * self.samples

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` up to `end`; silence where the file has fewer samples than it says."""
        begin = max(0, start - WAV_HEADER) // 2  # samples
        count = max(0, -(-(end - WAV_HEADER) // 2) - begin)
        (samples,) = read_spans(self.path, [self.first + begin], count)
        samples = np.pad(samples, (0, count - len(samples)))
        data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        skipped = max(0, start - WAV_HEADER) - 2 * begin
        length = end - max(start, WAV_HEADER)
        return self.header[start:end] + data[skipped : skipped + max(0, length)]
