"""Tables from strangers, text and Parquet, read within limits; a message names file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LONGEST_LINE = 2**20  # bytes; the csv module's own limit is 131,072 characters for a cell
BLOCK = 2**16  # bytes read at a time

MOST_RATIO = 200  # of columns as they are read to the Parquet file's bytes
MOST_SMALL = 2**26  # bytes of columns, however small the Parquet file is
MOST_VALUES_A_BYTE = 20  # of a column; file names in a row take 0.3 bytes each at best
FEW_VALUES = 10_000  # of a column, however small the file is


class _Unfit(ValueError):
    """Bytes that no table holds."""


class _Lines(io.FileIO):
    """A file whose bytes are refused as they are read where they are no lines of text.

    Blocks are looked at, not lines: of those there may be millions.
    """

    open_line = 0  # bytes read since the last end of a line

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        block = bytes(buffer[:count])
        last_end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self.open_line = count - 1 - last_end if last_end >= 0 else self.open_line + count
        if self.open_line > LONGEST_LINE or b"\0" in block:
            raise _Unfit
        return count


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text in UTF-8, of which none is longer than a megabyte.

    Raises:
        ValueError: it is not UTF-8, or holds a zero byte or a longer line.
    """
    with _open_text(path) as file:
        yield from file


def csv_rows(
    path: Path, separator: str = ",", skip_space: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV with the line that each ends in; empty lines are left out.

    Args:
        path: the table.
        separator: of its columns.
        skip_space: leave out what is blank behind a separator.

    Raises:
        ValueError: as `text_lines`; or a quote is not closed, a cell has more than 131,072
            characters, or something follows a closing quote.
    """
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=separator, skipinitialspace=skip_space, strict=True)
        line = 0
        try:
            for cells in reader:
                line = reader.line_num
                if cells:
                    yield line, cells
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line + 1}: no row of a table ({error}): look for a quote that is "
                "not closed, or get the file anew"
            ) from error


def csv_records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV as dictionaries, with their lines; it must have these columns.

    Raises:
        ValueError: as `csv_rows`; or a column is missing, or a row has another number of cells than
            the header.
    """
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    lacking = [column for column in columns if column not in header]
    if lacking:
        raise ValueError(
            f"{path} lacks the columns {', '.join(lacking)}: "
            f"expected {', '.join(columns)}; get the file anew"
        )
    for line, cells in rows:
        require_as_header(path, line, cells, header)
        yield line, dict(zip(header, cells, strict=True))


def require_as_header(path: Path, line: int, cells: list[str], header: list[str]) -> None:
    """Raise a ValueError where a row has another number of cells than the header."""
    if len(cells) != len(header):
        raise ValueError(
            f"{path}, line {line}: {len(cells)} cells: expected {len(header)} "
            "as in the header; correct the line, or quote cells that hold the separator"
        )


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    try:
        with io.TextIOWrapper(
            io.BufferedReader(_Lines(path), BLOCK), "utf-8-sig", newline=""
        ) as file:
            yield file
    except (_Unfit, UnicodeDecodeError) as error:
        raise ValueError(_what_is_wrong(path)) from error


def _what_is_wrong(path: Path) -> str:
    """The first line that is no text, and why; sought only where there is one."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = iter(lambda: file.readline(LONGEST_LINE + 1), "")
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            if "\0" in line:
                return f"{where} holds a zero byte: expected a table in UTF-8; get the file anew"
            if len(line.encode(errors="surrogateescape")) > LONGEST_LINE:
                return f"{where} has more than {LONGEST_LINE:,} bytes: it is no table of clips"
            try:
                line.encode()
            except UnicodeEncodeError:
                return f"{where} is not UTF-8: save the table as UTF-8"
    return f"{path} is not a table in UTF-8: get the file anew"


@contextmanager
def open_parquet(path: Path, dictionaries: Sequence[str] = ()) -> Iterator[ParquetFile]:
    """A Parquet file to read; what pyarrow raises meanwhile becomes one line.

    Args:
        path: the file.
        dictionaries: columns of text, to be read as the different texts and their numbers.

    Raises:
        ValueError: pyarrow is missing, or the file is damaged.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Parquet needs pyarrow; install it with `pip install pyarrow`"
        ) from error
    try:
        with ParquetFile(path, read_dictionary=dictionaries) as file:
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a Parquet file ({reason}): save it anew") from error


