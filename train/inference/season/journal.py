"""What a command has heard of thousands of recordings, so that it goes on after a crash.

A folder beside the output. `run.json` says which model and options it is of. A shard writes two
files: what it found, one array after the other, in `K-of-N.npy`, and in `K-of-N.jsonl` a line for
each recording that says what file that was, and where its array lies. The line is written after the
array is on the disk; a line or an array that a crash cut off is taken away.
"""

from __future__ import annotations

import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data.files import (
    alone,
    atomic_file,
    could_not_write,
    json_field,
    read_json,
    sync,
    sync_folder,
    write_json,
)
from train.shards import Shard

RUN = "run.json"
VERSION = 1
LONGEST_LINE = 2**20  # bytes
SHOWN = 60  # letters of a value, in a message


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was heard: one that has changed since has another."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """None where there is no such file."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """One recording that was heard."""

    name: str  # its path below the season's folder
    size: int
    mtime_ns: int
    seconds: float
    sample_rate: int  # Hz, of the file
    rows: int  # of its array
    begins: int  # bytes into the file of arrays
    length: int
    checksum: int

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.size, self.mtime_ns)


class Journal:
    """The journal of all shards, of which this process writes one; `open_journal` makes it."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.folder = folder
        self._found: dict[tuple[str, Stamp], tuple[Entry, Path]] = {}  # and its file of arrays
        self._lines, self._arrays = (folder / f"{shard.name}.{kind}" for kind in ("jsonl", "npy"))
        self._end = 0  # of the arrays, bytes
        self._cut()
        self.refresh()

    def refresh(self) -> None:
        """Read what all shards have written."""
        for lines in sorted(self.folder.glob("*-of-*.jsonl")):
            arrays = lines.with_suffix(".npy")
            for entry in _read_lines(lines, arrays):
                self._found[entry.name, entry.stamp] = entry, arrays

    @property
    def names(self) -> set[str]:
        """Of the recordings that were heard, as they are now or as they were."""
        return {name for name, _ in self._found}

    def __contains__(self, name_and_stamp: tuple[str, Stamp | None]) -> bool:
        """Whether the recording of this name was heard as it is now."""
        return name_and_stamp in self._found

    def add(self, heard: Iterable[tuple[str, Stamp, float, int, np.ndarray]]) -> None:
        """Add recordings: all of them, or after a crash none.

        Args:
            heard: name, what its file was, seconds, sample rate of the file, what was found.
        """
        entries = []
        with self._arrays.open("ab") as file:
            for name, stamp, seconds, sample_rate, array in heard:
                content = io.BytesIO()
                np.save(content, array, allow_pickle=False)
                view = content.getbuffer()
                place = self._end, len(view), zlib.crc32(view)
                of_file = stamp.size, stamp.mtime_ns, seconds, sample_rate
                entries.append(Entry(name, *of_file, len(array), *place))
                with _writing(self._arrays):
                    file.write(view)
                    file.flush()
                self._end += len(view)
        lines = "".join(map(_line, entries))
        with _writing(self.folder):
            sync(self._arrays)
            with self._lines.open("ab") as file:
                file.write(lines.encode())
            sync(self._lines)
        self._found |= {(entry.name, entry.stamp): (entry, self._arrays) for entry in entries}

    def entry(self, name: str, stamp: Stamp | None) -> Entry | None:
        """The recording of this name if it was heard as it is now."""
        return self._found[name, stamp][0] if (name, stamp) in self._found else None

    def arrays(self, entries: Iterable[Entry]) -> Iterator[np.ndarray]:
        """What was found in each recording, one array in memory at a time.

        Raises:
            ValueError: an array is damaged.
        """
        with ExitStack() as stack:
            files: dict[Path, BinaryIO] = {}
            for entry in entries:
                path = self._found[entry.name, entry.stamp][1]
                if path not in files:
                    files[path] = stack.enter_context(path.open("rb"))
                files[path].seek(entry.begins)
                content = files[path].read(entry.length)
                if len(content) != entry.length or zlib.crc32(content) != entry.checksum:
                    raise _damaged(path, f"what was found in {entry.name} has changed")
                yield np.load(io.BytesIO(content), allow_pickle=False)

    def _cut(self) -> None:
        """Take away what a crash left unfinished of this shard's files."""
        self._lines.touch()
        self._arrays.touch()
        entries = list(_read_lines(self._lines, self._arrays))
        lines = "".join(map(_line, entries)).encode()
        if lines != self._lines.read_bytes():
            with atomic_file(self._lines) as temporary:
                temporary.write_bytes(lines)
        self._end = max((entry.begins + entry.length for entry in entries), default=0)
        os.truncate(self._arrays, self._end)
        sync_folder(self.folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """An OSError inside names the path, and what to do."""
    try:
        yield
    except OSError as error:
        raise could_not_write(error, path) from error


@contextmanager
def open_journal(folder: Path, run: Mapping[str, Any], shard: Shard) -> Iterator[Journal]:
    """The journal in a folder, made if need be; another process with the same shard waits.

    Args:
        folder: beside the output, or in it.
        run: the model and the options that decide what is found, by name: strings, numbers, lists.
        shard: this process's.

    Raises:
        ValueError: the journal is of another model or other options, or damaged.
        OSError: it cannot be written.
    """
    with alone(folder / shard.name):
        with alone(folder / RUN):
            _require_same_run(folder / RUN, {"version": VERSION, **run})
        yield Journal(folder, shard)


def has_journal(folder: Path) -> bool:
    """Whether a folder is a journal."""
    return (folder / RUN).is_file()


def _require_same_run(path: Path, run: dict[str, Any]) -> None:
    if not path.is_file():
        write_json(path, run)
        return
    wanted, stored = json.loads(json.dumps(run)), read_json(path)
    differing = [
        f"{name.replace('_', ' ')} {_shown(stored.get(name))}, not {_shown(wanted.get(name))}"
        for name in {**stored, **wanted}
        if stored.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path.parent} is the journal of another run: {'; '.join(differing)}; give another "
            "--out, or remove the journal and what was written beside it to begin anew"
        )


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _read_lines(path: Path, arrays: Path) -> Iterator[Entry]:
    """The whole lines of a file, whose arrays are there."""
    available = arrays.stat().st_size if arrays.exists() else 0
    with path.open("rb") as file:
        number = 0
        while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
            number += 1
            try:
                entry = _entry(json.loads(line))
            except ValueError as error:
                raise _damaged(path, f"line {number}") from error
            if entry.begins + entry.length <= available:
                yield entry


def _line(entry: Entry) -> str:
    return f"{json.dumps(asdict(entry))}\n"


def _entry(content: Any) -> Entry:
    if not isinstance(content, dict):
        raise ValueError("no object")
    values = {}
    for each in fields(Entry):
        kind = {"str": str, "int": int, "float": float}[each.type]
        low = -math.inf if each.name == "mtime_ns" else 0
        values[each.name] = json_field(content, each.name, kind, "entry", low)
    return Entry(**values)


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is damaged ({what}); remove {path.parent} to begin anew")
