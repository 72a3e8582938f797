"""Files of the same content in two lists of clips, found without reading most of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.clips import Clips
from data.files import atomic_file

BLOCK = 4096  # bytes from the middle of a file: what is compared first
CHUNK = 1 << 20  # bytes read at a time
MAX_ENTRIES = 2**23  # of a DigestCache: 128 MiB. AudioSet has two million blocks to keep.

ENTRY = np.dtype([("file", np.uint64), ("digest", np.uint64)])
CHECKSUM_BYTES = 16

logger = logging.getLogger(__name__)


def equal_files(
    first: Clips,
    second: Clips,
    first_sizes: np.ndarray,
    second_sizes: np.ndarray,
    digests: Path | None = None,
) -> list[tuple[Path, Path]]:
    """Each file of `first` whose content a file of `second` has as well, with that file.

    Only files that have a partner of equal size are read: a block from the middle, and the whole
    file where the blocks are equal, too.

    Args:
        first_sizes, second_sizes: of the files, in bytes.
        digests: the file of a `DigestCache`, which keeps what was read; None keeps nothing.
    """
    cache = DigestCache(digests)
    clips, values = [first, second], [first_sizes, second_sizes]
    for digest in (middle_digest, content_digest):
        shared = np.intersect1d(*values)
        clips = [side[np.isin(own, shared)] for side, own in zip(clips, values, strict=True)]
        values = [cache.digests(side, digest) for side in clips]
    paths = [[clip.path for clip in side] for side in clips]
    partner = dict(zip(values[1].tolist(), paths[1], strict=True))
    pairs = zip(paths[0], values[0].tolist(), strict=True)
    return [(path, partner[digest]) for path, digest in pairs if digest in partner]


def middle_digest(path: Path) -> bytes:
    """Of a block from the middle, where PCM clips of one length differ, unlike in their headers."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(0, path.stat().st_size - BLOCK) // 2)
        return hashlib.blake2b(file.read(BLOCK), digest_size=8).digest()


def content_digest(path: Path) -> bytes:
    """Of the whole file."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


class DigestCache:
    """Digests of files, kept in one file by their path, size and modification time.

    Of 64 bits each: among two million files, two different ones have the same once in ten million
    times. A cache file that is damaged or cannot be written costs time alone. Of several processes
    that write at once, the last one's entries are kept.

    Args:
        path: the cache file, made on the first write; None keeps nothing.
        max_entries: beyond it, those that were added first are dropped.
    """

    def __init__(self, path: Path | None, max_entries: int = MAX_ENTRIES) -> None:
        self.path = path
        self.max_entries = max_entries

    def digests(self, clips: Clips, digest: Callable[[Path], bytes]) -> np.ndarray:
        """What `digest` gives for each clip's file: (clips,) uint64.

        Args:
            digest: a function of this module; its name is part of what an entry is known by.

        Raises:
            OSError: a file cannot be read.
        """
        keys = np.fromiter((_key(clip.path, digest.__name__) for clip in clips), np.uint64)
        found = np.zeros(len(keys), ENTRY["digest"])
        kept = self._read() if self.path and len(keys) else np.zeros(0, ENTRY)
        _, rows, entries = np.intersect1d(keys, kept["file"], return_indices=True)
        found[rows] = kept["digest"][entries]
        missing = np.delete(np.arange(len(keys)), rows)
        for row in tqdm(missing, "compare files", unit="file", leave=False, disable=None):
            found[row] = int.from_bytes(digest(clips[row].path), "little")
        if self.path and len(missing):
            new = np.zeros(len(missing), ENTRY)
            new["file"], new["digest"] = keys[missing], found[missing]
            self._write(np.concatenate([kept, new])[-self.max_entries :])
        return found

    def _read(self) -> np.ndarray:
        """The entries, (entries,) ENTRY; none where the file is missing or damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return np.zeros(0, ENTRY)
        checksum, entries = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if checksum != _checksum(entries):
            return np.zeros(0, ENTRY)
        return np.frombuffer(entries, ENTRY)

    def _write(self, entries: np.ndarray) -> None:
        content = entries.tobytes()
        try:
            with atomic_file(self.path) as temporary:
                temporary.write_bytes(_checksum(content) + content)
        except OSError as error:
            logger.warning("files will be compared anew the next time: %s", error)


def _key(path: Path, kind: str) -> int:
    status = path.stat()
    identity = (os.fsencode(path.absolute()), status.st_size, status.st_mtime_ns, kind)
    return int.from_bytes(
        hashlib.blake2b(repr(identity).encode(), digest_size=8).digest(), "little"
    )


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES).digest()
