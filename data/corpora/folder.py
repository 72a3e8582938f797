"""A folder of class folders: the commonest form in which people have their own recordings."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from data.files import is_audio
from data.manifest import Clip, Clips, Manifest
from data.splits import SPLIT_NAMES


def folder(root: str | Path) -> Manifest:
    """The clips in `root/<class>/`, or in `root/<split>/<class>/`; no audio is decoded.

    A class folder may hold folders of its own. The splits are train (or training), valid (val,
    validation, dev) and test (testing, eval, evaluation), in any case. A folder `train` that holds
    audio beside other class folders is a class: trains are recorded, too.

    What is left out is counted in one line on stderr: files that are not audio, by extension,
    hidden files and folders, and linked folders inside a class. A file name that ends as audio
    does is taken, whatever it holds: the audit opens it.

    Returns:
        A manifest with the classes sorted by name and the clips by split, class and path.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is a file; it holds no class folders; audio lies outside of them; a class has
            no audio; folders of splits and of classes are mixed, or two stand for one split.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"no folder {root}: expected a folder of class folders")
    if not root.is_dir():
        raise ValueError(f"{root} is a file: expected a folder of class folders")
    left_out: Counter[str] = Counter()
    folders = _subfolders(root, left_out)
    places = [
        (split, path)
        for split, place in _part_folders(root, folders).items()
        for path in _subfolders(place, left_out)
    ] or [(None, path) for path in folders]
    classes = tuple(sorted({path.name for _, path in places}))
    clips = Clips.of(
        Clip(file, (classes.index(path.name),), split=split)
        for split, path in places
        for file in _audio_files(path, left_out)
    )
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        print(f"{root}: left out as not audio: {counts}", file=sys.stderr)
    present = set(clips.targets()[0].tolist())
    empty = [name for target, name in enumerate(classes) if target not in present]
    if empty:
        raise ValueError(
            f"{root}: no audio in {len(empty)} of {len(classes)} classes, the first is "
            f"{empty[0]!r}: expected WAV, FLAC, Ogg or MP3 files; add some or remove the folder"
        )
    return Manifest(root.resolve().name or "folder", clips, classes)


def _subfolders(place: Path, left_out: Counter[str]) -> list[Path]:
    """The folders in `place`, by name; files beside them are counted, audio among them refused."""
    folders, stray = [], []
    for path in sorted(place.iterdir()):
        if path.name.startswith("."):
            left_out["hidden"] += 1
        elif path.is_dir():
            folders.append(path)
        elif is_audio(path.name):
            stray.append(path.name)
        else:
            left_out[_kind(path)] += 1
    if stray:
        raise ValueError(
            f"{place} holds {len(stray)} audio files outside of any class, the first is "
            f"{stray[0]!r}: expected {place.name}/<class>/<file>; move each into its class folder"
        )
    if not folders:
        raise ValueError(f"{place} holds no class folders: expected {place.name}/<class>/<file>")
    return folders


def _part_folders(root: Path, folders: list[Path]) -> dict[str, Path]:
    """The folders of splits by split, train first; empty where the folders are classes."""
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if len(named) < len(folders):
        # Beside other classes, one that holds audio itself is a class of that name.
        named = [folder for folder in named if not _holds_audio(folder)]
        if named:
            other = next(folder for folder in folders if folder not in named)
            raise ValueError(
                f"{root} holds {named[0].name!r}, a split of the data, beside {other.name!r}: "
                "expected only train, valid and test, or only classes; move the others away"
            )
    splits: dict[str, Path] = {}
    for path in sorted(named, key=lambda folder: list(SPLIT_NAMES).index(folder.name.lower())):
        split = SPLIT_NAMES[path.name.lower()]
        if split in splits:
            raise ValueError(
                f"{root} holds {splits[split].name!r} and {path.name!r}, which both stand for "
                f"{split}: expected one of them; join or rename them"
            )
        splits[split] = path
    return splits


def _holds_audio(folder: Path) -> bool:
    return any(is_audio(path.name) for path in folder.iterdir())


def _audio_files(class_folder: Path, left_out: Counter[str]) -> list[Path]:
    """The audio files at any depth, sorted; everything else is counted."""
    files = []
    for place, folders, names in os.walk(class_folder, onerror=_fail):
        for path in (Path(place, name) for name in (*folders, *names)):
            if path.name.startswith("."):
                left_out["hidden"] += 1
            elif path.name in folders:
                if path.is_symlink():  # os.walk passes it by: it may lead back up
                    left_out["linked folder"] += 1
            elif is_audio(path.name):
                files.append(path)
            else:
                left_out[_kind(path)] += 1
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(files)


def _fail(error: OSError) -> None:
    raise error  # a folder that cannot be read is not an empty one


def _kind(path: Path) -> str:
    # repr: an extension may hold anything, a line break included
    return repr(path.suffix.lower()) if path.suffix else "without extension"
