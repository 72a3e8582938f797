"""Decoded, resampled clips kept on disk, so that a clip is decoded once and not every epoch."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from data.audio import load_audio, within_bounds
from data.files import cache_folder

SHARDS = 16  # folders, named by the first hexadecimal digit of the entries in them
HEADER_BYTES = 128  # of a .npy file that holds a vector
STALE_SECONDS = 3600  # no clip takes that long to write
OUR_FILE = re.compile(r"[0-9a-f]{64}\.(npy|[^.]+\.tmp)")

logger = logging.getLogger(__name__)


class ClipCache:
    """A bounded folder of waveforms, one .npy file (float32) for each source and sample rate.

    An entry's name is a digest of the source's absolute path, size and modification time and of
    the sample rate: a changed source is decoded anew. Several processes may share a folder, without
    locks: a file appears whole or not at all, and each of 16 shard folders is held to a sixteenth
    of `max_bytes` by deleting its oldest entries on every write. A file still being written is
    counted too, and exceeds the bound at most until its writer has made room for it.

    A folder that cannot be written to warns once and then serves only what it has. The object can
    be pickled.

    Args:
        folder: made on the first write; None: `cache_folder("clips")`.
        max_bytes: of all entries together; a clip larger than a sixteenth of it is not cached.

    Raises:
        ValueError: `max_bytes` is negative.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, max_bytes: int = 20 * 2**30
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes {max_bytes} is negative; give the bytes the cache may use")
        self.folder = cache_folder("clips") if folder is None else Path(folder)
        self.max_bytes = max_bytes
        self.writable = True

    def load(self, path: str | os.PathLike[str], sample_rate: int = 16_000) -> torch.Tensor:
        """What `load_audio(path, sample_rate)` returns or raises, from the cache where it can."""
        try:
            entry = self.entry(path, sample_rate)
        except OSError:
            return load_audio(path, sample_rate)  # names what is wrong with the source
        waveform = _read(entry)
        if waveform is None:
            waveform = load_audio(path, sample_rate)
            if self.writable:
                self._write(entry, waveform.numpy())
        return waveform

    def entry(self, path: str | os.PathLike[str], sample_rate: int = 16_000) -> Path:
        """The file in which a clip is kept, there or not; OSError where the clip is missing."""
        source = Path(path).absolute()
        status = source.stat()
        identity = (os.fsencode(source), status.st_size, status.st_mtime_ns, sample_rate)
        name = hashlib.sha256(repr(identity).encode()).hexdigest()
        return self.folder / name[0] / f"{name}.npy"

    def _write(self, entry: Path, waveform: np.ndarray) -> None:
        share = self.max_bytes // SHARDS
        if waveform.nbytes + HEADER_BYTES > share:
            return
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(".tmp", f"{entry.stem}.", entry.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    np.save(file, waveform, allow_pickle=False)
                # Make room only now: whoever else is writing sees this file, and it theirs.
                if trim(entry.parent, share) <= share:
                    Path(temporary).replace(entry)
                    # A listing may miss a file that is renamed meanwhile. The last to rename lists
                    # when nobody renames any more.
                    trim(entry.parent, share)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            if not self.writable:  # another thread has said so
                return
            self.writable = False
            logger.warning(
                f"cannot write to the clip cache {self.folder} ({error.strerror or error}): clips "
                "are decoded every time; free space there or choose another folder"
            )


def _read(entry: Path) -> torch.Tensor | None:
    """The entry's waveform, or None where there is no entry or it is damaged."""
    try:
        if not entry.is_file():  # opening a pipe would wait for ever
            return None
        # Mapped, so that a length which the file does not have takes no memory.
        mapped = np.lib.format.open_memmap(entry, mode="r")
        whole = mapped.offset + mapped.nbytes == entry.stat().st_size
        if not whole or mapped.dtype != np.float32 or mapped.ndim != 1 or not len(mapped):
            return None
        waveform = np.array(mapped)
    except Exception:  # a damaged header raises whatever numpy's parser stumbles over
        return None
    return torch.from_numpy(waveform) if within_bounds(waveform) else None


def trim(shard: Path, share: int) -> int:
    """Delete leftovers and the oldest entries until `share` bytes are kept; the bytes that stay."""
    held, entries = 0, []
    oldest_writer = time.time() - STALE_SECONDS
    with os.scandir(shard) as files:
        for file in files:
            if not OUR_FILE.fullmatch(file.name):
                continue
            try:
                status = file.stat(follow_symlinks=False)
            except FileNotFoundError:  # another worker was quicker
                continue
            if file.name.endswith(".npy"):
                entries.append((status.st_mtime_ns, status.st_size, file.path))
            elif status.st_mtime < oldest_writer:
                Path(file.path).unlink(missing_ok=True)
                continue
            held += status.st_size
    for _, size, path in sorted(entries):
        if held <= share:
            break
        Path(path).unlink(missing_ok=True)
        held -= size
    return held
