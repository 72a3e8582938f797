"""A folder of recordings without labels, at any depth: what pretraining needs."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from data.files import is_audio, walk
from data.manifest import Clips, Manifest
from data.splits import SPLIT_NAMES


def recordings(root: str | Path) -> Manifest:
    """The audio files in a folder and the folders in it, of no class; no audio is decoded.

    Where all of them lie in folders named after splits (train, validation, test, and the other
    names that `folder` knows), those are their splits.

    Returns:
        A manifest without classes, with the clips by folder and name.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is a file, or holds no audio.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"no folder {root}: expected a folder of recordings")
    if not root.is_dir():
        raise ValueError(f"{root} is a file: expected a folder of recordings")
    files = [
        os.path.join(folder, name)  # noqa: PTH118 - a Path for each of millions takes long
        for folder, names in walk(root)
        for name in names
        if is_audio(name)
    ]
    if not files:
        raise ValueError(f"{root} holds no recordings: expected WAV, FLAC, Ogg or MP3 files")
    splits = [_split(PurePath(file).relative_to(root)) for file in files]
    if None in splits:
        splits = [None] * len(files)
    rows = ((file, (), None, split, None) for file, split in zip(files, splits, strict=True))
    return Manifest(root.resolve().name or "folder", Clips.of_rows(rows), (), multi_label=True)


def _split(path: PurePath) -> str | None:
    """What the first folder of a path says, if it is named after a split."""
    return SPLIT_NAMES.get(path.parts[0].lower()) if len(path.parts) > 1 else None
