"""How far a command is with its recordings, and how fast that was."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from train.run.pace import duration

logger = logging.getLogger(__name__)


class Progress:
    """A bar over the sound that was heard, and at the end a line that says how fast that was.

        with Progress("predict", recordings.seconds, recordings.sample_rate) as progress:
            progress.hear(waveform)

    Args:
        name: of the bar.
        seconds: each recording's length by its header.
        sample_rate: of the waveforms, Hz.
    """

    def __init__(self, name: str, seconds: Mapping[Path, float], sample_rate: int) -> None:
        total = sum(seconds.values())
        logger.info(f"{counted(len(seconds))}, {duration(total)} of sound")
        self.sample_rate = sample_rate
        self.samples = 0  # heard
        self.bar = _Bar(
            total=total,
            desc=name,
            leave=False,
            disable=None,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {heard} of {whole} "
            "[{elapsed}<{remaining}, {times} times real time]",
        )
        self.began = time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def hear(self, waveform: Tensor) -> None:
        """Count a waveform, (samples,)."""
        self.samples += len(waveform)
        self.bar.update(len(waveform) / self.sample_rate)

    def through(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The blocks as they are, each counted when the next one is asked for."""
        for block in blocks:
            yield block
            self.hear(block)

    def finish(self, recordings: int) -> None:
        """Take the bar away and say how many recordings were heard, how fast."""
        self.bar.close()
        took, heard = time.perf_counter() - self.began, self.samples / self.sample_rate
        logger.info(
            f"{counted(recordings)}, {duration(heard)} of sound in {duration(took)}: "
            f"{_times(heard / took)} times real time"
        )


class _Bar(tqdm):
    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        rate = known["rate"] or known["n"] / max(known["elapsed"], 1e-9)
        return known | {
            "heard": duration(known["n"]),
            "whole": duration(known["total"] or 0),
            "times": _times(rate),
        }


def counted(recordings: int) -> str:
    """So many recordings, in words."""
    return f"{recordings:,} recording{'' if recordings == 1 else 's'}"


def _times(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
