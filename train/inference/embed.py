"""Vectors that describe recordings, to search, cluster or train on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ast_model import AudioClassifier
from ast_model.timeline import windows
from train.buckets import Frames, buckets, own_frames
from train.device import autocast
from train.inference.background import in_background
from train.inference.models import load_model
from train.inference.progress import Progress
from train.inference.recordings import Recordings, find_recordings

BATCHES_SORTED = 8  # into buckets at a time, without padding; in memory, so not all recordings


@dataclass(frozen=True)
class Embedding:
    """One recording: a row for each window of it."""

    path: Path
    starts: np.ndarray  # (rows,) float64, seconds
    ends: np.ndarray  # (rows,) float64, seconds
    vectors: np.ndarray  # (rows, width), (rows, time, width) or (rows, frequency, time, width)


class Row(NamedTuple):
    """One window, before and after the model."""

    path: Path
    start: int  # samples
    end: int
    content: Tensor  # (samples,); then its vectors


def embed(
    model: str | Path,
    files: str | Path | Sequence[str | Path],
    *,
    level: str = "clip",
    hop: float | None = None,
    pad: bool = True,
    skip_unreadable: bool = False,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    keep_tokens: float = 1.0,
) -> Iterator[Embedding]:
    """Vectors of recordings of any length, one recording after the other, in the order given.

    A recording longer than the classifier's `longest_clip` has a row for each window, which by
    default do not overlap; another one has a single row.

    Args:
        model: run folder (its `last/`), or what `weights.load` takes; an AST.
        files: audio files, and folders, which are searched for them.
        level: clip (width,), frame (time, width) or patch (frequency, time, width), as
            `AudioClassifier.embed` explains them.
        hop: seconds from one window to the next; None: a window.
        pad: with False, recordings shorter than the model's input run at their own length, in
            batches of the same number of patches; at the levels frame and patch they have vectors
            of their own time alone.
        skip_unreadable: leave out files that cannot be read, and log which, instead of an error.
        batch_size: windows that run through the model at a time.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        keep_tokens: share of the patch tokens that the last block sees, as `AST.merge_tokens`.

    Raises:
        FileNotFoundError, ValueError: the model or a recording cannot be read, the model is no
            AST, or an argument is out of range.
    """
    require_mergeable(level, keep_tokens)
    return open_embedder(
        model,
        find_recordings(files),  # before a model is fetched
        level=level,
        hop=hop,
        pad=pad,
        skip_unreadable=skip_unreadable,
        batch_size=batch_size,
        precision=precision,
        device=device,
        keep_tokens=keep_tokens,
    ).embeddings()


def require_mergeable(level: str, keep_tokens: float) -> None:
    """ValueError where tokens are to merge of which single ones are wanted."""
    if keep_tokens < 1 and level != "clip":
        raise ValueError(
            f"vectors at {level} level are of single patches, which do not merge: keep all tokens, "
            "or use the level clip"
        )


def open_embedder(
    model: str | Path,
    paths: Sequence[Path],
    *,
    level: str,
    hop: float | None,
    pad: bool,
    skip_unreadable: bool,
    batch_size: int,
    precision: str,
    device: str,
    keep_tokens: float,
) -> Embedder:
    """The model with the recordings that it is to hear; arguments and errors are `embed`'s."""
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not positive; use at least 1")
    classifier, precision = load_model(
        model, device, precision, keep_tokens=keep_tokens, needs_head=False
    )
    size, rate = classifier.window_size, classifier.frontend.config.sample_rate
    step = size if hop is None else round(hop * rate)
    if not 1 <= step <= size:
        raise ValueError(f"hop {hop} s is not in (0, {size / rate:g}] s, the model's window")
    frames = None if pad else own_frames(model, classifier.model, classifier.frontend)
    recordings = Recordings(paths, classifier, skip_unreadable)
    return Embedder(classifier, recordings, step, level, frames, batch_size, precision)


@dataclass
class Embedder:
    """A model and recordings; `level`, `batch_size` and `precision` are arguments of `embed`."""

    classifier: AudioClassifier
    recordings: Recordings
    step: int  # samples from one window to the next
    level: str
    frames: Frames | None  # of `own_frames`: recordings are not padded
    batch_size: int
    precision: str
    parts: Sequence[Sequence[Path]] | None = None  # whose windows share no batch; None: all is one
    before: Collection[Path] = ()  # recordings that were heard before

    @property
    def rows_at_once(self) -> int:
        """Windows that are sorted into batches together."""
        return self.batch_size * (1 if self.frames is None else BATCHES_SORTED)

    def embeddings(self) -> Iterator[Embedding]:
        """Every recording that could be read to its end; a batch may hold windows of several."""
        recordings, rate = self.recordings, self.recordings.sample_rate
        with Progress("embed", recordings.seconds, rate, self.before) as progress:
            for path, group in groupby(self._rows(progress), key=attrgetter("path")):
                _, starts, ends, contents = zip(*group, strict=True)
                if path not in recordings.failures:
                    progress.end_recording()
                    spans = (np.array(samples) / rate for samples in (starts, ends))
                    yield Embedding(path, *spans, torch.stack(contents).numpy())
            recordings.require_any()
            progress.finish()
        recordings.log_notes()

    def _rows(self, progress: Progress) -> Iterator[Row]:
        """The windows of all recordings with their vectors."""
        parts = [self.recordings.seconds] if self.parts is None else self.parts
        number = {path: index for index, part in enumerate(parts) for path in part}
        paths = [path for path in number if path in self.recordings.seconds]
        windows = self._windows(paths, progress)
        for _, stream in groupby(windows, key=lambda row: number[row.path]):
            while some := list(islice(stream, self.rows_at_once)):
                for row, vector in zip(some, self._vectors(some), strict=True):
                    yield row._replace(content=vector)

    def _windows(self, paths: Sequence[Path], progress: Progress) -> Iterator[Row]:
        """The windows of recordings, one after another, `step` samples apart.

        A recording up to the classifier's `longest_clip` is one window, cut as in training. What
        comes next is decoded before it is asked for.
        """
        recordings, size = self.recordings, self.classifier.window_size
        longest, rate = self.classifier.longest_clip, recordings.sample_rate
        seconds = recordings.seconds
        clips = [path for path in paths if round(seconds[path] * rate) <= longest]
        short = set(clips)
        loading = in_background(recordings.load, clips, 2 * self.rows_at_once)
        streaming = recordings.streams(path for path in paths if path not in short)
        with closing(loading) as loaded, closing(streaming) as streams:
            for path in paths:
                with recordings.skipping(path):
                    if path in short:
                        waveform = next(loaded).result()
                        clip = waveform[:size]
                        yield Row(path, 0, len(clip), clip)
                        progress.hear(waveform)
                        continue
                    blocks = progress.through(next(streams))
                    for start, window in windows(blocks, size, self.step):
                        recordings.require_length(path, window)
                        yield Row(path, start, start + len(window), window)

    def _vectors(self, rows: Sequence[Row]) -> list[Tensor]:
        """The vectors of each window, on the CPU."""
        found: dict[int, Tensor] = {}
        pad, lengths = self.frames is None, [len(row.content) for row in rows]
        for batch in buckets(lengths, self.batch_size, self.frames):
            contents = [rows[index].content for index in batch]
            samples = torch.tensor([len(content) for content in contents])
            padded = pad_sequence(contents, batch_first=True)
            with autocast(next(self.classifier.parameters()).device, self.precision):
                some = self.classifier.embed(padded, lengths=samples, level=self.level, pad=pad)
            found |= zip(batch, some.float().cpu(), strict=True)
        return [found[index] for index in range(len(rows))]
