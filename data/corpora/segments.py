"""The table of segments that a person listens to, with a column of verdicts to fill in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from data.files import text_lines

SEGMENT_COLUMNS = (
    *("path", "label", "score", "recording", "start", "end", "segment_start"),
    *("draw", "range", "detections", "verdict"),
)
YES, NO, UNSURE = "yes", "no", "unsure"
CLASSES = "classes.txt"
"""Beside the table: names, one a line, that a verdict may give beside the labels."""


def is_table_of_segments(columns: Collection[str]) -> bool:
    """Whether a table has all the columns that `ast-audio segments` writes."""
    return set(SEGMENT_COLUMNS) <= set(columns)


def known_classes(path: Path, labels: Sequence[str]) -> frozenset[str]:
    """What a verdict of this table may name: its labels, and the classes in the file beside it."""
    file = path.with_name(CLASSES)
    listed = text_lines(file) if file.is_file() else ()
    return frozenset(filter(None, (name.strip() for name in (*labels, *listed))))


def parse_verdict(cell: object, line: str, classes: Collection[str]) -> str:
    """`YES`, `NO`, `UNSURE`, "" for none yet, or the name of a class.

    Raises:
        ValueError: it is none of them.
    """
    verdict = "" if cell is None else str(cell).strip()
    if verdict.lower() in ("", YES, NO, UNSURE):
        return verdict.lower()
    if verdict not in classes:
        raise ValueError(
            f"{line}: verdict {verdict!r:.200}: expected yes, no, unsure, nothing or the name of a "
            f"class; correct it, or add the class to {CLASSES} beside the table"
        )
    return verdict


def reviewed_labels(
    path: Path, labels: Sequence[str], verdicts: Sequence[object], lines: Sequence[str]
) -> dict[int, str]:
    """The class of each row that has one by its verdict: the label's, or the one that it names.

    Raises:
        ValueError: a verdict is unknown, or none gives a class.
    """
    classes = known_classes(path, labels)
    found = {}
    for row, (label, cell) in enumerate(zip(labels, verdicts, strict=True)):
        verdict = parse_verdict(cell, lines[row], classes)
        if verdict not in ("", NO, UNSURE):
            found[row] = label if verdict == YES else verdict
    if not found:
        raise ValueError(
            f"{path} has no segment of a class: expected the verdict yes or a class's name in some "
            "rows; fill in the column verdict"
        )
    return found
