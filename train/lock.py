"""One process a run: a lock that all machines see that share the folder, without a server.

Beside a run folder `fold1` lie `fold1.lock.0`, `fold1.lock.1`, …; whoever made the last one holds
the run. A stale lock is taken over by making the next: no file is ever replaced, so two processes
that find the same stale lock cannot both get it. A process that slept longer than `STALE_SECONDS`
counts as dead.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0


@contextmanager
def claimed(run: Path) -> Iterator[str]:
    """Hold a run for the length of a block, if nobody else does.

    Yields:
        "" where the run is ours, else who holds it: "process 123 on HOST since TIME".
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = _take(run)
    if lock is None:
        yield holder
        return
    released = threading.Event()
    heart = threading.Thread(target=_beat, args=(lock, released), daemon=True)
    heart.start()
    try:
        yield ""
    finally:
        released.set()
        heart.join()
        for old in _locks(run):  # in order: ours last
            if _number(old) <= _number(lock):
                old.unlink(missing_ok=True)


def _take(run: Path) -> tuple[Path | None, str]:
    """Our new lock, or None and who holds the run."""
    locks = _locks(run)
    if locks and not _is_stale(locks[-1]):
        return None, _holder(locks[-1])
    number = _number(locks[-1]) + 1 if locks else 0
    lock = run.with_name(f"{run.name}.lock.{number}")
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None, _holder(lock)
    content = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    last = _locks(run)[-1]
    if last != lock:  # somebody went ahead between our look and our lock
        lock.unlink()
        return None, _holder(last)
    return lock, ""


def _beat(lock: Path, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a network drive that is away for a while
            os.utime(lock)


def _locks(run: Path) -> list[Path]:
    pattern = re.compile(rf"{re.escape(run.name)}\.lock\.\d+")
    return sorted(filter(lambda p: pattern.fullmatch(p.name), run.parent.iterdir()), key=_number)


def _number(lock: Path) -> int:
    return int(lock.name.rpartition(".")[2])


def _is_stale(lock: Path) -> bool:
    """No sign of life for long, or by a process of this machine that is no more."""
    try:
        age = _now(lock.parent) - lock.stat().st_mtime
    except FileNotFoundError:
        return False  # released just now: it is looked at again later
    holder = _read(lock)
    here = holder.get("host") == socket.gethostname() and os.name == "posix"
    return age > STALE_SECONDS or (here and not _is_alive(holder.get("pid")))


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files: a file server's may differ from ours."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return True  # unknown: only its age tells
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # alive, and another user's
        return True
    return True


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
