"""Tables of detections in the forms that field recordists' programs read.

Raven Pro and Lite: a selection table. Audacity: a label track. Kaleidoscope: a CSV of INDIR,
FOLDER, IN FILE, OFFSET, DURATION and columns of one's own. The others are for scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.files import atomic_file, is_one_line
from train.inference.season import absolute
from train.run.tables import write_csv, write_parquet

ROWS_AT_ONCE = 2**16  # a row group of a Parquet file
DECIMALS = 6  # of seconds and probabilities
RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Class", "Confidence"),
)
RAVEN_OF_SEVERAL = ("Begin Path", "File Offset (s)")
KALEIDOSCOPE = ("INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "label", "confidence")
CSV = ("start", "end", "class", "probability")


@dataclass(frozen=True)
class Heard:
    """One recording and what was detected in it."""

    path: Path  # as it was given
    seconds: float
    sample_rate: int  # Hz, of the file
    detections: np.ndarray  # (detections,) of `DETECTION`


@dataclass(frozen=True)
class Table:
    """What a table needs to know beside the recordings.

    Args:
        classes: names of the detections' classes.
        band: lowest and highest frequency that the model hears, Hz.
        folder: of the season, that all recordings lie in.
        combined: the table is of several recordings, and says which a row is of.
    """

    classes: tuple[str, ...]
    band: tuple[float, float]
    folder: Path
    combined: bool = False

    def rows(self, heard: Heard) -> Iterator[tuple[float, float, str, float]]:
        """(start, end, class, probability) of each detection."""
        for start, end, number, probability in (each.item() for each in heard.detections):
            yield start, min(end, heard.seconds), self.classes[number], probability


Write = Callable[[Path, Iterable[Heard], Table], None]


class Format(NamedTuple):
    """A form of tables."""

    suffix: str  # of the table of one recording
    write: Write
    several: bool = True  # whether its rows can tell which recording they are of
    one_line: bool = False  # whether the name of a recording has to be text in one line for that

    @property
    def ending(self) -> str:
        """How the name of a combined table ends."""
        return f".{self.suffix.rpartition('.')[2]}"


def write_raven(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """A selection table; one of several recordings counts time through all of them, as Raven does.

    The band is the model's, up to what the recording holds.
    """

    def rows() -> Iterator[tuple[Any, ...]]:
        number, before = 0, 0.0
        for heard in recordings:
            low, high = table.band
            band = min(low, heard.sample_rate / 2), min(high, heard.sample_rate / 2)
            for start, end, name, probability in table.rows(heard):
                number += 1
                times = before + start, before + end
                row = (number, "Spectrogram 1", 1, *times, *band, name, probability)
                yield (*row, absolute(heard.path), start) if table.combined else row
            before += heard.seconds if table.combined else 0.0

    header = (*RAVEN, *(RAVEN_OF_SEVERAL if table.combined else ()))
    _write_tabbed(path, chain([header], rows()))


def write_audacity(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """A label track: start, end and label, without a header and without probabilities."""
    _write_tabbed(path, (row[:3] for heard in recordings for row in table.rows(heard)))


def write_kaleidoscope(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """INDIR is the season's folder, FOLDER what is between it and the file."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for heard in recordings:
            whole = absolute(heard.path)
            below = whole.parent.relative_to(table.folder)
            place = (table.folder, "" if below == Path() else below, whole.name)
            for start, end, name, probability in table.rows(heard):
                yield (*place, start, end - start, name, probability)

    write_csv(path, KALEIDOSCOPE, rows())


def write_detections_csv(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """Columns start, end, class and probability; of several recordings, file before them."""
    header = ("file", *CSV) if table.combined else CSV
    rows = (
        (heard.path, *row) if table.combined else row
        for heard in recordings
        for row in table.rows(heard)
    )
    write_csv(path, header, rows)


def write_detections_parquet(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """Columns file, start, end, class and probability, in groups of 65,536 rows."""
    rows = ((str(heard.path), *row) for heard in recordings for row in table.rows(heard))

    def tables() -> Iterator[Mapping[str, Any]]:
        group = list(islice(rows, ROWS_AT_ONCE))
        while True:
            files, starts, ends, names, probabilities = (
                zip(*group, strict=True) if group else [()] * 5
            )
            yield {
                "file": _texts(files),
                "start": np.array(starts, np.float64),
                "end": np.array(ends, np.float64),
                "class": _texts(names),
                "probability": np.array(probabilities, np.float32),
            }
            if not (group := list(islice(rows, ROWS_AT_ONCE))):
                return

    write_parquet(path, tables())


def write_detections_json(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """An object with file and timeline; of several recordings, a list of these."""
    opening, between, closing = ("[", "\n", "\n]\n") if table.combined else ("", "", "\n")
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(opening)
        for heard in recordings:
            file.write(f'{between}{{"file": {json.dumps(str(heard.path))}, "timeline": [')
            before = "\n"
            for row in table.rows(heard):
                file.write(f"{before}  {json.dumps(as_json(row))}")
                before = ",\n"
            file.write("]}")
            between = ",\n"
        file.write(closing)


def as_json(row: tuple[float, float, str, float]) -> dict[str, Any]:
    """A detection as an object."""
    values = (round(value, DECIMALS) if isinstance(value, float) else value for value in row)
    return dict(zip(CSV, values, strict=True))


def _texts(values: Sequence[str]) -> Any:
    """Texts as a column, which is one of texts where there are none, too."""
    return list(values) or np.array([], dtype=str)


def _write_tabbed(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Without quotes, which neither Raven nor Audacity knows; so no cell may hold a tab."""
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for row in rows:
            cells = (f"{v:.{DECIMALS}f}" if isinstance(v, float) else str(v) for v in row)
            file.write("\t".join(" ".join(cell.split("\t")) for cell in cells) + "\n")


FORMATS = {
    "raven": Format(".selections.txt", write_raven, one_line=True),
    "audacity": Format(".txt", write_audacity, several=False),
    "kaleidoscope": Format(".kaleidoscope.csv", write_kaleidoscope),
    "csv": Format(".csv", write_detections_csv),
    "parquet": Format(".parquet", write_detections_parquet, one_line=True),
    "json": Format(".json", write_detections_json),
}


def require_one_line(path: Path) -> None:
    """ValueError where a file's name cannot be a cell of a table that knows no quotes."""
    if not is_one_line(str(path)):
        raise ValueError(
            f"{str(path)!r:.200} holds a tab, a line break or bytes that are no UTF-8, which this "
            "table cannot: rename it, or choose the format csv"
        )
