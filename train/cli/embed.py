"""`ast-audio embed`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from train.cli.options import (
    TO_FILE,
    Device,
    Files,
    InferencePrecision,
    KeepTokens,
    Model,
    PositiveInt,
    SkipUnreadable,
    parse,
    unless_given,
)
from train.inference import embed
from train.inference.embed import Embedding, embeddings_writer, write_npz


@dataclass(frozen=True)
class EmbedOptions:
    """Write vectors that describe recordings: what the model's head sees, or finer.

    A row for each recording, or for each window of one longer than the model's input: its path,
    start and end in seconds, and the vectors. A clip shorter than the model's input has vectors
    of its padding too, at frame and patch level.
    """

    model: Model
    files: Files
    out: Annotated[Path, TO_FILE]
    """File to write: .npz (arrays paths, starts, ends, vectors) or .parquet (columns path, start,
    end, vector; needs pyarrow; written part by part, so of any size)."""
    level: Literal["clip", "frame", "patch"] = "clip"
    """clip: (width,); frame: (time, width), means over frequency; patch: (frequency, time,
    width)."""
    hop: Annotated[float | None, unless_given("a window", "FLOAT")] = None
    """Seconds from one window of a long recording to the next."""
    pad: bool = True
    """Pad recordings shorter than the model's input. With --no-pad they run at their own length:
    faster, without vectors of padding at frame and patch level, but other vectors, since the model
    may have learnt from the padding."""
    skip_unreadable: SkipUnreadable = False
    batch_size: PositiveInt = 8
    """Windows that run through the model at a time."""
    precision: InferencePrecision = "fp32"
    keep_tokens: KeepTokens = 1.0
    device: Device = "auto"


def run(words: Sequence[str]) -> None:
    options = parse(EmbedOptions, words, "embed")
    write = embeddings_writer(options.out)
    if not options.pad and options.level != "clip" and write is write_npz:
        raise ValueError(
            f"without padding, vectors at {options.level} level are of each recording's length, "
            "which .npz cannot hold: give --out a name that ends in .parquet, or --level clip"
        )
    recordings = rows = 0

    def counted(embeddings: Iterable[Embedding]) -> Iterator[Embedding]:
        nonlocal recordings, rows
        for embedding in embeddings:
            recordings, rows = recordings + 1, rows + len(embedding.starts)
            yield embedding

    embeddings = embed(
        options.model,
        options.files,
        level=options.level,
        hop=options.hop,
        pad=options.pad,
        skip_unreadable=options.skip_unreadable,
        batch_size=options.batch_size,
        precision=options.precision,
        keep_tokens=options.keep_tokens,
        device=options.device,
    )
    write(options.out, counted(embeddings))
    print(f"wrote {options.out}: {rows} rows at {options.level} level, of {recordings} recordings")
