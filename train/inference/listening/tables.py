"""Detections read back from the tables that `ast-audio predict --format` writes, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.files import (
    csv_rows,
    is_audio,
    open_parquet,
    parquet_batches,
    require_as_header,
    text_lines,
    walk,
)
from train.inference.detections.formats import CSV, FORMATS, KALEIDOSCOPE, RAVEN, RAVEN_OF_SEVERAL

READABLE = ("csv", "parquet", "json", "raven", "kaleidoscope")  # audacity's has no probabilities
ROWS_AT_ONCE = 2**16  # of a Parquet file

# The place in messages, the recording or None where the table does not name it, and CSV's columns.
Row = tuple[str, Any, Any, Any, Any, Any]


class Detection(NamedTuple):
    """One row of a table."""

    recording: Path
    start: float  # seconds of the recording
    end: float
    label: str
    score: float  # a probability


class Source(NamedTuple):
    """A table, and where the recording lies that a table of one does not name."""

    path: Path
    beside: Path  # the recording's path without suffix


def read_detections(
    tables: str | Path | Sequence[str | Path], recordings: Path | None = None
) -> Iterator[Detection]:
    """The detections in tables of any size, in the order of the tables.

    Args:
        tables: files that `predict` wrote as csv, parquet, json, raven or kaleidoscope, and folders
            of them.
        recordings: folder that relative names of recordings start from, and that holds the
            recordings of tables that do not name them, at the same place as the table in its
            folder; None: the working directory, and beside the table.

    Raises:
        FileNotFoundError: a table or the recording of one is not there.
        ValueError: a table is of another form, or a row is damaged.
    """
    paths = [tables] if isinstance(tables, str | Path) else tables
    if not paths:
        raise ValueError("no table was given; name tables that `predict --format csv` wrote")
    sources = [source for path in paths for source in _sources(Path(path), recordings)]
    for source in sources:
        own: Path | None = None
        for where, file, start, end, label, score in _reader(source.path)(source.path):
            if file is None:
                path = own = own or _recording_beside(source)
            else:
                path = (recordings or Path()) / _text(file, "recording", where)
            yield _detection(where, path, start, end, label, score)


def _sources(path: Path, recordings: Path | None) -> Iterator[Source]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; name tables that `predict --format csv` wrote"
        )
    if not path.is_dir():
        yield Source(path, (recordings or path.parent) / _stem(path))
        return
    found = [
        Path(folder, name)
        for folder, names in walk(path)
        if not any(part.endswith(".journal") for part in Path(folder).relative_to(path).parts)
        for name in names
        if _form(Path(name))
    ]
    forms = sorted({_form(table) for table in found})
    if len(forms) != 1:
        held = f"tables of several formats ({', '.join(forms)})" if forms else "no tables"
        raise ValueError(f"{path} holds {held}; expected those of one; name the files")
    for table in found:
        place = table.parent.relative_to(path)
        yield Source(table, (recordings / place if recordings else table.parent) / _stem(table))


def _form(path: Path) -> str | None:
    """The format that a table's name ends as; the longest where several fit."""
    ends = {name: form.suffix for name, form in FORMATS.items() if name in READABLE}
    fitting = [name for name, suffix in ends.items() if path.name.lower().endswith(suffix)]
    return max(fitting, key=lambda name: len(ends[name]), default=None)


def _stem(path: Path) -> str:
    form = _form(path)
    return path.name[: -len(FORMATS[form].suffix)] if form else path.stem


def _recording_beside(source: Source) -> Path:
    folder, stem = source.beside.parent, source.beside.name
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    found = [name for name in names if is_audio(name) and Path(name).stem == stem]
    if len(found) != 1:
        held = f"several ({', '.join(found):.200})" if found else "none"
        raise FileNotFoundError(
            f"{source.path} does not name its recording: expected one called {stem!r:.200} in "
            f"{folder}, which holds {held}; say where with --recordings"
        )
    return folder / found[0]


