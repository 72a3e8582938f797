"""Files: which are audio, which paths are safe, tables read and results written in one piece."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, TextIO

AUDIO_SUFFIXES = frozenset(  # of the formats that libsndfile reads
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus"}
    | {".rf64", ".snd", ".w64", ".wav", ".wave"}
)

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


def cache_folder(name: str) -> Path:
    """`$XDG_CACHE_HOME/ast-audio/NAME`, or the same under `~/.cache`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, empty, or invalid (XDG Base Directory Specification)
        base = Path.home() / ".cache"
    return base / "ast-audio" / name


def split_name(name: str) -> tuple[str, str]:
    """A file's name without suffix, and the suffix; without a Path, for millions of them."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def is_audio(name: str) -> bool:
    """Whether a file of this name is a recording; a hidden one never is (macOS: `._a.wav`)."""
    return not name.startswith(".") and split_name(name)[1].lower() in AUDIO_SUFFIXES


def tables_in(folder: Path) -> list[Path]:
    """The tables that lie in a folder itself, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")
    )


def inner_parts(name: str) -> tuple[str, ...] | None:
    """The parts of a relative path; None for one that leads out of the folder it starts from.

    By Windows' rules, which know both separators and drive letters: refused on every system alike.
    """
    path = PureWindowsPath(name)
    return None if path.anchor or ".." in path.parts else path.parts


def existing(path: Path) -> Path | None:
    """`path`, or else the FLAC that `prepare` made of it, or None where neither is there.

    Tables go on naming the published files, `x.wav`, where a prepared folder holds `x.flac`.
    """
    if path.is_file():
        return path
    flac = path.with_suffix(".flac")
    return flac if is_audio(path.name) and flac.is_file() else None


def existing_file(folder: str, name: str) -> str | None:
    """What `existing(Path(folder, name))` gives, as text, and in a third of the time."""
    file = os.path.join(folder, name)  # noqa: PTH118 - a Path for each of millions takes long
    if not os.path.isfile(file):  # noqa: PTH113
        prepared = existing(Path(file))
        return None if prepared is None else str(prepared)
    return file if os.path.normpath(file) == file else str(Path(file))


def missing_files(
    folder: Path, table: Path, missing: Sequence[str], total: int, remedy: str
) -> FileNotFoundError:
    """The error for a table that names files which are not there."""
    return FileNotFoundError(
        f"{folder} lacks {len(missing)} of the {total} files that {table} names, the first is "
        f"{missing[0]!r}: {remedy}"
    )


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """A text to be read as CSV or by lines.

    Raises:
        ValueError: it is not UTF-8, or the CSV in it is malformed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a table in UTF-8 ({error}): get the file anew, or save it as UTF-8"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object: it holds {type(content).__name__}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `folder` down with the names of its files, both sorted.

    Hidden ones are left out. Links to folders are followed, but no folder is visited twice.

    Raises:
        OSError: a folder cannot be listed.
    """
    seen = set()
    for path, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield path, sorted(name for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


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
