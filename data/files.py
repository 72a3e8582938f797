"""The audio files of a folder, and the FLAC copies that `data.prepare` makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

AUDIO_SUFFIXES = frozenset(  # of the formats that libsndfile reads
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus"}
    | {".rf64", ".snd", ".w64", ".wav", ".wave"}
)


def split_name(name: str) -> tuple[str, str]:
    """A file's name without suffix, and the suffix; without a Path, for millions of them."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def is_audio(name: str) -> bool:
    """Whether a file of this name is a recording; a hidden one never is (macOS: `._a.wav`)."""
    return not name.startswith(".") and split_name(name)[1].lower() in AUDIO_SUFFIXES


def existing(path: Path) -> Path | None:
    """`path`, or else the FLAC that `prepare` made of it, or None where neither is there.

    Tables go on naming the published files, `x.wav`, where a prepared folder holds `x.flac`.
    """
    if path.is_file():
        return path
    flac = path.with_suffix(".flac")
    return flac if flac.is_file() else None


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
