"""The recordings of the page: those of the folder named at the start, and uploads."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from data.audio import read_header
from data.files import AUDIO_SUFFIXES, is_recording, split_name
from train.serve.audio import Recording
from train.serve.jobs import Job, Worker

UPLOAD_BYTES = 8 * 2**30  # of a file
ALL_UPLOAD_BYTES = 32 * 2**30
FREE_BYTES = 2**30  # that uploads leave on the disk
MOST_RECORDINGS = 200  # open at a time
MOST_ENTRIES = 2000  # of a folder that are listed
LONGEST_NAME = 150
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Library:
    """Recordings that are open, each with its job.

    Args:
        worker: analyses them.
        temporary: folder for uploads.
        folder: that may be browsed, if any; no path leaves it.
    """

    def __init__(self, worker: Worker, temporary: Path, folder: Path | None = None) -> None:
        self.worker = worker
        self.temporary = temporary
        self.folder = folder.resolve() if folder else None
        self.recordings: dict[str, Recording] = {}
        self.uploaded_bytes = 0

    def __getitem__(self, name: str) -> Recording:
        """The recording of an id; HTTPException (404) where there is none."""
        if name not in self.recordings:
            raise HTTPException(404, "this recording is not open; open it again")
        return self.recordings[name]

    async def receive(self, body: AsyncIterator[bytes], name: str) -> tuple[Path, str]:
        """Write an upload to the temporary folder as it comes; its path and its content's digest.

        Raises:
            HTTPException: as `body` does; or there is no room (507).
        """
        suffix = split_name(name)[1].lower()
        suffix = suffix if suffix in AUDIO_SUFFIXES else ""
        path = self.temporary / f"{secrets.token_hex(8)}{suffix}"
        written, digest = 0, hashlib.blake2b(digest_size=8)
        try:
            with path.open("xb") as file:
                async for piece in body:
                    self.uploaded_bytes += len(piece)
                    written += len(piece)
                    if self.uploaded_bytes > ALL_UPLOAD_BYTES:
                        raise HTTPException(507, "uploads fill the server; close recordings first")
                    if is_full(self.temporary, len(piece)):
                        raise HTTPException(507, "the server's disk is full; close recordings")
                    file.write(piece)
                    digest.update(piece)
        except BaseException as error:
            self.uploaded_bytes -= written
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise HTTPException(507, "the server could not write the upload") from error
            raise
        return path, digest.hexdigest()

    def discard(self, path: Path) -> None:
        """Remove an upload."""
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            self.uploaded_bytes -= size

    def add(self, path: Path, name: str, digest: str = "") -> Recording:
        """Open a recording by its header, and have it analysed; an upload has a digest.

        Raises:
            HTTPException: it cannot be read (422), or too many are open (409).
        """
        if len(self.recordings) >= MOST_RECORDINGS:
            raise HTTPException(409, f"{MOST_RECORDINGS} recordings are open; close some first")
        name = shown_name(name)
        try:
            header = read_header(path)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split()).replace(str(path), name)
            raise HTTPException(422, reason) from error
        job = Job(path, header.seconds)
        recording = Recording(secrets.token_hex(8), name, path, header, job, digest)
        self.recordings[recording.id] = recording
        self.worker.analyse(job)
        return recording

    def open(self, below: str) -> Recording:
        """A recording of the folder by its path below it; the one that is open, if it is."""
        path = self._inside(below)
        for recording in list(self.recordings.values()):
            if recording.path == path:
                return recording
        if not path.is_file():
            raise HTTPException(404, f"{shown_name(below)} is no file of the folder")
        return self.add(path, path.name)

    def close(self, name: str) -> None:
        """Cancel a recording's analysis and forget it; an upload is removed."""
        recording = self[name]
        recording.job.cancelled = True
        del self.recordings[name]
        if recording.digest:
            self.discard(recording.path)

    def listing(self, below: str) -> dict[str, Any]:
        """Folders and recordings in a folder, by name."""
        path = self._inside(below)
        folders, files = [], []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or UNPRINTABLE.search(entry.name):
                        continue
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif is_recording(entry):
                        files.append(entry.name)
        except OSError as error:
            raise HTTPException(404, f"{shown_name(below)} is no folder") from error
        parent = "" if path == self.folder else path.relative_to(self.folder).as_posix()
        return {
            "path": parent,
            "folders": sorted(folders)[:MOST_ENTRIES],
            "files": sorted(files)[:MOST_ENTRIES],
            "left_out": sum(max(0, len(each) - MOST_ENTRIES) for each in (folders, files)),
        }

    def _inside(self, below: str) -> Path:
        """The path, links followed; HTTPException (403, 404) unless it is in the folder."""
        if self.folder is None:
            raise HTTPException(404, "the server was started without a folder of recordings")
        try:
            path = (self.folder / below).resolve()
        except (ValueError, OSError, RuntimeError) as error:  # a NUL; a loop of links
            raise HTTPException(404, "there is no such path") from error
        if not path.is_relative_to(self.folder):
            raise HTTPException(403, "the path leads out of the folder")
        return path


def is_full(folder: Path, more: int = 0) -> bool:
    """Whether so many bytes more would leave less than `FREE_BYTES` on the disk of a folder."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free < FREE_BYTES + more


def shown_name(name: str) -> str:
    """The last part of a path, as it can be shown: in one line, and not too long."""
    name = UNPRINTABLE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip()
    return name[-LONGEST_NAME:] or "recording"
