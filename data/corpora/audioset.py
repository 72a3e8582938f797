"""AudioSet (Gemmeke et al., 2017): several labels a clip, and every copy of it incomplete.

A folder of AudioSet holds `class_labels_indices.csv` and a table for each split, of either form:

- the AST authors' JSON, `{"data": [{"wav": path, "labels": "/m/09x0r,/m/05zppz"}]}`, whose paths
  are absolute or relative to the file's folder: `balanced_train*.json`, `unbalanced_train*.json`,
  `train*.json` (both in one, for "full"), `eval*.json`;
- the official segments, `balanced_train_segments.csv`, `unbalanced_train_segments.csv` and
  `eval_segments.csv`, with the clips anywhere in the folder, named `{YTID}` or `Y{YTID}`, or either
  with `_{start}`, in seconds (30 or 30.000) or milliseconds (30000).

Where there are both, the JSON is taken. A split without a table is left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from data.clips import Row as ClipRow
from data.files import (
    csv_records,
    csv_rows,
    existing_file,
    is_audio,
    is_one_line,
    read_json,
    split_name,
    walk,
)
from data.manifest import Clips, Manifest, control_characters

SUBSETS = ("balanced", "full")
LABELS = "class_labels_indices.csv"
TRAIN_TABLES = ("balanced_train", "unbalanced_train")
FIELDS = 'YTID, start_seconds, end_seconds, "label,label"'
YTID_IN_NAME = re.compile(r"Y?([\w-]{11})(?:_[\d.]+)*", re.ASCII)

LONGEST_INDEX = 9  # digits
LONGEST_VIDEO = 1e6  # s; eleven days
MOST_BYTES = 2**30  # of a table in JSON; that of all two million clips has about 0.3 GB

logger = logging.getLogger(__name__)

ClipIndex = dict[str, tuple[str, str]]  # name without suffix: folder with separator, suffix


class Row(NamedTuple):
    """One clip of a table."""

    number: int  # line of a CSV, entry of a JSON file
    video: str
    path: str | None  # None: the clip is not here
    labels: str  # mids, joined by commas


def audioset(
    root: str | Path,
    subset: str = "balanced",
    train: str | Path | None = None,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    clips: str | Path | None = None,
) -> Manifest:
    """The clips of AudioSet that are here, with splits "train" and "test"; no audio is decoded.

    A warning counts the clips of each table that are not here.

    Args:
        root: a folder as above; the four paths below replace what it would hold.
        subset: which tables of `root` train: "balanced", or "full" (balanced and unbalanced).
        train, test: a table, JSON or segments.
        labels: class_labels_indices.csv.
        clips: folder of the clips that segments speak of.

    Returns:
        A multi-label manifest whose classes are the display names in the order of their index and
        whose groups are the videos.

    Raises:
        FileNotFoundError: a folder or table is missing, or every clip of a table.
        ValueError: an unknown subset or label, a table that is not in its form, two files for one
            clip, or a video that trains and tests.
    """
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}: expected one of {', '.join(SUBSETS)}")
    root, clips = Path(root), Path(root if clips is None else clips)
    tables = {
        "train": train_tables(root, subset) if train is None else [Path(train)],
        "test": tables_named(root, "eval") if test is None else [Path(test)],
    }
    classes, index = read_labels(Path(root / LABELS if labels is None else labels))
    if not any(tables.values()):
        raise FileNotFoundError(
            f"no table of AudioSet in {root}: expected balanced_train_segments.csv and "
            "eval_segments.csv, or balanced_train*.json and eval*.json"
        )
    manifest = Manifest(
        f"audioset_{subset}",
        Clips.of_rows(read_tables(tables, clips, index)),
        classes,
        multi_label=True,
    )
    require_apart(manifest.clips)
    return manifest


def train_tables(root: Path, subset: str) -> list[Path]:
    """The tables of `root` that train; for "full", `train*.json` or both of TRAIN_TABLES."""
    balanced, unbalanced = (tables_named(root, name) for name in TRAIN_TABLES)
    if subset == "balanced":
        return balanced
    if whole := sorted(root.glob("train*.json")):
        return only_one(whole)
    if balanced and not unbalanced:
        raise FileNotFoundError(
            f"{root} has {balanced[0].name} and no table of the unbalanced clips: expected "
            "train*.json, unbalanced_train*.json or unbalanced_train_segments.csv; add one, or "
            "train on the balanced subset"
        )
    return balanced + unbalanced


def tables_named(root: Path, name: str) -> list[Path]:
    """The one table of this name, JSON before segments, or none."""
    segments = root / f"{name}_segments.csv"
    tables = sorted(root.glob(f"{name}*.json")) or [segments] * segments.is_file()
    return only_one(tables)


def only_one(tables: list[Path]) -> list[Path]:
    """The tables, of which there must not be two."""
    if len(tables) > 1:
        raise ValueError(
            f"{tables[0].parent} holds {tables[0].name} and {tables[1].name} for one split of "
            "AudioSet: expected one table; move the other away"
        )
    return tables


def is_json(table: Path) -> bool:
    """Whether a table is the AST authors' JSON, not segments; it must be there."""
    if not table.is_file():
        raise FileNotFoundError(f"no table {table}: expected AudioSet's segments or a JSON file")
    return table.suffix.lower() == ".json"


