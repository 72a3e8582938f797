"""BirdCLEF (Kahl et al., from 2021 a competition on Kaggle): recordings of birds, one a row.

A folder of BirdCLEF holds `train.csv` with the columns primary_label and filename, and mostly
secondary_labels (a list written as text, "['abc', 'def']") and author; and `train_audio/`, where a
filename starts. The clips are whole recordings of any length.

It comes from the competition's page on Kaggle, to those with an account who accept its rules.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

from data.corpora.table import labelled_clips
from data.files import csv_records, existing_file, is_one_line, missing_files
from data.manifest import Manifest, control_characters
from data.splits import hold_out

TABLE, AUDIO = "train.csv", "train_audio"
VALIDATION = 0.2  # of the recordings

NAME = r"""'([^'\\]*)'|"([^"\\]*)\""""
LIST = re.compile(rf"\[\s*(?:(?:{NAME})\s*(?:,\s*(?:{NAME})\s*)*)?,?\s*\]")
NAMES = re.compile(NAME)

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """One recording of the table."""

    line: str  # the file and the line, for errors
    filename: str
    primary: str
    secondary: tuple[str, ...]
    author: str | None


def birdclef(root: str | Path) -> Manifest:
    """The training recordings of BirdCLEF, with splits "train" and "validation"; none is decoded.

    A recording has its primary label and all of its secondary ones, each as present. Secondary
    labels that are no recording's primary label are no classes, and left out with a warning. About
    a fifth of the recordings validate, stratified by primary label, all of an author (without the
    column, of a file) on one side; every class trains, so those with one recording or author have
    none that validates, which is logged.

    Returns:
        A multi-label manifest, the classes sorted as text, as a submission has its columns.

    Raises:
        FileNotFoundError: the table or recordings are missing.
        ValueError: the table is not as above, or names a recording twice; or one author recorded
            all.
    """
    root = Path(root)
    rows = _read(root / TABLE)
    files = _files(root, rows)
    classes = tuple(sorted({row.primary for row in rows}))
    authors, none = [row.author for row in rows], [None] * len(rows)
    primary = labelled_clips(files, [(row.primary,) for row in rows], classes, none, none, authors)
    splits = hold_out(Manifest("birdclef", primary, classes), VALIDATION)
    _tell_of_rare(rows, splits)
    labels = _labels(rows, frozenset(classes))
    clips = labelled_clips(files, labels, classes, none, splits, authors)
    return Manifest("birdclef", clips, classes, multi_label=True)


def parse_list(text: str) -> tuple[str, ...] | None:
    """The names in a list written as Python writes it; None where the text is no such list."""
    text = text.strip()
    if not text:
        return ()
    if not LIST.fullmatch(text):
        return None
    names = (single or double for single, double in NAMES.findall(text))
    return tuple(dict.fromkeys(filter(None, (name.strip() for name in names))))


def _read(table: Path) -> list[Row]:
    if not table.is_file():
        raise FileNotFoundError(
            f"no {table}: expected BirdCLEF's table of recordings, beside {AUDIO}/; both are on "
            "the competition's page on Kaggle, for an account that has accepted its rules"
        )
    rows = list(_rows(table))
    if not rows:
        raise ValueError(f"{table} has no rows: expected one for each recording")
    return rows


def _rows(table: Path) -> Iterator[Row]:
    for number, cells in csv_records(table, ("primary_label", "filename")):
        line, primary = f"{table}, line {number}", cells["primary_label"].strip()
        secondary = parse_list(cells.get("secondary_labels", ""))
        if secondary is None:
            raise ValueError(
                f"{line}: secondary_labels {cells['secondary_labels']!r:.200}: expected a list as "
                "\"['abc', 'def']\"; correct it"
            )
        if not primary or not cells["filename"]:
            raise ValueError(f"{line}: expected a primary_label and a filename; correct the line")
        for name in filterfalse(is_one_line, (primary, *secondary)):
            raise control_characters(name, line)
        author = cells.get("author", "").strip() or None
        yield Row(line, cells["filename"], primary, secondary, author)


def _files(root: Path, rows: list[Row]) -> list[str]:
    """The file of each row: present, and no other row's."""
    line_of: dict[str, str] = {}
    for row in rows:
        if line_of.setdefault(row.filename, row.line) != row.line:
            raise ValueError(
                f"{row.line}: {row.filename!r:.200} is listed in {line_of[row.filename]} already: "
                "expected one row for a recording; remove one"
            )
    folder = root / AUDIO
    files = [existing_file(str(folder), row.filename) for row in rows]
    missing = [row.filename for row, file in zip(rows, files, strict=True) if file is None]
    if missing:
        remedy = "complete the folder, or remove their rows"
        raise missing_files(folder, root / TABLE, missing, len(rows), remedy)
    return files


def _labels(rows: list[Row], classes: frozenset[str]) -> list[tuple[str, ...]]:
    """Primary and secondary labels of each recording, without those that are no classes."""
    others = {name for row in rows for name in row.secondary} - classes
    if others:
        logger.warning(
            f"{len(others)} secondary labels left out, which are no recording's primary label: "
            f"{', '.join(sorted(others)[:5])}{', …' if len(others) > 5 else ''}"
        )
    return [
        tuple(dict.fromkeys(name for name in (row.primary, *row.secondary) if name in classes))
        for row in rows
    ]


def _tell_of_rare(rows: list[Row], splits: list[str]) -> None:
    """Say which classes have no recording that validates."""
    pairs = zip(rows, splits, strict=True)
    validated = {row.primary for row, split in pairs if split == "validation"}
    counts = Counter(row.primary for row in rows)
    rare = sorted(counts.keys() - validated, key=lambda name: (counts[name], name))
    if rare:
        logger.info(
            f"{len(rare)} of {len(counts)} classes have no validation recordings, being too rare "
            f"or by too few authors: {', '.join(rare[:5])}{', …' if len(rare) > 5 else ''}"
        )
