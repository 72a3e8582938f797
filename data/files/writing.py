"""Files and folders that are written whole or not at all, also where the power fails.

What is written lies on the disk before it gets its name (fsync), and so does the name before the
block ends. A process that is killed leaves a `.writing-…` beside; the next one that writes into
that folder removes it, once its writer has ended.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.files.processes import Process, has_ended, this_process

LEFTOVER = re.compile(r"\.(writing|replaced)-(\d+)(?:\.(\d+)\.([0-9a-f]{8}))?-(.+)", re.DOTALL)
LEFTOVER_SECONDS = 86_400.0  # untouched for so long, another machine's is nobody's any more
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
CANNOT_SYNC = (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.EACCES)  # a folder, on some


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def require_replaceable(path: Path, *beginnings: str) -> None:
    """ValueError where a file holds something that begins otherwise than what we write there."""
    if not path.is_file():
        return
    longest = max(len(beginning.encode()) for beginning in beginnings)
    with path.open("rb") as file:
        found = file.read(longest)
    if found and not any(found.startswith(beginning.encode()) for beginning in beginnings):
        raise ValueError(
            f"{path} exists and was not written by this command: move it away, or give another name"
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s place when the block ends.

    Raises:
        OSError: writing failed (a full disk, say); `path` is as it was.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        _make(path.parent)
        _sweep(path.parent)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise could_not_write(error, path) from error
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to fill; it takes `folder`'s place when the block ends.

    On Linux the two exchange their names, so that there is a whole folder at every moment. Where
    the system or the file system cannot (NFS, say), the older one is first renamed to
    `.replaced-…`: whoever is killed right then leaves no `folder`, but the older one under that
    name, and the next one that writes beside it, or `recover`, names it as before.

    Raises:
        OSError: as `atomic_file`.
    """
    folder = Path(folder)
    old = temporary_path(folder, "replaced")
    try:
        with scratch_folder(folder) as temporary:
            yield temporary
            sync(temporary)
            replace_folder(temporary, folder, old)
            sync_folder(folder.parent)
    except OSError as error:
        raise could_not_write(error, folder) from error
    finally:
        settle(old)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that goes when the block ends, if it is still there."""
    temporary = temporary_path(path)
    _make(path.parent)
    _sweep(path.parent)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        _remove(temporary)


def replace_folder(new: Path, folder: Path, old: Path) -> None:
    """Give `new` the name `folder`; a folder of that name is `new` or `old` then.

    Raises:
        OSError: `folder` is as it was.
    """
    if not folder.is_dir() or folder.is_symlink():
        new.replace(folder)
    elif not _exchange(new, folder):
        folder.replace(old)
        new.replace(folder)


def is_leftover(path: Path) -> bool:
    """Whether `path` is what a writer left that was killed."""
    return LEFTOVER.fullmatch(path.name) is not None


def settle(leftover: Path) -> None:
    """Remove what a killed writer left, or put it back where it is the only whole folder."""
    match = LEFTOVER.fullmatch(leftover.name)
    if match[1] == "replaced":
        folder = leftover.with_name(match[5])
        with suppress(OSError):
            if not os.path.lexists(folder):
                leftover.rename(folder)
    _remove(leftover)


def recover(folder: Path) -> None:
    """Put a folder back whose writer was killed between taking it away and naming the new one."""
    with suppress(OSError):
        if not os.path.lexists(folder) and folder.parent.is_dir():
            _settle_ended(folder.parent)


def temporary_path(path: Path, state: str = "writing") -> Path:
    """The name beside `path` under which this process writes it."""
    pid, start, machine = this_process()
    return path.with_name(f".{state}-{pid}.{start}.{machine}-{path.name}")


def sync(path: Path) -> None:
    """Have a file, or a folder with all that it holds, on the disk."""
    if not path.is_dir():
        _sync(path)
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _sync(Path(folder, name))
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    if os.name == "posix":
        try:
            _sync(folder)
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        sync_folder(path.parent)


@lru_cache(maxsize=1024)  # once a process: a folder may hold many files
def _sweep(folder: Path) -> None:
    _settle_ended(folder)


def _settle_ended(folder: Path) -> None:
    """Settle the leftovers in a folder whose writers have ended."""
    with os.scandir(folder) as entries:
        leftovers = [folder / entry.name for entry in entries if LEFTOVER.fullmatch(entry.name)]
    for leftover in leftovers:
        with suppress(OSError):
            if _is_abandoned(leftover):
                settle(leftover)


def _is_abandoned(leftover: Path) -> bool:
    _, pid, start, machine, _ = LEFTOVER.fullmatch(leftover.name).groups()
    if machine and has_ended(Process(int(pid), int(start), machine)):
        return True
    return time.time() - leftover.lstat().st_mtime > LEFTOVER_SECONDS


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # it stays, and is a leftover
            path.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths exchange their names at once; False where that cannot be done here."""
    rename = _renameat2()
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if rename(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


@lru_cache(maxsize=1)
def _renameat2() -> Any:
    """Linux' call, which Python does not offer; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # musl may lack it
    if call is not None:
        number, path = ctypes.c_int, ctypes.c_char_p
        call.argtypes = (number, path, number, path, ctypes.c_uint)
    return call


def could_not_write(error: OSError, path: Path) -> OSError:
    """The error with the name of what was to be written, and what to do."""
    reason = os.strerror(error.errno) if error.errno else error  # of an inner writer's, no path
    return OSError(
        error.errno,
        f"could not write {path}: {reason}; {_remedy(error.errno)}",
    )


def _remedy(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space there (or choose another folder) and run the same command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "allow writing there, or choose another folder"
    return "choose another name or folder"
