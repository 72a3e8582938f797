"""One process at a time for what several may want to write."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # a mount without any

logger = logging.getLogger(__name__)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for other processes that are in such a block for `path`, then keep others waiting.

    The lock is the kernel's (flock, which NFS passes on to its server), on a file `.NAME.lock`
    beside `path`: it ends with its process, however that ends, and asks for no host name or process
    number. Whoever waits says for whom. Where there are no such locks nobody waits.
    """
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock.open("a+b") as file:
            _wait(file, path)
            if not _is_named(file, lock):
                continue  # its holder has removed it: somebody may hold a new one
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                file.flush()
                yield
            finally:
                with suppress(OSError):
                    lock.unlink()
            return


def _wait(file: BinaryIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace") or "another process"
            logger.warning(f"waiting for {holder}, which writes {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _is_named(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
