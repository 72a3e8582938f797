"""`ast-audio embed`: vectors that describe recordings, to search, cluster or train on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import weights
from ast_model import AST, AudioClassifier
from ast_model.classifier import CUT_UP_TO
from ast_model.timeline import windows
from data.files import atomic_file
from train.cli.options import EmbedOptions
from train.device import autocast, choose_device, choose_precision
from train.inference.export import find_model
from train.inference.recordings import Recordings, find_recordings
from train.tables import write_parquet

Window = tuple[Path, int, Tensor]  # recording, first sample, samples


def embed(options: EmbedOptions) -> None:
    """Write the vectors of every window of every recording.

    Raises:
        FileNotFoundError, ValueError: the model or a recording cannot be read, the model is no
            AST, or an option is out of range.
    """
    suffix = options.out.suffix.lower()
    if suffix not in (".npz", ".parquet"):
        raise ValueError(f"{options.out} is to end in .npz or .parquet; give such a name")
    if options.batch_size < 1:
        raise ValueError(f"batch_size {options.batch_size} is not positive; use at least 1")
    files = find_recordings(options.files)  # before a model is fetched
    device = choose_device(options.device)
    classifier = weights.load(find_model(options.model)[0], device=device)
    if not isinstance(classifier.model, AST):
        raise ValueError(f"{options.model} is a baseline of timm, without vectors; give an AST")
    recordings = Recordings(files, classifier, options.skip_unreadable)
    count = 0

    def tables() -> Iterator[dict[str, Any]]:
        nonlocal count
        for table in vectors(classifier, recordings, options):
            count += len(table["paths"])
            yield table

    with autocast(device, choose_precision(options.precision, device)):
        (_write_npz if suffix == ".npz" else _write_parquet)(options.out, tables())
    heard = len(recordings.seconds.keys() - recordings.failures.keys())
    print(f"wrote {options.out}: {count} rows at {options.level} level, of {heard} recordings")
    recordings.print_notes()


def vectors(
    classifier: AudioClassifier, recordings: Recordings, options: EmbedOptions
) -> Iterator[dict[str, Any]]:
    """Batches of rows: paths, starts and ends (seconds), vectors (rows, …) float32."""
    rate = recordings.sample_rate
    stream = windows_of(classifier, recordings, options.hop)
    while batch := list(islice(stream, options.batch_size)):
        lengths = torch.tensor([len(window) for _, _, window in batch])
        starts = torch.tensor([start for _, start, _ in batch])
        padded = pad_sequence([window for _, _, window in batch], batch_first=True)
        yield {
            "paths": [str(path) for path, _, _ in batch],
            "starts": (starts.double() / rate).numpy(),
            "ends": ((starts + lengths).double() / rate).numpy(),
            "vectors": classifier.embed(padded, lengths, options.level).float().cpu().numpy(),
        }
    recordings.require_any()


def windows_of(
    classifier: AudioClassifier, recordings: Recordings, hop: float | None
) -> Iterator[Window]:
    """The windows of all recordings, one after another; by default they do not overlap.

    A clip up to `CUT_UP_TO` times the model's length is one window, cut as in training.
    """
    size = classifier.window_size
    step = size if hop is None else round(hop * recordings.sample_rate)
    if not 1 <= step <= size:
        longest = size / recordings.sample_rate
        raise ValueError(f"hop {hop} s is not in (0, {longest:g}] s, the model's window")
    files = recordings.seconds.items()
    for path, seconds in tqdm(files, "embed", unit="file", leave=False, disable=None):
        with recordings.skipping(path):
            if seconds * recordings.sample_rate <= CUT_UP_TO * size:
                yield path, 0, recordings.load(path)[:size]
                continue
            for start, window in windows(recordings.stream(path), size, step):
                recordings.require_length(path, window)
                yield path, start, window


def _write_npz(path: Path, tables: Iterator[dict[str, Any]]) -> None:
    columns: dict[str, list[Any]] = {}
    for table in tables:
        for name, values in table.items():
            columns.setdefault(name, []).append(np.asarray(values))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: np.concatenate(parts) for name, parts in columns.items()})


def _write_parquet(path: Path, tables: Iterator[dict[str, Any]]) -> None:
    names = {"paths": "path", "starts": "start", "ends": "end", "vectors": "vector"}
    write_parquet(path, ({names[k]: values for k, values in table.items()} for table in tables))
