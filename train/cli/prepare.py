"""`ast-audio prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from data.download.prepare import prepare
from train.cli.options import parse, positional, unless_given


@dataclass(frozen=True)
class PrepareOptions:
    """Decode and resample a data set once, to mono FLAC, so that every later pass is fast.

    The folder keeps its layout and tables, and is used instead of the original. An interrupted
    run goes on where it stopped.
    """

    folder: Annotated[Positional[Path], positional("FOLDER")]
    """The data set."""
    destination: Annotated[Positional[Path], positional("DESTINATION")]
    """New folder, not within the data set."""
    sample_rate: int = 16_000
    """Hz."""
    processes: Annotated[int | None, unless_given("one a core", "INT")] = None
    """How many decode at once."""


def run(words: Sequence[str]) -> None:
    options = parse(PrepareOptions, words, "prepare")
    prepare(options.folder, options.destination, options.sample_rate, options.processes)
