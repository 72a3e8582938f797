"""How far a command is with its recordings, how fast, and how long it will take."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from train.run.pace import duration

LINE_SECONDS = 60.0  # between two lines, where there is no terminal for a bar

logger = logging.getLogger(__name__)


class Progress:
    """A bar over the sound that was heard, and at the end a line that says how fast that was.

        with Progress("predict", recordings.seconds, recordings.sample_rate) as progress:
            progress.hear(waveform)
            progress.end_recording()

    Where there is no terminal, in the log of a batch job, a line a minute says what the bar does.

    Args:
        name: of the bar.
        seconds: each recording's length by its header.
        sample_rate: of the waveforms, Hz.
        before: recordings among them that were heard before, by an interrupted command.
    """

    def __init__(
        self,
        name: str,
        seconds: Mapping[Path, float],
        sample_rate: int,
        before: Collection[Path] = (),
    ) -> None:
        self.total = sum(seconds.values())
        self.before = sum(seconds[path] for path in before)
        already = f"; {len(before):,} of them heard before" if before else ""
        logger.info(f"{counted(len(seconds))}, {duration(self.total)} of sound{already}")
        self.sample_rate = sample_rate
        self.recordings = self.samples = 0  # heard
        self.bar = _Bar(
            total=self.total,
            initial=self.before,
            desc=name,
            leave=False,
            disable=None,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {files}, {heard} of {whole} "
            "[{elapsed}<{remaining}, {times} times real time]",
        )
        self.bar.recordings, self.bar.count = len(before), len(seconds)
        self.began = time.perf_counter()
        self.next_line = self.began + LINE_SECONDS

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def hear(self, waveform: Tensor) -> None:
        """Count a waveform, (samples,)."""
        self.samples += len(waveform)
        self.bar.update(len(waveform) / self.sample_rate)
        now = time.perf_counter()
        if self.bar.disable and now >= self.next_line:
            self.next_line = now + LINE_SECONDS
            logger.info(self._line(now - self.began))

    def end_recording(self) -> None:
        """Count a recording as heard."""
        self.recordings += 1
        self.bar.recordings += 1

    def through(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The blocks as they are, each counted when the next one is asked for."""
        for block in blocks:
            yield block
            self.hear(block)

    def finish(self) -> None:
        """Take the bar away and say how many recordings were heard, how fast."""
        self.bar.close()
        if not self.recordings:
            return  # all were heard before
        took, heard = time.perf_counter() - self.began, self.samples / self.sample_rate
        logger.info(
            f"{counted(self.recordings)}, {duration(heard)} of sound in {duration(took)}: "
            f"{_times(heard / took)} times real time"
        )

    def _line(self, took: float) -> str:
        heard = self.samples / self.sample_rate
        left = max(0.0, self.total - self.before - heard) * took / max(heard, 1e-9)
        return (
            f"{self.bar.recordings:,} of {counted(self.bar.count)}, "
            f"{duration(self.before + heard)} of {duration(self.total)} of sound, "
            f"{_times(heard / took)} times real time, about {duration(left)} left"
        )


class _Bar(tqdm):
    recordings = count = 0

    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        rate = known["rate"] or (known["n"] - known["initial"]) / max(known["elapsed"], 1e-9)
        return known | {
            "files": f"{self.recordings:,} of {self.count:,} files",
            "heard": duration(known["n"]),
            "whole": duration(known["total"] or 0),
            "times": _times(rate),
        }


def counted(recordings: int) -> str:
    """So many recordings, in words."""
    return f"{recordings:,} recording{'' if recordings == 1 else 's'}"


def _times(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