def _detection(where: str, path: Path, start: Any, end: Any, label: Any, score: Any) -> Detection:
    begin, finish = finite_number(start, "start", where), finite_number(end, "end", where)
    probability = finite_number(score, "probability", where)
    if not 0 <= begin < finish:
        raise ValueError(
            f"{where}: from {begin:g} to {finish:g} s: expected a start of 0 or more before the end"
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"{where}: probability {probability:g}: expected one in [0, 1]")
    return Detection(path, begin, finish, _text(label, "class", where), probability)


def finite_number(cell: Any, name: str, where: str) -> float:
    """A cell as a number; ValueError, with its place, where it is none."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {name} {cell!r:.60}: expected a number")
    return value


def _text(cell: Any, name: str, where: str) -> str:
    if not isinstance(cell, str) or not cell.strip() or "\0" in cell:
        raise ValueError(f"{where}: {name} {cell!r:.60}: expected a name")
    return cell


# A reader a form. Each knows its own by the columns, and gives them in one order.


def _reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _parquet_rows
    if suffix == ".json":
        return _json_rows
    return _raven_rows if suffix == ".txt" else _csv_rows


def _other_form(path: Path, columns: Sequence[str]) -> ValueError:
    shown = ", ".join(map(repr, columns[:12]))
    return ValueError(
        f"{path} is no table of detections with probabilities: it begins with {shown:.200}; "
        f"expected what `predict --format {'|'.join(READABLE)}` writes"
    )


def _csv_rows(path: Path) -> Iterator[Row]:
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    is_kaleidoscope = set(KALEIDOSCOPE) <= set(header)
    if not is_kaleidoscope and not set(CSV) <= set(header):
        raise _other_form(path, header)
    for line, cells in rows:
        require_as_header(path, line, cells, header)
        row, where = dict(zip(header, cells, strict=True)), f"{path}, line {line}"
        if is_kaleidoscope:
            file = str(Path(row["INDIR"], row["FOLDER"], row["IN FILE"]))
            start = finite_number(row["OFFSET"], "OFFSET", where)
            end = start + finite_number(row["DURATION"], "DURATION", where)
            yield where, file, start, end, row["label"], row["confidence"]
        else:
            yield (where, row.get("file"), *(row[name] for name in CSV))


def _raven_rows(path: Path) -> Iterator[Row]:
    lines = enumerate(text_lines(path), start=1)
    header = next(lines, (1, ""))[1].rstrip("\r\n").split("\t")
    if not set(RAVEN) <= set(header):
        raise _other_form(path, header)
    file, offset = RAVEN_OF_SEVERAL
    for number, line in lines:
        cells = line.rstrip("\r\n").split("\t")
        require_as_header(path, number, cells, header)
        row, where = dict(zip(header, cells, strict=True)), f"{path}, line {number}"
        start = finite_number(row["Begin Time (s)"], "Begin Time (s)", where)
        end = finite_number(row["End Time (s)"], "End Time (s)", where)
        begin = finite_number(row[offset], offset, where) if offset in row else start
        yield where, row.get(file), begin, begin + end - start, row["Class"], row["Confidence"]


def _parquet_rows(path: Path) -> Iterator[Row]:
    columns = ["file", *CSV]
    with open_parquet(path) as parquet:
        names = parquet.schema_arrow.names
    if not set(columns) <= set(names):
        raise _other_form(path, names)
    number = 0
    for batch in parquet_batches(path, columns, ROWS_AT_ONCE):
        for file, *cells in zip(*batch.values(), strict=True):
            number += 1
            yield (f"{path}, row {number}", "" if file is None else file, *cells)


def _json_rows(path: Path) -> Iterator[Row]:
    """A line is an opening with the file, or a detection, as `write_detections_json` writes them.

    So a file of any size is in memory for one line.
    """
    file: Any = ""
    for number, line in enumerate(text_lines(path), start=1):
        text, where = line.strip().removesuffix(","), f"{path}, line {number}"
        if text in ("", "[", "]"):
            continue
        try:
            if text.startswith('{"file"'):
                file = json.loads(text if text.endswith("]}") else f"{text}]}}")["file"]
                continue
            row = json.loads(text.removesuffix("]}"))
            yield (where, file, *(row[name] for name in CSV))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{where} is not as `predict --format json` writes it: expected a detection with "
                f"{', '.join(CSV)} in a line of its own; write the table anew"
            ) from error
