"""One process a run folder: a lock that all machines see that share the folder, without a server.

The files `lock.0`, `lock.1`, … lie in the run folder; whoever made the last one holds the run. A
stale lock is taken over by making the next: no file is ever replaced, so two processes that find
the same stale lock cannot both get it. A process without a sign of life for `STALE_SECONDS` counts
as dead; one of this machine and of this numbering of processes (a container has its own) counts as
dead at once when it has ended. A host name alone is not trusted: two containers may share it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from data.files import Process, has_ended, temporary_path, this_process
from train.distributed import on_main_process

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0
CANNOT_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)  # FAT, some shares
PREFIX = "lock."  # of the names of all files that are made here


class RunInUse(ValueError):
    """Another process trains in this run folder; `holder` says which."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(folder, holder)
        self.folder, self.holder = folder, holder

    def __str__(self) -> str:
        return f"{self.folder} is in use by {self.holder}; wait for it, or give another --out"


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a run folder, made if need be, for the length of a block.

    Of several processes that train together, the main process holds it for all of them.

    Raises:
        RunInUse: another process holds it; in every process.
    """
    with ExitStack() as stack:
        on_main_process(lambda: stack.enter_context(_hold(folder)))
        yield


def is_lock(path: Path) -> bool:
    """Whether a file of a run folder belongs to its locks."""
    return path.name.startswith(PREFIX)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    is_new = not folder.exists()
    lock = _take(folder)
    released = threading.Event()
    heartbeat = threading.Thread(target=_renew, args=(lock, released), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        released.set()
        heartbeat.join()
        for old in _locks(folder):  # in order: ours last
            if _number(old) <= _number(lock):
                old.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # only an empty folder goes: nothing was begun
                folder.rmdir()


def _take(folder: Path) -> Path:
    """Our new lock. Raises RunInUse."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        locks = _locks(folder)
        if locks and not _is_stale(locks[-1]):
            raise RunInUse(folder, _holder(locks[-1]))
        lock = folder / f"{PREFIX}{_number(locks[-1]) + 1 if locks else 0}"
        _write(lock)
    except FileExistsError:
        raise RunInUse(folder, _holder(lock)) from None
    except FileNotFoundError:  # its last holder began nothing and removed the folder
        return _take(folder)
    last = _locks(folder)[-1]
    if last != lock:  # somebody went ahead between our look and our lock
        lock.unlink()
        raise RunInUse(folder, _holder(last))
    return lock


def _write(lock: Path) -> None:
    """Make a lock that is whole when it appears. Raises FileExistsError."""
    pid, start, machine = this_process()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    content = {"host": socket.gethostname(), "pid": pid, "since": since}
    temporary = temporary_path(lock.with_name(f"{lock.name}.{threading.get_ident()}"))
    try:
        temporary.write_text(json.dumps({**content, "start": start, "machine": machine}), "utf-8")
        try:
            lock.hardlink_to(temporary)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            _copy_to_new(temporary, lock)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_to_new(source: Path, lock: Path) -> None:
    content = source.read_bytes()
    with lock.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            lock.unlink()
            raise


def _renew(lock: Path, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a network drive that is away for a while
            os.utime(lock)


def _locks(folder: Path) -> list[Path]:
    pattern = re.compile(rf"{re.escape(PREFIX)}\d+")
    return sorted((p for p in folder.iterdir() if pattern.fullmatch(p.name)), key=_number)


def _number(lock: Path) -> int:
    return int(lock.name.removeprefix(PREFIX))


def _is_stale(lock: Path) -> bool:
    """Whether its process gave no sign of life for long, or is of this machine and has ended."""
    try:
        age = _now(lock.parent) - lock.stat().st_mtime
    except FileNotFoundError:
        return False  # released just now
    return age > STALE_SECONDS or _has_ended(_read(lock))


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files: a file server's may differ from ours."""
    with tempfile.TemporaryFile(prefix=PREFIX, dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


def _has_ended(holder: dict[str, Any]) -> bool:
    pid, start, machine = (holder.get(name) for name in Process._fields)
    if type(pid) is not int or type(start) is not int or not isinstance(machine, str):
        return False  # unknown: only its age tells
    return has_ended(Process(pid, start, machine))


def _read(lock: Path) -> dict[str, Any]:
    try:
        content = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone, or not written yet
        return {}
    return content if isinstance(content, dict) else {}


def _holder(lock: Path) -> str:
    content = _read(lock)
    if not content:
        return "another process"
    return f"process {content.get('pid')} on {content.get('host')} since {content.get('since')}"