def parquet_columns(path: Path, names: Sequence[str]) -> tuple[int, dict[str, list[Any]]]:
    """The number of rows of a Parquet file, and the cells of some columns.

    Raises:
        ValueError: as `open_parquet`; a column holds bytes or structures, is larger than the file's
            size explains, or has a cell that is no value in Python.
    """
    with open_parquet(path, _texts(path, names)) as file:
        table = file.read(list(names))
        return len(table), {name: _cells(path, name, table[name]) for name in names}


def parquet_batches(path: Path, names: Sequence[str], rows: int) -> Iterator[dict[str, list[Any]]]:
    """The cells of some columns, so many rows at a time; raises as `parquet_columns`."""
    number = 0
    with open_parquet(path, _texts(path, names)) as file:
        for batch in file.iter_batches(rows, columns=list(names)):
            yield {name: _cells(path, name, batch[name], number) for name in names}
            number += len(batch)


def _texts(path: Path, names: Sequence[str]) -> list[str]:
    """The columns that hold texts. One that occurs a million times is stored once in the file, and
    so it is in memory where pyarrow reads them as dictionaries."""
    with open_parquet(path) as file:
        types = {name: str(file.schema_arrow.field(name).type) for name in names}
        require_packed(path, file, names)
    for name, kind in types.items():
        if any(word in kind for word in ("binary", "struct", "map<", "union", "extension")):
            raise ValueError(
                f"{path} holds the audio itself or the like in {name!r:.200}, not texts or numbers "
                f"but {kind:.60}: open it with data.hugging_face, or name another column"
            )
    return [name for name, kind in types.items() if kind in ("string", "large_string")]


def require_packed(path: Path, file: ParquetFile, names: Sequence[str]) -> None:
    """Raise a ValueError where columns have more rows, values or bytes than the file can hold."""
    for number in range(file.metadata.num_row_groups):
        # pyarrow ends the process where the description of a column is damaged, unless it reads it.
        next(file.iter_batches(1, [number], list(names)), None)
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    columns = [column for column in columns if column.path_in_schema.partition(".")[0] in names]
    size = path.stat().st_size
    values = max(file.metadata.num_rows * len(names), sum(column.num_values for column in columns))
    unpacked = sum(column.total_uncompressed_size for column in columns)
    most_values = (FEW_VALUES + MOST_VALUES_A_BYTE * size) * len(names)
    most_bytes = MOST_SMALL + MOST_RATIO * size
    if values > most_values or unpacked > most_bytes:
        raise ValueError(
            f"{path} has {values:,} values of {unpacked:,} bytes, expected at most "
            f"{most_values:,} of {most_bytes:,} bytes in so small a file: save it anew"
        )


def _cells(path: Path, name: str, column: Any, before: int = 0) -> list[Any]:
    """The cells as Python objects, equal texts as one.

    Args:
        column: an array of pyarrow, chunked or not.
        before: rows of the file before it.
    """
    cells: list[Any] = []
    try:
        for chunk in getattr(column, "chunks", [column]):
            if hasattr(chunk, "dictionary"):
                values = [*chunk.dictionary.to_pylist(), None]
                cells += [values[code] for code in chunk.indices.fill_null(-1).to_pylist()]
            else:
                cells += chunk.to_pylist()
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}, row {before + _row_of_error(column)}: column {name!r:.200} has a cell that "
            f"is no {column.type} ({' '.join(str(error).split())}): correct it"
        ) from error
    return cells


def _row_of_error(column: Any) -> int:
    for row in range(len(column)):
        try:
            column[row].as_py()
        except (ValueError, OverflowError):
            return row + 1
    return len(column)
