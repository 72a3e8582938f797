"""Which process wrote a file, in words that tell on every machine whether it still runs."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """A process among all that may write to one shared file system."""

    pid: int
    start: int  # clock ticks from boot to its start; 0 where the system does not tell
    machine: str  # 8 hexadecimal digits: the boot of its machine, and its numbering of processes


def this_process() -> Process:
    """The process that runs this."""
    return Process(os.getpid(), _start(os.getpid()), _machine())


def has_ended(process: Process) -> bool:
    """Whether a process has ended for certain: False for those of other machines and containers."""
    if process.machine != _machine() or os.name != "posix" or process.pid <= 0:
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        pass
    start = _start(process.pid)
    return bool(start and process.start) and start != process.start  # its number was given anew


def _start(pid: int) -> int:
    try:
        status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return int(status.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


@lru_cache(maxsize=1)
def _machine() -> str:
    """Containers may share a host name, and two machines the number of a namespace: not a boot."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        identity = f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        identity = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
