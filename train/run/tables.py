"""Tables as CSV files, and as Parquet through pyarrow where it is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.files import atomic_file

if TYPE_CHECKING:
    import pyarrow

INSTALL = "install it with `pip install pyarrow`"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows with a header line; floats with 6 decimals, None as an empty cell."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in row])


def has_pyarrow() -> bool:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def write_parquet(path: Path, tables: Iterable[Mapping[str, Any]]) -> None:
    """Write tables of equal columns one after the other, one in memory at a time.

    Args:
        tables: column name to a list, or to an array (rows, …) that becomes nested lists.

    Raises:
        ValueError: pyarrow is missing; nothing is written.
    """
    if not has_pyarrow():
        raise ValueError(f"{path}: writing Parquet needs pyarrow; {INSTALL}")
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writer = None
    with atomic_file(path) as temporary:
        try:
            for columns in tables:
                table = pa.table({name: _column(values) for name, values in columns.items()})
                writer = writer or ParquetWriter(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer:
                writer.close()


def _column(values: Any) -> pyarrow.Array:
    import pyarrow as pa

    if not isinstance(values, np.ndarray) or values.ndim == 1:
        return pa.array(values)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, _column(values.reshape(-1, *values.shape[2:])))
