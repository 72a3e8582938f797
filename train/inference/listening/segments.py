"""Detections cut out of their recordings for a person to hear, beside a table for verdicts."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from data.corpora.segments import CLASSES, SEGMENT_COLUMNS, segment_rows
from data.files import atomic_folder, is_one_line
from train.inference.listening.cut import PAD, cuts_of, row_of, write_flac
from train.inference.listening.draw import By, draw
from train.inference.listening.tables import read_detections
from train.run.tables import write_csv

logger = logging.getLogger(__name__)

TABLE = "segments.csv"


class Written(NamedTuple):
    """What `write_segments` wrote."""

    table: Path
    segments: int
    classes: int


def write_segments(
    tables: str | Path | Sequence[str | Path],
    out: Path,
    *,
    per_class: int = 20,
    by: By = "certain",
    pad: float = PAD,
    seed: int = 0,
    classes: Collection[str] = (),
    recordings: Path | None = None,
) -> Written:
    """Cut detections of each class out of their recordings, and write a table for verdicts.

    A segment is a FLAC at the recording's own sample rate and channels, of 24 bits where the
    recording has more than 16, else of 16. Of a recording, only the span is read.

    Args:
        tables, recordings: as `read_detections`.
        out: a new folder; or an older one of segments, as long as it has no verdicts. It is
            written whole or not at all.
        per_class, by, seed, classes: as `draw`.
        pad: seconds before and after a detection, as far as the recording goes.

    Raises:
        FileNotFoundError: a table or a recording is not there.
        ValueError: as `read_detections` and `draw`; a recording ends before its detection or
            cannot be a FLAC, or `out` holds verdicts or something else.
        OSError: writing failed; `out` is as it was.
    """
    if not 0 <= pad < math.inf:
        raise ValueError(f"padding of {pad} s is not a length of time; use 0 or more seconds")
    require_replaceable(out)
    drawn, known = draw(read_detections(tables, recordings), per_class, by, seed, classes)
    cuts = cuts_of(drawn, pad)
    with atomic_folder(out) as folder:
        louder = sum(write_flac(folder / cut.path, cut) for cut in cuts)
        write_csv(folder / TABLE, SEGMENT_COLUMNS, (row_of(cut, by) for cut in cuts))
        listed = [name for name in known if is_one_line(name)]
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
        require_replaceable(out)  # somebody may have written verdicts meanwhile
    if louder:
        logger.warning(f"{louder} of {len(cuts)} segments are beyond full scale: scaled to fit")
    return Written(out / TABLE, len(cuts), len({cut.drawn.detection.label for cut in cuts}))


def require_replaceable(out: Path) -> None:
    """ValueError where a folder holds verdicts, or what `write_segments` did not write."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise ValueError(f"{out} is not a folder; give a new one")
    if not any(out.iterdir()):
        return
    table = out / TABLE
    if not table.is_file():
        raise ValueError(f"{out} is a folder of something else; give a new one")
    rows = [row for _, row in segment_rows(table)]
    verdicts = sum(bool(row["verdict"].strip()) for row in rows)
    if verdicts:
        raise ValueError(f"{table} has verdicts on {verdicts} segments; give another --out")
    written = {table, out / CLASSES, *(out / row["path"] for row in rows)}
    held = (path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    others = sorted(str(path) for path in held if path not in written)
    if others:
        raise ValueError(f"{out} also holds {others[0]!r:.300}; move it away, or give a new folder")
