"""Files of the same content in two lists of clips, found without reading most of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.clips import Clips
from data.file_table import FileTable, salted

BLOCK = 4096  # bytes from the middle of a file: what is compared first
CHUNK = 1 << 20  # bytes read at a time

DIGESTS = "digests"  # file of the table
FIELDS = [("digest", "<u8")]


def equal_files(
    first: Clips,
    second: Clips,
    first_files: np.ndarray,
    second_files: np.ndarray,
    kept: Path | None = None,
) -> list[tuple[Path, Path]]:
    """Each file of `first` whose content a file of `second` has as well, with that file.

    Only files that have a partner of equal size are read: a block from the middle, and the whole
    file where the blocks are equal, too.

    Args:
        first_files, second_files: as `file_table.look_at` gives them.
        kept: folder of the table that keeps digests; None keeps none.

    Raises:
        OSError: a file cannot be read.
    """
    clips, files = first + second, np.concatenate([first_files, second_files])
    in_second = np.arange(len(clips)) >= len(first)
    values = files["size"]
    for digest in (middle_digest, content_digest):
        shared = np.intersect1d(values[~in_second], values[in_second])
        chosen = np.isin(values, shared)
        clips, files, in_second = clips[chosen], files[chosen], in_second[chosen]
        values = digests(clips, files["key"], digest, kept)
    paths = list(map(Path, clips.paths()))
    partner = dict(zip(values[in_second].tolist(), paths[(~in_second).sum() :], strict=True))
    pairs = zip(paths, values[~in_second].tolist(), strict=False)
    return [(path, partner[digest]) for path, digest in pairs if digest in partner]


def digests(
    clips: Clips, keys: np.ndarray, digest: Callable[[Path], bytes], kept: Path | None = None
) -> np.ndarray:
    """What `middle_digest` or `content_digest` gives for each clip's file: (clips,) uint64.

    Of 64 bits each: among two million files, two different ones have the same once in ten million
    times.
    """

    def value(row: int) -> tuple[int]:
        return (int.from_bytes(digest(clips[row].path), "little"),)

    table = FileTable(kept / DIGESTS if kept else None, FIELDS)
    return table.values(salted(keys, digest.__name__), value, "compare files")["digest"]


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
