"""`ast-audio segments`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from train.cli.options import TO_FOLDER, PositiveInt, at_least, parse, positional, unless_given
from train.inference.listening import By, write_segments


@dataclass(frozen=True)
class SegmentsOptions:
    """Cut detections out of their recordings, for a person who listens and fills in verdicts.

    Each is a FLAC at the recording's own sample rate and channels, CLASS/SCORE_RECORDING_START,
    and a row of segments.csv. Its column verdict is to be filled in: yes, no, unsure, or the name
    of the class that it is instead. `ast-audio review` reads it back.
    """

    tables: Annotated[Positional[tuple[Path, ...]], positional("TABLE|FOLDER…")]
    """What `ast-audio predict --format` wrote as csv, parquet, json, raven or kaleidoscope."""
    out: Annotated[Path, TO_FOLDER]
    """Folder to write; an older one of segments is replaced as long as it has no verdicts."""
    per_class: PositiveInt = 20
    """Segments a class."""
    by: By = "certain"
    """certain: the highest scores. uncertain: those nearest to 0.5. stratified: at random from each
    tenth of the scores, equally many of each, from which `review` tells the precision of all."""
    pad: Annotated[float, at_least(0.0)] = 1.0
    """Seconds before and after a detection."""
    classes: Annotated[tuple[str, ...], unless_given("all")] = ()
    """The classes to hear."""
    seed: int = 0
    """Of a stratified draw."""
    recordings: Annotated[
        Path | None, unless_given("the working directory; beside a table of one", "PATH")
    ] = None
    """Folder from which relative names of recordings start."""


def run(words: Sequence[str]) -> None:
    options = parse(SegmentsOptions, words, "segments")
    written = write_segments(**vars(options))
    print(
        f"wrote {written.table}: {written.segments} segments of {written.classes} classes; fill in "
        "the column verdict (yes, no, unsure or a class), then `ast-audio review`"
    )
