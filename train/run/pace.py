"""How long a run takes, and when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

ENOUGH_SECONDS = 10.0  # of training, without the first step, which may compile or wait for workers
RECENT_EPOCHS = 5  # the first one decodes files that later ones find in the cache


@dataclass
class Pace:
    """The pace of a run in this process; a run that goes on is timed anew.

    `begin_epoch`, `look` (as often as losses are read), `end_steps` and `end_epoch` are called in
    this order in every epoch.
    """

    epochs: int  # of the run
    steps_per_epoch: int
    clock: Callable[[], float] = time.monotonic
    announced: bool = False  # whether the time to the end has been told
    seconds: list[float] = field(default_factory=list)  # of each epoch, evaluation and saving too
    steps_before: int = 0  # of the epoch under way, in an earlier process
    epoch_began: float = 0.0
    epoch_ended: float | None = None  # the one before
    steps_ended: float = 0.0
    first_look: tuple[int, float] | None = None  # steps of the run, and when

    def begin_epoch(self, steps: int) -> None:
        """An epoch begins, or goes on after so many steps of an earlier process."""
        self.epoch_began, self.steps_before = self.clock(), steps

    def look(self, step: int) -> float | None:
        """Seconds an epoch takes to train, as soon as that can be told, once.

        Args:
            step: optimiser steps of the run so far.
        """
        now = self.clock()
        if self.first_look is None:
            self.first_look = step, now
        first, since = self.first_look
        if self.announced or step == first or now - since < ENOUGH_SECONDS:
            return None
        return (now - since) / (step - first) * self.steps_per_epoch

    def end_steps(self) -> None:
        """The epoch's steps are done; evaluation follows."""
        self.steps_ended = self.clock()

    def end_epoch(self) -> float:
        """Seconds that an epoch takes, evaluated and saved: the median of the recent ones."""
        now = self.clock()
        done = self.steps_per_epoch - self.steps_before
        training = (self.steps_ended - self.epoch_began) * self.steps_per_epoch / max(done, 1)
        saving = 0.0 if self.epoch_ended is None else self.epoch_began - self.epoch_ended
        self.seconds.append(saving + training + now - self.steps_ended)
        self.epoch_ended = now
        return median(self.seconds[-RECENT_EPOCHS:])

    def announce(self, epoch_seconds: float, epochs_left: float, evaluated: bool) -> str:
        """The line that tells the time an epoch and the time to the end.

        Args:
            epochs_left: of the run; a part of one too.
            evaluated: whether the seconds count the evaluation.
        """
        self.announced = True
        left = epoch_seconds * epochs_left
        without = "" if evaluated else " without its evaluation"
        return (
            f"about {duration(epoch_seconds)} an epoch{without}, {duration(left)} to the end, "
            f"done {clock_time(datetime.now(), left)}"
        )


def duration(seconds: float) -> str:
    """A time in two units at most: 0.04 s, 1.3 s, 52 s, 6 min, 2 h 5 min, 3 days 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} days {hours % 24} h"


def clock_time(now: datetime, seconds: float) -> str:
    """When it is so many seconds later: "at 14:05", on another day "on Sun 29 Nov at 02:10"."""
    then = now + timedelta(seconds=seconds)
    day = "" if then.date() == now.date() else f"on {then:%a} {then.day} {then:%b} "
    return f"{day}at {then:%H:%M}"
