"""`ast-audio embed`."""

from __future__ import annotations

from collections.abc import Sequence
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
    ShardOfAll,
    SkipUnreadable,
    parse,
    unless_given,
)
from train.inference.season.vectors import write_embeddings


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
    end, vector; needs pyarrow; written part by part, so of any size). A journal beside it lets the
    same command go on after a crash."""
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
    shard: ShardOfAll = None


def run(words: Sequence[str]) -> None:
    options = parse(EmbedOptions, words, "embed")
    written = write_embeddings(
        options.model,
        options.files,
        options.out,
        level=options.level,
        hop=options.hop,
        pad=options.pad,
        shard=options.shard,
        skip_unreadable=options.skip_unreadable,
        batch_size=options.batch_size,
        precision=options.precision,
        keep_tokens=options.keep_tokens,
        device=options.device,
    )
    print(
        f"wrote {written.path}: {written.rows} rows at {options.level} level, of "
        f"{written.recordings} recordings"
    )
