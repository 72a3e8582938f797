"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s place when the block ends.

    Raises:
        OSError: writing failed (a full disk, say); `path` is as it was.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to fill; it takes `folder`'s place when the block ends.

    Raises:
        OSError: as `atomic_file`.
    """
    folder = Path(folder)
    temporary = _temporary(folder)
    old = _temporary(folder.with_name(f"{folder.name}.old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.replace(old)
        temporary.replace(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise _explained(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether `path` is what a writer left that was killed."""
    return re.fullmatch(r"\.writing-\d+-.+", path.name) is not None


def _temporary(path: Path) -> Path:
    return path.with_name(f".writing-{os.getpid()}-{path.name}")


def _explained(error: OSError, path: Path) -> OSError:
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
