"""Speech Commands (Warden, 2018, arXiv 1804.03209): a folder for each word, two official lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from data.clips import Row
from data.files import inner_parts, is_recording, missing_files, split_name, text_lines
from data.manifest import Clips, Manifest

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
NOISE = "_background_noise_"  # a few minutes of noise to mix in, not a class
SPEAKER_END = "_nohash_"  # what stands before it in a file name is the speaker
HASHES = 2**27
VALIDATION_PERCENT, TEST_PERCENT = 10, 20  # upper bounds of the hash, in percent

# The 35 words of V2 in the order of the AST authors' label table, which their checkpoint has.
AUTHORS_ORDER = (
    *("backward", "follow", "five", "bed", "zero", "on", "learn", "two", "house", "tree", "dog"),
    *("stop", "seven", "eight", "down", "six", "forward", "cat", "right", "visual", "four", "wow"),
    *("no", "nine", "off", "three", "left", "marvin", "yes", "up", "sheila", "happy", "bird"),
    *("go", "one"),
)


def speech_commands(root: str | Path) -> Manifest:
    """The clips of Speech Commands V1 or V2, or of any folder laid out so; no audio is decoded.

    The layout is `<word>/<speaker>_nohash_<k>.wav` with `validation_list.txt` and
    `testing_list.txt`; what is in neither list trains. Without both lists, the rule that they were
    made by decides (`hash_split`). Where the lists say .wav, another audio format will do.

    Args:
        root: the folder that holds the words' folders.

    Returns:
        A manifest with the splits "train", "validation" and "test", whose groups are the speakers.
        The classes are the folders that hold clips, `_background_noise_` excepted: in the order of
        the AST authors where they are the 35 words of V2, else sorted.

    Raises:
        FileNotFoundError: no folder, no clips, one list without the other, or a file of a list is
            missing.
        ValueError: a list that leads out of the folder or shares an entry with the other one, or a
            recording that is there twice, in two formats.
    """
    root = Path(root)
    words = find_clips(root)
    listed = read_lists(root, words)
    classes = AUTHORS_ORDER if set(words) == set(AUTHORS_ORDER) else tuple(words)

    def rows() -> Iterator[Row]:
        for index, word in enumerate(classes):
            start, targets = str(root / word / "name").removesuffix("name"), (index,)
            for stem, name in words[word].items():
                split = hash_split(stem) if listed is None else listed.get((word, stem), "train")
                speaker = stem.partition(SPEAKER_END)[0]
                yield start + name, targets, None, split, speaker

    return Manifest("speech_commands", Clips.of_rows(rows()), classes)


def find_clips(root: Path) -> dict[str, dict[str, str]]:
    """File names by word and name without suffix; the words sorted, and the names in them.

    Folders are listed once and no file is opened: 105,829 clips take about a second.
    """
    remedy = f"get the data with `ast-audio download speech_commands {root}`, or correct the path"
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: expected Speech Commands; {remedy}")
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    words = {}
    for word in folders:
        if word == NOISE or word.startswith("."):
            continue
        with os.scandir(root / word) as entries:
            names = sorted(entry.name for entry in entries if is_recording(entry))
        clips: dict[str, str] = {}
        for name in names:
            stem, _ = split_name(name)
            if stem in clips:
                raise ValueError(
                    f"{root / word} holds one recording twice, as {clips[stem]} and {name}: "
                    "expected one file; remove the other"
                )
            clips[stem] = name
        if clips:
            words[word] = clips
    if not words:
        raise FileNotFoundError(
            f"no <word>/<speaker>_nohash_<k>.wav in {root}: expected Speech Commands; {remedy}"
        )
    return words


def read_lists(root: Path, words: dict[str, dict[str, str]]) -> dict[tuple[str, str], str] | None:
    """The split of each (word, file name without suffix) listed; None where there are no lists."""
    absent = [name for name in LISTS.values() if not (root / name).is_file()]
    if len(absent) == len(LISTS):
        return None
    if absent:
        raise FileNotFoundError(
            f"{root} has no {absent[0]}: expected both lists or neither; without it, its clips "
            "would be trained on; get the file from the data set's archive"
        )
    splits: dict[tuple[str, str], str] = {}
    for split, name in LISTS.items():
        for line, word, stem in read_list(root / name, words):
            if splits.setdefault((word, stem), split) != split:
                raise ValueError(
                    f"{root / name}, line {line}: {word}/{stem} is in {LISTS['validation']} too: "
                    "expected every file in one list; remove it from the other"
                )
    return splits


def read_list(table: Path, words: dict[str, dict[str, str]]) -> list[tuple[int, str, str]]:
    """Line, word and file name without suffix of each entry, all of them files that are there."""
    entries, missing = [], []
    for line, entry in enumerate(map(str.strip, text_lines(table)), start=1):
        if not entry:
            continue
        parts = inner_parts(entry)
        if parts is None or len(parts) != 2:
            raise ValueError(
                f"{table}, line {line}: {entry!r:.200}: expected <word>/<file name>; correct the "
                "line"
            )
        word, stem = parts[0], PurePath(parts[1]).stem
        if stem not in words.get(word, {}):
            missing.append(entry)
        entries.append((line, word, stem))
    if missing:
        raise missing_files(table.parent, table, missing, len(entries), "complete the folder")
    return entries


def hash_split(stem: str) -> str:
    """ "validation" (10 %), "test" (10 %) or "train", by the SHA-1 of the speaker's name.

    The rule of TensorFlow's `which_set`, by which the official lists were made: all clips of a
    speaker fall into one split. A name without `_nohash_` is hashed whole, with its .wav.
    """
    speaker, end, _ = stem.partition(SPEAKER_END)
    hashed = speaker if end else f"{stem}.wav"
    digest = int(hashlib.sha1(hashed.encode(errors="surrogateescape")).hexdigest(), 16)
    percent = digest % HASHES * (100.0 / (HASHES - 1))
    if percent < VALIDATION_PERCENT:
        return "validation"
    return "test" if percent < TEST_PERCENT else "train"
