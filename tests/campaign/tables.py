"""Tables of clips: CSV, TSV and Parquet, read without decoding."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from data import table
from tests.campaign.case import InputClass
from tests.campaign.mutations import TEXTS, damaged, files_in

COLUMNS = ("path", "label", "fold", "speaker")
ROWS = [
    (
        f"{clip}.wav",
        "ab"[clip % 2],
        str(1 + clip // 4),
        f"s{clip}",
    )
    for clip in range(8)
]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252")
DAY = datetime.datetime(2026, 1, 1)
COLUMN_MAKERS: tuple[Callable[[int], pa.Array], ...] = (
    lambda n: pa.array([2**62] * n, pa.timestamp("us")),
    lambda n: pa.array([-(2**62)] * n, pa.timestamp("ns", "Europe/Berlin")),
    lambda n: pa.array([1] * n, pa.timestamp("s", "No/Where")),
    lambda n: pa.array([DAY] * n),
    lambda n: pa.array([2**30] * n, pa.date32()),
    lambda n: pa.array([2**62] * n, pa.date64()),
    lambda n: pa.array([2**62] * n, pa.duration("s")),
    lambda n: pa.array([2**62] * n, pa.time64("ns")),
    lambda n: pa.array([b"\xff\xfe"] * n),
    lambda n: pa.array([b"\xff"] * n).cast(pa.large_binary()),
    lambda n: pa.Array.from_buffers(pa.string(), n, pa.array([b"\xffa"] * n).buffers()),
    lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([1e308] * n),
    lambda n: pa.array([2**63 - 1] * n),
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array([Decimal("1e20")] * n, pa.decimal128(38, 2)),
    lambda n: pa.array([None] * n),
    lambda n: pa.array([None] * n, pa.string()),
    lambda n: pa.array([True] * n),
    lambda n: pa.array([["a", None, "a"]] * n),
    lambda n: pa.array([[["a"]]] * n),
    lambda n: pa.array([[]] * n, pa.list_(pa.string())),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    lambda n: pa.array(["a"] * n).dictionary_encode(),
    lambda n: pa.array(["\x00"] * n),
    lambda n: pa.array(["x" * 10_000] * n),
)


def make(folder: Path) -> None:
    """The same eight clips in a table of each form; a case has one table."""
    for path, *_ in ROWS:
        soundfile.write(folder / path, np.zeros(160), 16_000)
    for name, separator in (("clips.csv", ","), ("clips.tsv", "\t")):
        lines = [separator.join(cells) for cells in (COLUMNS, *ROWS)]
        (folder / name).write_text("\n".join(lines) + "\n")
    write_parquet(folder / "clips.parquet")


def write_parquet(file: Path, arrays: dict[str, pa.Array] | None = None) -> None:
    """The table, with other columns in the place of its own."""
    columns = {
        name: pa.array(cells) for name, cells in zip(COLUMNS, zip(*ROWS, strict=True), strict=True)
    }
    columns = {**columns, **(arrays or {})}
    pq.write_table(pa.table(list(columns.values()), list(columns)), file)


def the_only(folder: Path, random: Random, *suffixes: str) -> Path:
    """The table of the case; the others are removed where they are still there."""
    tables = [path for path in files_in(folder) if path.suffix != ".wav"]
    fitting = [path for path in tables if path.suffix in suffixes or not suffixes] or tables
    chosen = random.choice(fitting)
    for other in tables:
        if other != chosen:
            other.unlink()
    return chosen


def any_bytes(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    file.write_bytes(damaged(file.read_bytes(), random))


def cell(folder: Path, random: Random) -> None:
    """Cells of CSV with texts that are no names, numbers or paths, quoted or not."""
    file = the_only(folder, random, ".csv", ".tsv")
    separator = "\t" if file.suffix == ".tsv" else ","
    rows = [list(cells) for cells in (COLUMNS, *ROWS)]
    text, column = random.choice(TEXTS), random.randrange(len(COLUMNS))
    for row in random.choice((rows[:1], rows[1:], random.sample(rows, 1))):
        row[column] = text
    if random.random() < 0.5:
        lines = "\n".join(separator.join(row) for row in rows)
    else:
        lines = "\n".join(separator.join(f'"{each}"' for each in row) for row in rows)
    file.write_bytes(lines.encode(random.choice(ENCODINGS), random.choice(("replace", "ignore"))))


def header(folder: Path, random: Random) -> None:
    """A header that is missing, twice, of other columns, or of 10,000."""
    file = the_only(folder, random, ".csv")
    names = list(COLUMNS)
    rows = [list(cells) for cells in ROWS]
    kind = random.randrange(5)
    if kind == 0:
        names = rows.pop(0)
    elif kind == 1:
        names[random.randrange(len(names))] = random.choice((*COLUMNS, "split"))
    elif kind == 2:
        names, rows = names * 2000, [row * 2000 for row in rows]
    elif kind == 3:
        rows = random.choice(([], [[]], [["a.wav"]], [row[:-1] for row in rows], [[*rows[0], "x"]]))
    else:
        random.shuffle(names)
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([names, *rows])


def parquet_column(folder: Path, random: Random) -> None:
    """One column of Parquet, of a type that is no text."""
    the_only(folder, random).unlink()
    column = random.choice(COLUMN_MAKERS)(len(ROWS))
    write_parquet(folder / "typed.parquet", {random.choice(COLUMNS): column})


def parquet_cell(folder: Path, random: Random) -> None:
    the_only(folder, random).unlink()
    name = random.choice(COLUMNS)
    cells = [row[COLUMNS.index(name)] for row in ROWS]
    cells[random.randrange(len(cells))] = random.choice(TEXTS).encode(errors="replace").decode()
    write_parquet(folder / "cell.parquet", {name: pa.array(cells)})


def parquet_shape(folder: Path, random: Random) -> None:
    """No rows, no columns, a name twice, or a column of a long list."""
    the_only(folder, random).unlink()
    texts = pa.array([row[0] for row in ROWS])
    tables = (
        pa.table([pa.array([], pa.string())] * 2, ["path", "label"]),
        pa.table({}),
        pa.table([texts] * 3, ["path", "path", "label"]),
        pa.table([texts, pa.array([["a"] * 100_000] * len(ROWS))], ["path", "label"]),
        pa.table([texts, pa.array(["a"] * len(ROWS))], ["path", "l\x00\nabel"]),
    )
    pq.write_table(random.choice(tables), folder / "shape.parquet")


def other_suffix(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    file.rename(
        file.with_suffix(random.choice((".csv", ".tsv", ".parquet", ".txt", ".pq", ".json")))
    )


def read(folder: Path) -> list[Any]:
    """The clips of the table, and their folds."""
    tables = [path for path in files_in(folder) if path.suffix != ".wav"]
    found: list[Any] = []
    for file in tables[:1]:
        manifest = table(file)
        found += [clip.fold for clip in manifest.clips]
    return found


TABLES = InputClass(
    "tables",
    make,
    (
        *(any_bytes, any_bytes, cell, cell, header, parquet_column, parquet_column, parquet_cell),
        *(parquet_shape, other_suffix),
    ),
    read,
)
