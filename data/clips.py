"""A sequence of clips in columns: two million take little more memory than their file names.

A tuple of clips takes more than a kilobyte a clip, and every process that was forked copies it
page by page as it touches the reference counts. Here the columns are a few buffers, which all
processes go on sharing, and a clip is made when it is asked for.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NO_GROUP = b"\xff"  # a byte that no text has in UTF-8
CHUNK = 4096  # clips that are put into columns, or taken out of them, at a time

Row = tuple[str, tuple[int, ...], int | None, str | None, str | None]
"""A clip without its objects: path, targets, fold, split, group. Millions of them take time."""


@dataclass(frozen=True)
class Clip:
    """One recording: its file, the indices of its classes, and its fold or split.

    A corpus has folds for cross-validation, or splits ("train", "validation", "test"), or neither.
    """

    path: Path
    targets: tuple[int, ...]
    fold: int | None = None
    split: str | None = None
    group: str | None = None  # clips of one speaker, site or recording: never in two splits


@dataclass(frozen=True, eq=False)
class CategoryColumn:
    """A column of few values, each of which occurs many times."""

    values: tuple[Any, ...]
    codes: np.ndarray  # (rows,) index into `values`

    def __getitem__(self, row: int) -> Any:
        return self.values[self.codes.item(row)]

    def take(self, rows: np.ndarray) -> list[Any]:
        """The values of some rows."""
        return [self.values[code] for code in self.codes[rows].tolist()]


@dataclass(frozen=True, eq=False)
class RaggedColumn:
    """A column of sequences of different lengths, joined end to end."""

    content: bytes | np.ndarray
    offsets: np.ndarray  # (rows + 1,) row r is content[offsets[r] : offsets[r + 1]]

    def __getitem__(self, row: int) -> Any:
        return self.content[self.offsets.item(row) : self.offsets.item(row + 1)]

    def take(self, rows: np.ndarray) -> list[Any]:
        """The sequences of some rows: of bytes, or lists of numbers."""
        if isinstance(self.content, bytes):
            bounds = self.offsets[rows].tolist(), self.offsets[1:][rows].tolist()
            return [self.content[start:end] for start, end in zip(*bounds, strict=True)]
        numbers, counts = self.joined(rows)
        flat, ends = numbers.tolist(), np.cumsum(counts).tolist()
        return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def joined(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of some rows, end to end, and how many each row has: (rows,) int64."""
        offsets = self.offsets.astype(np.int64)
        starts = offsets[:-1][rows]
        counts = offsets[1:][rows] - starts
        before = np.cumsum(counts) - counts  # numbers of the rows before each
        return self.content[np.arange(counts.sum()) + np.repeat(starts - before, counts)], counts


class Columns(NamedTuple):
    """The clips as they were given; a path is `folder + name`."""

    folder: CategoryColumn  # up to the last separator, and with it
    name: RaggedColumn  # of bytes
    targets: RaggedColumn  # of class indices
    fold: CategoryColumn
    split: CategoryColumn
    group: RaggedColumn  # of bytes


