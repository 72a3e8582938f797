"""What was found out about files, kept so that it is not read again while they stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.clips import Clips
from data.files import alone, atomic_file

VERSION = 1  # of what the tables hold: another one is not read
MAX_ENTRIES = 2**23  # of a table. AudioSet has two million files to keep.
CHECKSUM_BYTES = 16

FILE = np.dtype([("key", np.uint64), ("size", np.int64)])
"""A file as it is now: its key changes with path, size and modification time; its bytes."""

logger = logging.getLogger(__name__)


def look_at(clips: Clips) -> np.ndarray:
    """The files of clips, (clips,) FILE, without reading them; zeros for one that is not there.

    Keys have 64 bits: among two million files, two have the same once in ten million times.
    """
    keys, sizes, here = bytearray(), array("q"), os.path.join(Path.cwd(), "")  # noqa: PTH118
    bar = tqdm(clips.paths(), "files", len(clips), unit="file", leave=False, disable=None)
    for path in bar:
        try:
            status = os.stat(path)  # noqa: PTH116 - millions of them, without a Path each
        except (OSError, ValueError):  # ValueError: no path at all, as one with a zero byte
            keys += bytes(8)
            sizes.append(0)
            continue
        if not path.startswith(os.sep):
            path = os.path.join(here, path)  # noqa: PTH118
        keys += _digest(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
        sizes.append(status.st_size)
    files = np.zeros(len(clips), FILE)
    files["key"], files["size"] = np.frombuffer(keys, "<u8"), sizes
    return files


def salted(keys: np.ndarray, *about: object) -> np.ndarray:
    """Other keys for the same files: for what was found out under these conditions."""
    return np.where(keys == 0, keys, keys ^ np.frombuffer(_digest(repr(about)), "<u8"))


def key_of(keys: np.ndarray, *about: object) -> np.ndarray:
    """One key, (1,) uint64, for what was found out about all of these files together."""
    return np.frombuffer(_digest(repr((keys.tobytes(), about))), "<u8")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class FileTable:
    """A table in one file: a value for each file that is known by its key.

    It appears whole or not at all. One that is damaged, of another version, or that cannot be
    written costs time alone. Processes that write at the same moment wait for one another.

    Args:
        path: the table's file, made on the first write; None keeps nothing.
        fields: of a value, as numpy describes them.
        max_entries: beyond it, those that were added first are dropped.
        is_sound: which of some entries, (entries,) bool, have values that can be; the others are
            found out anew. None: all.
    """

    def __init__(
        self,
        path: Path | None,
        fields: list[tuple[str, str]],
        max_entries: int = MAX_ENTRIES,
        is_sound: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.path = path
        self.is_sound = is_sound
        self.entry = np.dtype([("key", "<u8"), *fields])
        self.max_entries = max_entries

    def values(
        self, keys: np.ndarray, find_out: Callable[[int], tuple | None], description: str
    ) -> np.ndarray:
        """What is known of each file: kept, or else found out and kept from then on.

        Args:
            keys: (files,) of `look_at`, `salted` or `key_of`; nothing is kept for 0.
            find_out: gives the value of a row of `keys`, or None if there is none to keep. What it
                raises ends the search, but what was found out is kept.
            description: of the progress bar.

        Returns:
            (files,) with the fields of a value; zeros where there is none.
        """
        entries = np.zeros(len(keys), self.entry)
        entries["key"] = keys
        kept = self._read() if len(keys) else np.zeros(0, self.entry)
        missing = np.flatnonzero(~_fill(entries, kept))
        added = np.zeros(len(keys), bool)
        try:
            bar = tqdm(missing, description, unit="file", leave=False, disable=None)
            for row in bar:
                value = find_out(row)
                if value is not None:
                    entries[row] = (keys[row], *value)
                    added[row] = keys[row] != 0
        finally:
            if added.any():
                self._write(entries[added])
        return entries

    def _read(self) -> np.ndarray:
        """The entries; none where the file is missing, damaged or of another version."""
        most_bytes = CHECKSUM_BYTES + MAX_ENTRIES * self.entry.itemsize
        content = b""
        with contextlib.suppress(OSError):
            if self.path and self.path.is_file() and self.path.stat().st_size <= most_bytes:
                content = self.path.read_bytes()
        checksum, content = content[:CHECKSUM_BYTES], memoryview(content)[CHECKSUM_BYTES:]
        if checksum != self._checksum(content) or len(content) % self.entry.itemsize:
            return np.zeros(0, self.entry)
        entries = np.frombuffer(content, self.entry)
        return entries if self.is_sound is None else entries[self.is_sound(entries)]

    def _write(self, new: np.ndarray) -> None:
        if self.path is None:
            return
        new = new[np.sort(np.unique(new["key"], return_index=True)[1])]
        try:
            with alone(self.path):
                kept = self._read()  # once more: another process may have written meanwhile
                kept = kept[~np.isin(kept["key"], new["key"])]
                content = np.concatenate([kept, new])[-self.max_entries :].tobytes()
                with atomic_file(self.path) as temporary:
                    temporary.write_bytes(self._checksum(content) + content)
        except OSError as error:
            logger.warning("files will be read anew the next time: %s", error)

    def _checksum(self, content: bytes | memoryview) -> bytes:
        about = repr((VERSION, self.entry.descr)).encode()
        checksum = hashlib.blake2b(about, digest_size=CHECKSUM_BYTES)
        checksum.update(content)
        return checksum.digest()


def _fill(entries: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Copy what is kept to the entries of the same keys; which ones there were: (entries,) bool."""
    if not len(kept):
        return np.zeros(len(entries), bool)
    order = np.argsort(kept["key"])
    places = np.searchsorted(kept["key"], entries["key"], sorter=order)
    candidates = kept[order[np.minimum(places, len(kept) - 1)]]
    found = (candidates["key"] == entries["key"]) & (entries["key"] != 0)
    entries[found] = candidates[found]
    return found