def read_labels(table: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """Display names in the order of their index, and the index of each mid."""
    columns = ("index", "mid", "display_name")
    if not table.is_file():
        raise FileNotFoundError(
            f"no {table}: expected AudioSet's table of classes, with the columns "
            f"{', '.join(columns)}; get it from AudioSet's download page"
        )
    rows = []
    for line, row in csv_records(table, columns):
        if not row["index"].isdecimal() or len(row["index"]) > LONGEST_INDEX:
            raise ValueError(
                f"{table}, line {line}: index {row['index']!r:.60}: expected a number; "
                "get the file anew"
            )
        if not is_one_line(row["display_name"]):
            raise control_characters(row["display_name"], f"{table}, line {line}")
        rows.append((int(row["index"]), row["mid"], row["display_name"]))
    indices, mids, names = zip(*sorted(rows), strict=True) if rows else ((), (), ())
    unique = len(set(mids)) == len(set(names)) == len(rows)
    if not rows or indices != tuple(range(len(rows))) or not unique:
        raise ValueError(
            f"{table}: expected the indices 0, 1, 2 … and every mid and display name once; "
            "get the file anew"
        )
    return names, {mid: index for index, mid in enumerate(mids)}


def read_tables(
    tables: dict[str, list[Path]], folder: Path, index: dict[str, int]
) -> Iterator[ClipRow]:
    """The clips of all tables, by split; `folder` is searched if there are segments."""
    files = None
    for split, table in [(split, table) for split, some in tables.items() for table in some]:
        if is_json(table):
            rows = read_entries(table)
        else:
            files = index_clips(folder) if files is None else files
            rows = read_segments(table, files)
        yield from read_split(table, rows, split, index)


def read_split(
    table: Path, rows: Iterator[Row], split: str, index: dict[str, int]
) -> Iterator[ClipRow]:
    """The clips of one table that are here; a warning tells how many are not."""
    here = total = 0
    known: dict[str, tuple[int, ...]] = {}  # few combinations, many clips: one tuple for each
    for row in rows:
        total += 1
        targets = known.get(row.labels)
        if targets is None:
            targets = known[row.labels] = parse_labels(table, row, index)
        if row.path is not None:
            here += 1
            yield row.path, targets, None, split, row.video
    if not total:
        raise ValueError(f"{table} lists no clips: expected at least one; get the file anew")
    if not here:
        raise FileNotFoundError(
            f"none of the {total:,} clips of {table} is here, the last is of {row.video:.200}: "
            "correct the path of the clips, or get them"
        )
    if here < total:
        logger.warning(
            f"{table.name}: {here:,} of {total:,} clips are here, {total - here:,} missing"
        )


def parse_labels(table: Path, row: Row, index: dict[str, int]) -> tuple[int, ...]:
    """The class indices of a row, ascending."""
    mids = [mid.strip() for mid in row.labels.split(",")]
    unknown = [mid for mid in mids if mid not in index]
    if unknown:
        noun = "entry" if is_json(table) else "line"
        raise ValueError(
            f"{table}, {noun} {row.number}: unknown label {unknown[0]!r:.200}: expected mids of "
            f"{LABELS} such as '/m/09x0r'; correct it, or give the table of classes it comes from"
        )
    return tuple(sorted({index[mid] for mid in mids}))


def read_segments(table: Path, files: ClipIndex) -> Iterator[Row]:
    """The rows of an official segments CSV; lines that begin with # and a line of names are not."""
    for line, fields in csv_rows(table, skip_space=True):
        if fields[0].startswith("#") or fields[0] == "YTID":
            continue
        try:
            video, start, end, labels = fields
            seconds = float(start)
            if not 0 <= seconds <= float(end) <= LONGEST_VIDEO:
                raise ValueError
        except ValueError:  # too few or many fields; no number, or out of range
            raise ValueError(
                f"{table}, line {line}: {','.join(fields)[:80]!r}: "
                f"expected {FIELDS}; correct the line"
            ) from None
        yield Row(line, video, find_clip(files, video, seconds), labels)


def find_clip(files: ClipIndex, video: str, start: float) -> str | None:
    """The file of a segment, the name that tells its start before the one that does not."""
    for mark in _marks(start):
        for stem in (video + mark, f"Y{video}{mark}"):
            if stem in files:
                folder, suffix = files[stem]
                return folder + stem + suffix
    return None


@lru_cache(10_000)
def _marks(start: float) -> tuple[str, ...]:
    return f"_{start:.3f}", f"_{start:g}", f"_{round(1000 * start)}", ""


def index_clips(folder: Path) -> ClipIndex:
    """The audio files in `folder` and below, by name without suffix; no file is looked at."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected the clips of AudioSet")
    files: ClipIndex = {}
    for path, names in walk(folder):
        parent = str(Path(path) / "name").removesuffix("name")
        known: dict[str, tuple[str, str]] = {}  # one tuple for all: there are two million clips
        for stem, suffix in map(split_name, filter(is_audio, names)):
            if stem in files:
                other = stem.join(files[stem])
                raise ValueError(
                    f"{other} and {parent + stem + suffix} have one name: expected one file "
                    "for a clip; give the folder of the set to use, or move the other away"
                )
            files[stem] = known.setdefault(suffix, (parent, suffix))
    return files


def read_entries(table: Path) -> Iterator[Row]:
    """The entries of a table in the AST authors' form."""
    # Entries become tuples as they are read: a tenth of the memory of dictionaries.
    content = read_json(table, MOST_BYTES, convert=wav_and_labels)
    entries = content.get("data")
    if not isinstance(entries, list):
        raise ValueError(f'{table}: expected {{"data": [{{"wav": …, "labels": …}}]}}')
    folder = str(table.parent)
    for number, entry in enumerate(entries, start=1):
        match entry:
            case (str(wav), str(labels)) if wav:
                stem, _ = split_name(wav.rpartition("/")[2])
                video = YTID_IN_NAME.fullmatch(stem)
                name = video[1] if video else str(table.parent / wav)
                yield Row(number, name, existing_file(folder, wav), labels)
            case _:
                raise ValueError(
                    f'{table}, entry {number}: expected {{"wav": path, "labels": "mid,mid"}}'
                )


def wav_and_labels(entry: dict) -> tuple | dict:
    return (entry["wav"], entry["labels"]) if entry.keys() >= {"wav", "labels"} else entry


def require_apart(clips: Clips) -> None:
    """Raise a ValueError where a video is in both splits."""
    train, test = (clips[clips.having("split", split)] for split in ("train", "test"))
    tested = set(test.groups())
    leaks = sorted({video for video in train.groups() if video in tested})
    if leaks:
        raise ValueError(
            f"{len(leaks)} videos of AudioSet train and test, the first is {leaks[0]!r}: expected "
            "no video in both; remove them from one table"
        )