class Clips(Sequence[Clip]):
    """An immutable sequence of clips; one that was selected from another shares its columns.

    Equal to any `Clips`, and to any tuple, of the same clips. Pickling sends the columns, or where
    most clips were left out by a selection, only what is selected.

    Args:
        columns: where the clips are from; `Clips.of` makes them.
        rows: (clips,) integer, which of them, in which order.
    """

    def __init__(self, columns: Columns, rows: np.ndarray) -> None:
        self._columns = columns
        self._rows = rows

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> Clips:
        """The same clips in columns, consumed one by one; `clips` itself if it is so already."""
        if isinstance(clips, cls):
            return clips
        return cls.of_rows(
            (str(clip.path), clip.targets, clip.fold, clip.split, clip.group) for clip in clips
        )

    @classmethod
    def of_rows(cls, rows: Iterable[Row]) -> Clips:
        """The clips of these rows, whose paths are as `str` of a Path gives them."""
        folder, fold, split = _CategoryWriter(), _CategoryWriter(), _CategoryWriter()
        name, group = _RaggedWriter(bytearray()), _RaggedWriter(bytearray())
        targets = _RaggedWriter(array("i"))
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            paths, some_targets, folds, splits, groups = zip(*chunk, strict=True)
            cuts = [path.rfind(os.sep) + 1 for path in paths]
            folder.extend([path[:cut] for path, cut in zip(paths, cuts, strict=True)])
            name.extend([_encode(path[cut:]) for path, cut in zip(paths, cuts, strict=True)])
            targets.extend(some_targets)
            fold.extend(folds)
            split.extend(splits)
            group.extend([NO_GROUP if text is None else _encode(text) for text in groups])
        writers = folder, name, targets, fold, split, group
        columns = Columns(*(writer.column() for writer in writers))
        return cls(columns, _compact(np.arange(len(columns.fold.codes))))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice | np.ndarray) -> Any:
        """The clip at an integer; the `Clips` at a slice, or at an array of integers or bools."""
        if isinstance(index, slice | np.ndarray):
            return Clips(self._columns, self._rows[index])
        row = self._rows.item(index)
        folder, name, targets, fold, split, group = self._columns
        return Clip(
            Path(folder[row] + _decode(name[row])),
            tuple(targets[row].tolist()),
            fold[row],
            split[row],
            _group(group[row]),
        )

    def __iter__(self) -> Iterator[Clip]:
        return (Clip(Path(path), *fields) for path, *fields in self.rows())

    def __add__(self, other: Clips) -> Clips:
        if self._columns is other._columns:
            return Clips(self._columns, np.concatenate([self._rows, other._rows]))
        return Clips.of_rows(chain(self.rows(), other.rows()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clips | tuple):
            return NotImplemented
        shared = isinstance(other, Clips) and self._columns is other._columns
        if shared and np.array_equal(self._rows, other._rows):
            return True
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{len(self):,} clips>"

    def __getstate__(self) -> dict[str, Any]:
        minority = 2 * len(self._rows) < len(self._columns.fold.codes)
        return vars(Clips.of_rows(self.rows()) if minority else self)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, whatever was selected of them, and of the selection."""
        folder, name, targets, fold, split, group = self._columns
        codes = (column.codes for column in (folder, fold, split))
        offsets = (column.offsets for column in (name, targets, group))
        arrays = (self._rows, targets.content, *codes, *offsets)
        texts = len(name.content) + len(group.content) + sum(map(len, folder.values))
        return texts + sum(array.nbytes for array in arrays)

    # Whole columns, without making the clips.

    def rows(self) -> Iterator[Row]:
        """The clips as `of_rows` takes them, several times as fast as `Clip` objects."""
        _, _, targets, fold, split, _ = self._columns
        for rows in self._chunks():
            some_targets = map(tuple, targets.take(rows))
            fields = some_targets, fold.take(rows), split.take(rows), self._groups(rows)
            yield from zip(self._paths(rows), *fields, strict=True)

    def paths(self) -> Iterator[str]:
        """The path of each clip."""
        return (path for rows in self._chunks() for path in self._paths(rows))

    def groups(self) -> Iterator[str | None]:
        """The group of each clip."""
        return (group for rows in self._chunks() for group in self._groups(rows))

    def values(self, field: str) -> set[Any]:
        """What occurs as "fold", "split" or "folder" (which ends with a separator)."""
        column: CategoryColumn = getattr(self._columns, field)
        return {column.values[code] for code in np.unique(column.codes[self._rows])}

    def not_utf8(self) -> Iterator[str]:
        """The paths that are not UTF-8, without a look at each where all are ASCII."""
        if self._columns.name.content.isascii() and all(map(str.isascii, self.values("folder"))):
            return iter(())
        return filterfalse(is_utf8, self.paths())

    def having(self, field: str, value: int | str | None) -> np.ndarray:
        """Which clips have this `fold` or `split`: (clips,) bool."""
        column: CategoryColumn = getattr(self._columns, field)
        code = column.values.index(value) if value in column.values else -1
        return column.codes[self._rows] == code

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """The class indices of all clips, end to end, and how many each has: (clips,), int64."""
        targets, counts = self._columns.targets.joined(self._rows)
        return targets.astype(np.int64), counts

    def replace(self, field: str, values: Iterable[int | str]) -> Clips:
        """The clips with another value each of "fold" or "split"."""
        writer = _CategoryWriter()
        writer.extend(list(values))
        column = writer.column()
        if len(column.codes) != len(self):
            raise ValueError(f"{len(column.codes)} values for {len(self)} clips: give one for each")
        every_row = np.arange(len(self._columns.fold.codes))
        whole = self if np.array_equal(self._rows, every_row) else Clips.of_rows(self.rows())
        return Clips(whole._columns._replace(**{field: column}), whole._rows)

    def _chunks(self) -> Iterator[np.ndarray]:
        return (self._rows[start : start + CHUNK] for start in range(0, len(self), CHUNK))

    def _paths(self, rows: np.ndarray) -> list[str]:
        folders, names = self._columns.folder.take(rows), self._columns.name.take(rows)
        return [folder + _decode(name) for folder, name in zip(folders, names, strict=True)]

    def _groups(self, rows: np.ndarray) -> list[str | None]:
        return [_group(stored) for stored in self._columns.group.take(rows)]


class _CategoryWriter:
    def __init__(self) -> None:
        self.code_of: dict[Any, int] = {}
        self.codes = array("I")

    def extend(self, values: Sequence[Any]) -> None:
        for value in dict.fromkeys(values):
            self.code_of.setdefault(value, len(self.code_of))
        self.codes.extend([self.code_of[value] for value in values])

    def column(self) -> CategoryColumn:
        return CategoryColumn(tuple(self.code_of), _compact(self.codes))


class _RaggedWriter:
    def __init__(self, content: bytearray | array) -> None:
        self.content = content
        self.lengths = array("I")  # half the memory of offsets until all are known

    def extend(self, rows: Sequence[bytes | Sequence[int]]) -> None:
        text = isinstance(self.content, bytearray)
        self.content.extend(b"".join(rows) if text else chain.from_iterable(rows))
        self.lengths.extend(map(len, rows))

    def column(self) -> RaggedColumn:
        text = isinstance(self.content, bytearray)
        content = bytes(self.content) if text else _compact(self.content)
        offsets = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(self.lengths, out=offsets[1:])
        return RaggedColumn(content, _compact(offsets))


def _compact(numbers: array | np.ndarray) -> np.ndarray:
    """As the smallest unsigned type that holds them, if none is negative; read-only."""
    numbers = np.asarray(numbers)
    if numbers.min(initial=0) >= 0:
        numbers = numbers.astype(np.min_scalar_type(numbers.max(initial=0)))
    numbers.flags.writeable = False
    return numbers


# Any text comes back as it was, file names that are not UTF-8 included: Python holds their bytes
# as lone surrogates.


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _group(stored: bytes) -> str | None:
    return None if stored == NO_GROUP else _decode(stored)
