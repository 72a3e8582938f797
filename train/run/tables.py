"""Tables as CSV files, and as Parquet through pyarrow where it is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from data.files import atomic_file

if TYPE_CHECKING:
    import pyarrow

INSTALL = "install it with `pip install pyarrow`"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows with a header line; floats with 6 decimals, None as an empty cell."""
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):  # the name of a file may be no UTF-8, and is written as it is
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in row])


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Header and rows of a CSV file that this program wrote, each with its place, "FILE, line 3".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or no CSV, a row has more or fewer cells than the header, or the
            last line has no end: the file was cut off.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    width = 0
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(_whole_lines(file), strict=True)
        try:
            for cells in reader:
                width, source = width or len(cells), f"{path}, line {reader.line_num}"
                if len(cells) != width:
                    raise ValueError(f"{source} is damaged: {len(cells)} cells, expected {width}")
                yield source, cells
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num} is damaged: {error}") from None
    if not width:
        raise ValueError(f"{path} is empty; expected a line of headings")


def _whole_lines(file: TextIO) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if not line.endswith(("\n", "\r")):
            raise ValueError(f"{file.name}, line {number} is damaged: its end is missing")
        yield line


def has_pyarrow() -> bool:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def require_pyarrow(path: Path) -> None:
    """ValueError where pyarrow is missing to write this file."""
    if not has_pyarrow():
        raise ValueError(f"{path}: writing Parquet needs pyarrow; {INSTALL}")


def write_parquet(path: Path, tables: Iterable[Mapping[str, Any]]) -> None:
    """Write tables of equal columns one after the other, one in memory at a time.

    Args:
        tables: column name to a list, or to an array (rows, …) that becomes nested lists.

    Raises:
        ValueError: pyarrow is missing, or a text is not UTF-8; nothing is written.
    """
    require_pyarrow(path)
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writer = None
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow knows UTF-8 alone
        try:
            for columns in tables:
                table = pa.table({name: _column(values) for name, values in columns.items()})
                writer = writer or ParquetWriter(file, table.schema)
                writer.write_table(table)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{path}: Parquet holds text in UTF-8, and {error.object!r:.200} is none: rename "
                "the file"
            ) from error
        finally:
            if writer:
                writer.close()


def _column(values: Any) -> pyarrow.Array:
    import pyarrow as pa

    if not isinstance(values, np.ndarray) or values.ndim == 1:
        return pa.array(values)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, _column(values.reshape(-1, *values.shape[2:])))
