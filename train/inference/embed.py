"""Vectors that describe recordings, to search, cluster or train on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ast_model import AudioClassifier
from ast_model.timeline import windows
from data.files import atomic_file
from train.buckets import buckets, own_frames
from train.device import autocast
from train.inference.background import in_background, one_ahead
from train.inference.models import load_model
from train.inference.progress import Progress
from train.inference.recordings import Recordings, find_recordings
from train.run.tables import write_parquet

BATCHES_SORTED = 8  # into buckets at a time, without padding; in memory, so not all recordings
TABLE_BYTES = 64 * 2**20  # of vectors that a Parquet file takes at a time


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
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not positive; use at least 1")
    if keep_tokens < 1 and level != "clip":
        raise ValueError(
            f"vectors at {level} level are of single patches, which do not merge: keep all tokens, "
            "or use the level clip"
        )
    paths = find_recordings(files)  # before a model is fetched
    classifier, precision = load_model(model, device, precision, keep_tokens=keep_tokens)
    size, rate = classifier.window_size, classifier.frontend.config.sample_rate
    step = size if hop is None else round(hop * rate)
    if not 1 <= step <= size:
        raise ValueError(f"hop {hop} s is not in (0, {size / rate:g}] s, the model's window")
    frames = None if pad else own_frames(model, classifier.model, classifier.frontend)
    recordings = Recordings(paths, classifier, skip_unreadable)

    def vectors(rows: Sequence[Row]) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for batch in buckets([len(row.content) for row in rows], batch_size, frames):
            contents = [rows[index].content for index in batch]
            lengths = torch.tensor([len(content) for content in contents])
            padded = pad_sequence(contents, batch_first=True)
            with autocast(next(classifier.parameters()).device, precision):
                some = classifier.embed(padded, lengths=lengths, level=level, pad=pad)
            found |= zip(batch, some.float().cpu(), strict=True)
        return [found[index] for index in range(len(rows))]

    at_once = batch_size if pad else BATCHES_SORTED * batch_size
    return _embeddings(classifier, recordings, step, vectors, at_once)


def _windows(
    classifier: AudioClassifier, recordings: Recordings, step: int, progress: Progress, ahead: int
) -> Iterator[Row]:
    """The windows of all recordings, one after another, `step` samples apart.

    A recording up to the classifier's `longest_clip` is one window, cut as in training; up to
    `ahead` of these are decoded before they are asked for.
    """
    size, rate, longest = classifier.window_size, recordings.sample_rate, classifier.longest_clip
    clips = [path for path, length in recordings.seconds.items() if round(length * rate) <= longest]
    short = set(clips)
    with closing(in_background(recordings.load, clips, ahead)) as loaded:
        for path in recordings.seconds:
            with recordings.skipping(path):
                if path in short:
                    waveform = next(loaded).result()
                    clip = waveform[:size]
                    yield Row(path, 0, len(clip), clip)
                    progress.hear(waveform)
                    continue
                blocks = progress.through(one_ahead(recordings.stream(path)))
                for start, window in windows(blocks, size, step):
                    recordings.require_length(path, window)
                    yield Row(path, start, start + len(window), window)


def _embeddings(
    classifier: AudioClassifier,
    recordings: Recordings,
    step: int,
    vectors: Callable[[Sequence[Row]], list[Tensor]],
    at_once: int,
) -> Iterator[Embedding]:
    """Every recording that could be read to its end; a batch may hold windows of several."""

    def rows(stream: Iterator[Row]) -> Iterator[Row]:
        while some := list(islice(stream, at_once)):
            for row, vector in zip(some, vectors(some), strict=True):
                yield row._replace(content=vector)

    count, rate = 0, recordings.sample_rate
    with Progress("embed", recordings.seconds, rate) as progress:
        stream = rows(_windows(classifier, recordings, step, progress, ahead=2 * at_once))
        for path, group in groupby(stream, key=attrgetter("path")):
            _, starts, ends, contents = zip(*group, strict=True)
            if path not in recordings.failures:
                count += 1
                spans = (np.array(samples) / rate for samples in (starts, ends))
                yield Embedding(path, *spans, torch.stack(contents).numpy())
        recordings.require_any()
        progress.finish(count)
    recordings.log_notes()


def embeddings_writer(path: Path) -> Callable[[Path, Iterable[Embedding]], None]:
    """The function that writes embeddings into a file of this name.

    Raises:
        ValueError: the name ends neither in .npz nor in .parquet.
    """
    writers = {".npz": write_npz, ".parquet": write_embeddings_parquet}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path} is to end in .npz or .parquet; give such a name")
    return writers[path.suffix.lower()]


def write_npz(path: Path, embeddings: Iterable[Embedding]) -> None:
    """Arrays paths, starts, ends and vectors, all of them a row a window."""
    columns: dict[str, list[Any]] = {"paths": [], "starts": [], "ends": [], "vectors": []}
    for each in embeddings:
        columns["paths"].append([str(each.path)] * len(each.starts))
        for name in ("starts", "ends", "vectors"):
            columns[name].append(getattr(each, name))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: np.concatenate(values) for name, values in columns.items()})


def write_embeddings_parquet(path: Path, embeddings: Iterable[Embedding]) -> None:
    """Columns path, start, end and vector; of any size, since a part is in memory at a time."""
    write_parquet(path, _tables(embeddings))


def _tables(embeddings: Iterable[Embedding]) -> Iterator[Mapping[str, Any]]:
    held: list[Embedding] = []
    size = 0
    for each in embeddings:
        of_other_length = held and held[0].vectors.shape[1:] != each.vectors.shape[1:]
        if of_other_length or size >= TABLE_BYTES:
            yield _table(held)
            held, size = [], 0
        held.append(each)
        size += each.vectors.nbytes
    if held:
        yield _table(held)


def _table(embeddings: Sequence[Embedding]) -> Mapping[str, Any]:
    return {
        "path": [str(each.path) for each in embeddings for _ in each.starts],
        "start": np.concatenate([each.starts for each in embeddings]),
        "end": np.concatenate([each.ends for each in embeddings]),
        "vector": np.concatenate([each.vectors for each in embeddings]),
    }
