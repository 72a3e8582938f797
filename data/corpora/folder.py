"""A folder of class folders: the commonest form in which people have their own recordings."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path, PurePath

from data.files import TABLE_SUFFIXES, is_audio, is_recording, tables_in
from data.files.paths import MOST_FOLDERS, too_deep
from data.manifest import Clips, Manifest
from data.splits import SPLIT_NAMES

ESC50_TABLE = Path("meta", "esc50.csv")
SPEECH_COMMANDS_LISTS = ("testing_list.txt", "validation_list.txt")

logger = logging.getLogger(__name__)


def folder(root: str | Path) -> Manifest:
    """The clips in `root/<class>/`, or in `root/<split>/<class>/`; no audio is decoded.

    A class folder may hold folders of its own. The splits are train (training), validation (valid,
    val, dev) and test (testing, eval, evaluation), in any case. A folder `train` that holds audio
    beside other class folders is a class: trains are recorded, too.

    A warning counts what is left out: files that are not audio, by extension, hidden files and
    folders, linked folders inside a class, pipes, sockets and devices. A file with the suffix of
    audio is taken, whatever it holds: the audit opens it.

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
        is_table = root.suffix.lower() in TABLE_SUFFIXES
        remedy = "; read a table with --corpus table" if is_table else ""
        raise ValueError(f"{root} is a file: expected a folder of class folders{remedy}")
    if (root / ESC50_TABLE).is_file():
        raise ValueError(
            f"{root} is laid out as ESC-50 ({ESC50_TABLE}), not in class folders: give --corpus "
            "esc50, or esc10 for its ten classes"
        )
    if all((root / name).is_file() for name in SPEECH_COMMANDS_LISTS):
        logger.warning(
            f"{root} has Speech Commands' lists of clips for validation and test: they are used "
            "with --corpus speech_commands, and ignored here"
        )
    left_out: Counter[str] = Counter()
    folders = _subfolders(root, left_out)
    class_folders = [
        (split, path)
        for split, split_folder in _split_folders(root, folders).items()
        for path in _subfolders(split_folder, left_out)
    ] or [(None, path) for path in folders]
    classes = tuple(sorted({path.name for _, path in class_folders}))
    targets = {name: (target,) for target, name in enumerate(classes)}
    clips = Clips.of_rows(
        (file, targets[path.name], None, split, None)
        for split, path in class_folders
        for file in _audio_files(path, left_out)
    )
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        logger.warning(f"{root}: left out as not audio: {counts}")
    present = set(clips.targets()[0].tolist())
    empty = [name for target, name in enumerate(classes) if target not in present]
    if empty:
        raise ValueError(
            f"{root}: no audio in {len(empty)} of {len(classes)} classes, the first is "
            f"{empty[0]!r}: expected WAV, FLAC, Ogg or MP3 files; add some or remove the folder"
        )
    return Manifest(root.resolve().name or "folder", clips, classes)


def _subfolders(folder: Path, left_out: Counter[str]) -> list[Path]:
    """The folders in one that holds no audio itself, by name."""
    folders, audio = _listing(folder, left_out)
    if audio:
        raise ValueError(
            f"{folder} holds {len(audio)} audio files outside of any class, the first is "
            f"{audio[0]!r}: expected {folder.name}/<class>/<file>; move each into its class "
            f"folder{_or_table(folder)}"
        )
    if not folders:
        raise ValueError(
            f"{folder} holds no class folders: expected {folder.name}/<class>/<file>"
            f"{_or_table(folder)}"
        )
    return folders


def _or_table(folder: Path) -> str:
    """What to give if the table in a folder is what says the classes."""
    tables = tables_in(folder)
    return f", or give --corpus table --data {tables[0]}" if len(tables) == 1 else ""


def _split_folders(root: Path, folders: list[Path]) -> dict[str, Path]:
    """The folder of each split, train first; empty where the folders are classes."""
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if len(named) < len(folders):
        # Beside other classes, one that holds audio itself is a class of that name.
        named = [folder for folder in named if not _holds_audio(folder)]
        if named:
            other = next(folder for folder in folders if folder not in named)
            raise ValueError(
                f"{root} holds {named[0].name!r}, a split of the data, beside {other.name!r}: "
                "expected only train, validation and test, or only classes; move the others away"
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
    with os.scandir(folder) as entries:
        return any(map(is_recording, entries))


def _audio_files(folder: Path, left_out: Counter[str], depth: int = 0) -> list[str]:
    """The audio files in a folder at any depth, by their paths' parts."""
    if depth > MOST_FOLDERS:
        raise too_deep(folder.parents[depth - 1])
    folders, names = _listing(folder, left_out)
    start = str(folder / "name").removesuffix("name")
    files = [start + name for name in names]
    for inner in folders:
        if inner.is_symlink():  # it may lead back up
            left_out["linked folder"] += 1
        else:
            files += _audio_files(inner, left_out, depth + 1)
    by_parts = (lambda file: file.split(os.sep)) if folders else None  # noqa: PTH206
    return sorted(files, key=by_parts)


def _listing(folder: Path, left_out: Counter[str]) -> tuple[list[Path], list[str]]:
    """The folders in a folder and the names of its audio files; everything else is counted."""
    folders, audio = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                left_out["hidden"] += 1
            elif entry.is_dir():
                folders.append(folder / entry.name)
            elif is_recording(entry):
                audio.append(entry.name)
            elif is_audio(entry.name):
                left_out["pipe, socket or device"] += 1
            else:
                suffix = PurePath(entry.name).suffix.lower()
                # repr: a suffix may hold anything, a line break included
                left_out[repr(suffix) if suffix else "without extension"] += 1
    return folders, audio
