"""The table of segments that a person listens to, with a column of verdicts to fill in."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from data.files import csv_rows, require_as_header, text_lines

logger = logging.getLogger(__name__)

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


def segment_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with their lines, also where a spreadsheet has saved them with other separators.

    Raises:
        ValueError: a column is missing, or it is no CSV.
    """
    separator = max((",", ";", "\t"), key=next(text_lines(path), "").count)
    rows = csv_rows(path, separator)
    _, header = next(rows, (1, []))
    lacking = [column for column in SEGMENT_COLUMNS if column not in header]
    if lacking:
        raise ValueError(
            f"{path} lacks the columns {', '.join(lacking)}: expected those that `ast-audio "
            "segments` writes; give its segments.csv"
        )
    for line, cells in rows:
        require_as_header(path, line, cells, header)
        yield line, dict(zip(header, cells, strict=True))


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
    path: Path, labels: Sequence[object], verdicts: Sequence[object], lines: Sequence[str]
) -> dict[int, str]:
    """The class of each row whose verdict gives one: yes that of its label, a class's name that.

    The others are counted in a log.

    Raises:
        ValueError: a verdict is unknown, or none gives a class.
    """
    texts = ["" if label is None else str(label).strip() for label in labels]
    classes = known_classes(path, texts)
    verdicts = [parse_verdict(cell, lines[row], classes) for row, cell in enumerate(verdicts)]
    found = {
        row: label if verdict == YES else verdict
        for row, (label, verdict) in enumerate(zip(texts, verdicts, strict=True))
        if verdict not in ("", NO, UNSURE)
    }
    if not found:
        raise ValueError(
            f"{path} has no segment of a class: expected the verdict yes or a class's name in some "
            "rows; fill in the column verdict"
        )
    count = Counter(verdicts)
    logger.info(
        f"{path}: {count[YES]} segments with verdict yes, {len(found) - count[YES]} with a class's "
        f"name; left out: {count[NO]} no, {count[UNSURE]} unsure, {count['']} without a verdict"
    )
    return found
