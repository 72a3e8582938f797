"""Files of vectors that describe a season of recordings, resumed where that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.files import atomic_file
from train.distributed import barrier, is_main_process
from train.inference.embed import Embedding, open_embedder, require_mergeable
from train.inference.season.journal import Entry, Journal, has_journal, open_journal
from train.inference.season.season import (
    Season,
    Written,
    journal_of,
    model_digest,
    recordings_a_part,
    table_of_shard,
)
from train.run.tables import require_pyarrow, write_parquet
from train.shards import Shard, own_shard

TABLE_BYTES = 64 * 2**20  # of vectors that a Parquet file takes at a time


def write_embeddings(
    model: str | Path,
    files: str | Path | Sequence[str | Path],
    out: Path,
    *,
    level: str = "clip",
    hop: float | None = None,
    pad: bool = True,
    shard: Shard | None = None,
    skip_unreadable: bool = False,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    keep_tokens: float = 1.0,
) -> Written:
    """Write vectors of recordings, however many, into a file, in the order of their paths.

    What was computed is kept in a journal beside the file: the same call after a crash goes on, and
    what it writes is what an undisturbed one writes, byte for byte. Processes of torchrun share the
    recordings.

    Args:
        out: the file, .npz or .parquet.
        shard: as in `detect`.
        model, files, level, hop, pad, skip_unreadable, batch_size, precision, device, keep_tokens:
            as in `embed`.

    Raises:
        FileNotFoundError, ValueError: as `embed`; or the journal is of another model or other
            options, or the file's name ends otherwise, or it was not written here.
    """
    write = embeddings_writer(out)
    if out.exists() and not has_journal(journal_of(out)):
        raise ValueError(
            f"{out} was not written by this command: it has no {journal_of(out).name} beside it; "
            "move it away, or give another --out"
        )
    require_mergeable(level, keep_tokens)
    if not pad and level != "clip" and write is write_npz:
        raise ValueError(
            f"without padding, vectors at {level} level are of each recording's length, "
            "which .npz cannot hold: give --out a name that ends in .parquet, or --level clip"
        )
    season = Season.of(files, recordings_a_part(batch_size, pad), own_shard(shard))
    embedder = open_embedder(
        model,
        season.own,
        level=level,
        hop=hop,
        pad=pad,
        skip_unreadable=skip_unreadable,
        batch_size=batch_size,
        precision=precision,
        device=device,
        keep_tokens=keep_tokens,
    )
    run = {
        "command": "embed",
        "recordings": str(season.folder),
        "model": model_digest(model),
        "level": level,
        "hop": hop,
        "pad": pad,
        "batch_size": batch_size,
        "precision": embedder.precision,
        "keep_tokens": keep_tokens,
    }
    with open_journal(journal_of(out), run, season.shard) as journal:
        embedder.parts, embedder.before = season.progress(journal, embedder.recordings.seconds)
        found = ((each.path, each.ends[-1].item(), _rows(each)) for each in embedder.embeddings())
        season.keep(journal, found, embedder.recordings.rates)
        barrier()  # until torchrun's other processes have heard theirs
        journal.refresh()
        heard = season.heard(journal, season.own if shard else season.paths)
        path = table_of_shard(out, shard) if shard else out
        if is_main_process():
            write(path, _embeddings(journal, heard))
        return Written(path, len(heard), sum(entry.rows for entry in heard.values()))


def _rows(embedding: Embedding) -> np.ndarray:
    """An embedding as one array, of a row a window."""
    shape = embedding.vectors.shape[1:]
    kinds = [("start", "<f8"), ("end", "<f8"), ("vector", "<f4", shape)]
    rows = np.empty(len(embedding.starts), kinds)
    rows["start"], rows["end"], rows["vector"] = (
        embedding.starts, embedding.ends, embedding.vectors
    )  # fmt: skip
    return rows


def _embeddings(journal: Journal, heard: Mapping[Path, Entry]) -> Iterator[Embedding]:
    for path, rows in zip(heard, journal.arrays(heard.values()), strict=True):
        yield Embedding(path, rows["start"], rows["end"], rows["vector"])


def embeddings_writer(path: Path) -> Callable[[Path, Iterable[Embedding]], None]:
    """The function that writes embeddings into a file of this name.

    Raises:
        ValueError: the name ends neither in .npz nor in .parquet, or pyarrow is missing for that.
    """
    writers = {".npz": write_npz, ".parquet": write_embeddings_parquet}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path} is to end in .npz or .parquet; give such a name")
    if path.suffix.lower() == ".parquet":
        require_pyarrow(path)
    return writers[path.suffix.lower()]


def write_npz(path: Path, embeddings: Iterable[Embedding]) -> None:
    """Arrays paths, starts, ends and vectors, all of them a row a window."""
    columns: dict[str, list[Any]] = {"paths": [], "starts": [], "ends": [], "vectors": []}
    for each in embeddings:
        columns["paths"].append([str(each.path)] * len(each.starts))
        for name in ("starts", "ends", "vectors"):
            columns[name].append(getattr(each, name))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        # a share of a few recordings may be empty
        np.savez(file, **{name: np.concatenate(values or [[]]) for name, values in columns.items()})


def write_embeddings_parquet(path: Path, embeddings: Iterable[Embedding]) -> None:
    """Columns path, start, end and vector; of any size, since a part is in memory at a time."""
    write_parquet(path, _tables(embeddings))


def _tables(embeddings: Iterable[Embedding]) -> Iterator[Mapping[str, Any]]:
    held: list[Embedding] = []
    size, is_empty = 0, True
    for each in embeddings:
        of_other_length = held and held[0].vectors.shape[1:] != each.vectors.shape[1:]
        if of_other_length or size >= TABLE_BYTES:
            yield _table(held)
            held, size = [], 0
        held.append(each)
        is_empty = False
        size += each.vectors.nbytes
    if held:
        yield _table(held)
    if is_empty:  # still a table
        nothing = np.empty(0)
        yield _table([Embedding(Path(), nothing, nothing, np.empty((0, 0), np.float32))])


def _table(embeddings: Sequence[Embedding]) -> Mapping[str, Any]:
    return {
        "path": np.repeat([str(e.path) for e in embeddings], [len(e.starts) for e in embeddings]),
        "start": np.concatenate([each.starts for each in embeddings]),
        "end": np.concatenate([each.ends for each in embeddings]),
        "vector": np.concatenate([each.vectors for each in embeddings]),
    }
