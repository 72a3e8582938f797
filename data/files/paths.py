"""Names and paths: which files are audio, which paths stay inside a folder, what lies there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from unicodedata import category

AUDIO_SUFFIXES = frozenset(  # of the formats that libsndfile reads
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus"}
    | {".rf64", ".snd", ".w64", ".wav", ".wave"}
)

MOST_FOLDERS = 100  # in one another

NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories

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


def is_one_line(text: str) -> bool:
    """Whether a text can be shown in a line: no control characters, which a terminal would obey.

    No line breaks, and no halves of a character that is not Unicode either.
    """
    return text.isprintable() or not any(category(c) in NOT_SHOWN for c in text)


def is_audio(name: str) -> bool:
    """Whether a file of this name is a recording; a hidden one never is (macOS: `._a.wav`)."""
    return not name.startswith(".") and split_name(name)[1].lower() in AUDIO_SUFFIXES


def is_recording(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a recording: a file of audio, or a link to one.

    A link to nothing counts, so that whoever opens it is told; a pipe, whose reader would wait,
    does not.
    """
    is_broken_link = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
    return is_audio(entry.name) and (entry.is_file() or is_broken_link)


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
    if os.path.isfile(path):  # noqa: PTH113 - Path raises for a name that is too long
        return path
    flac = path.with_suffix(".flac") if is_audio(path.name) else path
    return flac if os.path.isfile(flac) else None  # noqa: PTH113


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
        f"{missing[0]!r:.200}: {remedy}"
    )


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `folder` down with the names of its files, both sorted.

    Hidden ones are left out. Links to folders are followed, but no folder is visited twice.

    Raises:
        ValueError: folders are nested deeper than `MOST_FOLDERS`.
        OSError: a folder cannot be listed.
    """
    seen = set()
    top = os.fspath(folder).rstrip(os.sep).count(os.sep)
    for path, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        if path.count(os.sep) - top > MOST_FOLDERS:
            raise too_deep(folder)
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield path, sorted(name for name in names if not name.startswith("."))


def too_deep(folder: str | os.PathLike[str]) -> ValueError:
    """The error for a folder of folders of folders."""
    return ValueError(
        f"{folder} holds more than {MOST_FOLDERS} folders in one another: expected recordings; "
        "move them up"
    )


def _raise(error: OSError) -> None:
    raise error
