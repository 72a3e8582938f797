"""The one thread that runs the model: a few windows of each recording in turn, clips in batches."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Condition, Thread
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ast_model import AudioClassifier
from ast_model.timeline import Timeline, windows
from train.device import autocast, run_in_threads
from train.inference.listening.verdicts import SAME
from train.inference.recordings import Recordings

CLIPS_AT_ONCE = 32  # that programs sent at the same time
ENDED = ("done", "cancelled", "failed")

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """The analysis of one recording: how far it is, and what was heard so far."""

    path: Path
    seconds: float
    state: str = "waiting"  # running, then one of `ENDED`
    error: str = ""
    pieces: list[Timeline] = field(default_factory=list, repr=False)
    windows: Iterator[Timeline] | None = field(default=None, repr=False)
    cancelled: bool = False

    @property
    def heard(self) -> float:
        """Share of the recording, in [0, 1]."""
        end = float(self.pieces[-1].ends[-1]) if self.pieces else 0.0
        return 1.0 if self.state == "done" else min(1.0, end / self.seconds)

    def segment(self, column: int, start: float, end: float) -> tuple[float, float, float] | None:
        """The windows from `start` to `end` (s): their exact times, a class's highest probability.

        None: no window begins at `start`, or none ends at `end`.
        """
        found: list[tuple[float, float, float]] = []
        for piece in list(self.pieces):
            if float(piece.ends[-1]) < start or float(piece.starts[0]) > end:
                continue
            inside = (piece.starts > start - SAME) & (piece.ends < end + SAME)
            values = piece.starts, piece.ends, piece.probabilities[:, column]
            found += zip(*(each[inside].tolist() for each in values), strict=True)
        if not found or abs(found[0][0] - start) > SAME or abs(found[-1][1] - end) > SAME:
            return None
        return found[0][0], found[-1][1], max(probability for *_, probability in found)

    @cached_property
    def best(self) -> list[tuple[str, float]]:
        """The three likeliest classes of a job that has ended: pages ask many times a second."""
        timeline = self.timeline()
        return [(name, round(p, 4)) for name, p in timeline.top(3)] if timeline else []

    def timeline(self) -> Timeline | None:
        """What was heard so far; None: nothing yet."""
        pieces = list(self.pieces)
        if not pieces:
            return None
        return Timeline(
            torch.cat([piece.starts for piece in pieces]),
            torch.cat([piece.ends for piece in pieces]),
            torch.cat([piece.probabilities for piece in pieces]),
            pieces[0].classes,
            pieces[0].multi_label,
        )


class Worker:
    """Runs a model in a thread of its own.

    Recordings take turns, a batch of windows each, so that a clip does not wait for a day of sound.

    Args:
        classifier: the model.
        precision: as `autocast` takes it.
        batch_size: windows that run through the model at a time.
        threads: of PyTorch, that the model runs in; None: as many as the caller's.
    """

    def __init__(
        self,
        classifier: AudioClassifier,
        precision: str,
        batch_size: int = 8,
        threads: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.precision = precision
        self.batch_size = batch_size
        self.threads = threads or torch.get_num_threads()
        self._jobs: deque[Job] = deque()
        self._clips: deque[tuple[Tensor, Future[Tensor]]] = deque()
        self._calls: deque[tuple[Callable[[], object], Future]] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def analyse(self, job: Job) -> None:
        """Put a recording behind those that are being analysed."""
        self._put(self._jobs, job)

    def probabilities(self, waveform: Tensor) -> Future[Tensor]:
        """(classes,) of a clip (samples,) up to the model's `longest_clip`."""
        future: Future[Tensor] = Future()
        self._put(self._clips, (waveform, future))
        return future

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run a function that uses the model, in the worker's precision."""
        future: Future[Result] = Future()
        self._put(self._calls, (function, future))
        return future

    def waiting(self) -> int:
        """Clips and calls that wait."""
        return len(self._clips) + len(self._calls)

    def close(self) -> None:
        """Stop after what runs at the moment."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _put(self, queue: deque, item: object) -> None:
        with self._changed:
            queue.append(item)
            self._changed.notify()

    def _run(self) -> None:
        run_in_threads(self.threads)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._jobs or self._clips or self._calls
                )
                if self._closed:
                    return
                clips = [self._clips.popleft() for _ in range(min(CLIPS_AT_ONCE, len(self._clips)))]
                call = self._calls.popleft() if self._calls else None
                job = self._jobs.popleft() if self._jobs else None
            if clips:
                self._hear(clips)
            if call:
                with self._autocast():
                    _settle(call[1], call[0])
            if job and self._step(job):
                self._put(self._jobs, job)

    def _hear(self, clips: list[tuple[Tensor, Future[Tensor]]]) -> None:
        waveforms = [waveform for waveform, _ in clips]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])

        def rows() -> Tensor:
            with self._autocast():
                batch = pad_sequence(waveforms, batch_first=True)
                return self.classifier.probabilities(batch, lengths).cpu()

        batch: Future[Tensor] = Future()
        _settle(batch, rows)
        for number, (_, future) in enumerate(clips):
            _settle(future, lambda number=number: batch.result()[number])

    def _step(self, job: Job) -> bool:
        """Hear a few windows more; whether there may be others."""
        if job.cancelled:
            job.state = "cancelled"
            return False
        job.state = "running"
        try:
            if job.windows is None:
                job.windows = self._windows(job.path)
            piece = next(job.windows, None)
        except (ValueError, OSError) as error:
            job.state, job.error = "failed", str(error)
            return False
        except Exception:
            logger.exception(f"the analysis of {job.path} failed")
            job.state, job.error = "failed", "the analysis failed; the server's terminal says why"
            return False
        if piece is None:
            job.state = "done"
            return False
        job.pieces.append(piece)
        return True

    def _windows(self, path: Path) -> Iterator[Timeline]:
        """A recording as `predict` hears it, a batch of windows at a time."""
        classifier = self.classifier
        recordings = Recordings([path], classifier)
        rate, longest = recordings.sample_rate, classifier.longest_clip
        blocks = recordings.stream(path)
        if round(recordings.seconds[path] * rate) <= longest:
            clip = recordings.load(path)
            if len(clip) <= longest:
                yield self._timeline([0], clip[None])
                return
            blocks = iter([clip])
        size = classifier.window_size
        stream = windows(blocks, size, size // 2)
        while batch := list(islice(stream, self.batch_size)):
            yield self._timeline([start for start, _ in batch], torch.stack([w for _, w in batch]))

    def _timeline(self, starts: list[int], waveforms: Tensor) -> Timeline:
        classifier, rate = self.classifier, self.classifier.frontend.config.sample_rate
        with self._autocast():
            probabilities = classifier.probabilities(waveforms).cpu()
        begin = torch.tensor(starts, dtype=torch.float64)
        spans = begin / rate, (begin + waveforms.shape[1]) / rate
        return Timeline(*spans, probabilities, classifier.classes, classifier.multi_label)

    def _autocast(self) -> torch.autocast:
        return autocast(next(self.classifier.parameters()).device, self.precision)


def _settle(future: Future[Result], function: Callable[[], Result]) -> None:
    """Give a future what a function returns or raises, unless nobody waits any longer."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
