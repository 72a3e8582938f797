"""ESC-50 and its subset ESC-10 (Piczak, 2015) in their original layout: meta/esc50.csv, audio/."""

from __future__ import annotations

from pathlib import Path

from data.files import csv_records, existing, inner_parts, is_one_line, missing_files
from data.manifest import Clip, Clips, Manifest, control_characters

SUBSETS = ("esc50", "esc10")
COLUMNS = ("filename", "fold", "target", "category", "esc10")
METADATA = Path("meta", "esc50.csv")
ARCHIVE_FOLDER = "ESC-50-master"  # the one folder inside the published zip


def esc50(root: str | Path, subset: str = "esc50") -> Manifest:
    """The clips of ESC-50 or ESC-10 with their five folds; no audio is decoded.

    Args:
        root: the folder that holds `meta/esc50.csv` and `audio/`, or the one in which the
            published zip was unpacked (it holds `ESC-50-master`).
        subset: `esc50` (50 classes, 2,000 clips) or `esc10` (10 classes, 400 clips).

    Returns:
        A manifest whose classes are the CSV's categories in the order of the CSV's target ids.
        The ids of ESC-10 have gaps; the class indices do not.

    Raises:
        FileNotFoundError: the folder, its CSV or an audio file that the CSV names is missing.
        ValueError: an unknown subset, or a CSV that is not what ESC-50's is.
    """
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}: expected one of {', '.join(SUBSETS)}")
    return read_layout(find_layout(root), name=subset, esc10_only=subset == "esc10")


def find_layout(root: str | Path) -> Path:
    """`root` or the `ESC-50-master` in it, whichever holds `meta/esc50.csv`."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root}: expected ESC-50; get it with `ast-audio download esc50 {root}`"
        )
    for folder in (root, root / ARCHIVE_FOLDER):
        if (folder / METADATA).is_file():
            return folder
    raise FileNotFoundError(
        f"no {METADATA} in {root}: expected the folder that holds meta/ and audio/ of ESC-50; "
        "correct the path, or get the data with `ast-audio download esc50 FOLDER`"
    )


def read_layout(folder: Path, name: str, esc10_only: bool = False) -> Manifest:
    """The manifest of any data set laid out as ESC-50 is; errors as `esc50`."""
    table = folder / METADATA
    rows = read_rows(table)
    if esc10_only:
        rows = [row for row in rows if row["esc10"] == "True"]
    if not rows:
        wanted = "rows whose esc10 is True" if esc10_only else "a row for every clip"
        raise ValueError(f"{table} holds no clips of {name}: expected {wanted}; get the file anew")

    audio = folder / "audio"
    paths = [existing(audio / row["filename"]) for row in rows]
    missing = [row["filename"] for row, path in zip(rows, paths, strict=True) if path is None]
    if missing:
        raise missing_files(audio, table, missing, len(rows), "complete the folder")
    categories = categories_by_target(table, rows)
    index = {target: rank for rank, target in enumerate(categories)}
    clips = Clips.of(
        Clip(path, (index[row["target"]],), fold=row["fold"])
        for row, path in zip(rows, paths, strict=True)
    )
    return Manifest(name, clips, tuple(categories.values()))


def read_rows(table: Path) -> list[dict]:
    """The CSV's rows, checked one by one; `fold` and `target` become integers."""
    rows, filenames = [], set()
    for line, row in csv_records(table, COLUMNS):
        row = checked_row(row, where=f"{table}, line {line}")
        if row["filename"] in filenames:
            raise ValueError(
                f"{table}, line {line}: {row['filename']!r:.200} is listed twice: "
                "expected one row for a file; remove one"
            )
        filenames.add(row["filename"])
        rows.append(row)
    return rows


def checked_row(row: dict, where: str) -> dict:
    """One row with its integers read; the file name stays inside the audio folder."""
    filename = row["filename"]
    if inner_parts(filename) != (filename,):
        raise ValueError(
            f"{where}: filename {filename!r:.200}: expected the plain name of a file in audio/; "
            "correct the row"
        )
    if not is_one_line(row["category"]):
        raise control_characters(row["category"], where)
    numbers = {}
    for column in ("fold", "target"):
        try:
            numbers[column] = int(row[column])
        except ValueError:
            raise ValueError(
                f"{where}: {column} {row[column]!r:.200}: expected an integer; correct the row"
            ) from None
    return {**row, **numbers}


def categories_by_target(table: Path, rows: list[dict]) -> dict[int, str]:
    """Class names keyed by the CSV's target ids, ascending; one name for one id."""
    name_of: dict[int, str] = {}
    target_of: dict[str, int] = {}
    for target, name in sorted({(row["target"], row["category"]) for row in rows}):
        if (name_of.setdefault(target, name), target_of.setdefault(name, target)) != (name, target):
            raise ValueError(
                f"{table}: target {target} with category {name!r:.200} contradicts another row: "
                "expected one category for a target and one target for a category; correct the CSV"
            )
    return name_of
