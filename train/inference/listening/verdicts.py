"""Verdicts that a person gives one by one, kept as a folder of segments with its table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple
from zipfile import ZipFile

from data.corpora.segments import (
    CLASSES,
    NO,
    SEGMENT_COLUMNS,
    UNSURE,
    YES,
    known_classes,
    parse_verdict,
    segment_rows,
)
from data.files import alone, atomic_file, inner_parts, is_one_line, text_lines
from train.inference.listening.cut import (
    PAD,
    Cut,
    Names,
    cut_of,
    row_of,
    shown,
    source_of,
    write_flac,
)
from train.inference.listening.draw import ALL, CHOSEN, Drawn
from train.inference.listening.segments import TABLE
from train.inference.listening.tables import Detection, finite_number
from train.run.tables import write_csv

SAME = 1e-5  # seconds between times of one segment: tables round to six decimals
MOST_SAMPLES = 2**26  # of all channels of a segment, which is half a gigabyte as it is read
ARCHIVE = "verdicts"  # the folder in a ZIP


class Judged(NamedTuple):
    """A row of the table."""

    recording: str  # as `shown`
    start: float  # seconds of the recording
    end: float
    label: str
    verdict: str


class Verdicts:
    """A folder as `write_segments` makes it, to which each verdict on a detection adds its segment.

    For each verdict the table is read, changed, and written whole while other threads and processes
    wait: nothing is lost that several give at a time, or that somebody adds to the table meanwhile.

    Args:
        folder: a new or empty one, or one that this class filled; made with the first verdict.
        classes: that a verdict may name; they are listed beside the table.
        pad: seconds before and after a detection, as far as the recording goes.

    Raises:
        ValueError: the folder holds something else, or the table is damaged.
    """

    def __init__(self, folder: Path, classes: Sequence[str], pad: float = PAD) -> None:
        self.folder = folder
        self.table = folder / TABLE
        self.revision = 0
        self._classes = [name for name in classes if is_one_line(name)]
        self._pad = pad
        self._lock = Lock()
        require_own(folder)
        self._judged = [_judged(row) for row in self._read()]

    def __len__(self) -> int:
        return sum(bool(each.verdict) for each in self._judged)

    def of(self, recording: Path) -> list[Judged]:
        """What was judged of a recording."""
        name = shown(recording)
        return [each for each in self._judged if each.recording == name]

    def put(self, detection: Detection, verdict: str, file: Path) -> None:
        """Give a detection a verdict or another one, or with "" take it back with its segment.

        Args:
            detection: with the name of the recording that the table gets.
            verdict: yes, no, unsure, or a class of the model or of the table.
            file: that holds the recording.

        Raises:
            ValueError: the verdict is unknown, the detection is too long or not in the recording,
                or the recording or the table is damaged.
            OSError: writing failed; the table is as it was.
        """
        with self._lock:
            known = known_classes(self.table, [*self._classes, *(e.label for e in self._judged)])
            where = f"{detection.label} at {detection.start:.3f} s"
            verdict = parse_verdict(verdict, where, known)
            if not verdict and not self.table.is_file():
                return
            with alone(self.table):
                self._put(detection, verdict, file)

    def _put(self, detection: Detection, verdict: str, file: Path) -> None:
        rows = self._read()
        columns = list(rows[0]) if rows else SEGMENT_COLUMNS  # somebody may have added some
        row = next((row for row in rows if _is_of(_judged(row), detection)), None)
        if verdict:
            self._begin()
        if row is not None:
            row["verdict"] = verdict
            rows = [each for each in rows if each is not row or verdict]
        elif verdict:
            rows.append(self._add(detection, file, rows) | {"verdict": verdict})
        write_csv(self.table, columns, ([row.get(name, "") for name in columns] for row in rows))
        if row is not None and not verdict:
            self._remove(row["path"])
        self._judged = [_judged(row) for row in rows]
        self.revision += 1

    def write_zip(self, file: BinaryIO) -> None:
        """The table and all that it names, as a ZIP of one folder; ValueError without verdicts."""
        with self._lock:
            rows = self._read()
            if not rows:
                raise ValueError("there are no verdicts yet; give one first")
            with ZipFile(file, "w") as archive:
                for name in (TABLE, CLASSES, *(row["path"] for row in rows)):
                    archive.write(self.folder / name, f"{ARCHIVE}/{name}")

    def _read(self) -> list[dict[str, str]]:
        """The rows of the table, each looked at."""
        rows = []
        for line, row in segment_rows(self.table) if self.table.is_file() else ():
            where = f"{self.table}, line {line}"
            if row["draw"] != CHOSEN:
                raise ValueError(
                    f"{where} was drawn ({row['draw']!r:.60}): `review` takes one draw at a time; "
                    "give another folder for verdicts on what a person chooses"
                )
            if inner_parts(row["path"]) is None:
                raise ValueError(f"{where}: {row['path']!r:.200} leads out of the folder")
            for name in ("start", "end"):
                finite_number(row[name], name, where)
            rows.append(row)
        return rows

    def _begin(self) -> None:
        """A table, so that the folder is known as ours, and the classes that a verdict may name."""
        if not self.table.is_file():
            write_csv(self.table, SEGMENT_COLUMNS, [])
        file = self.folder / CLASSES
        listed = [line.strip() for line in text_lines(file)] if file.is_file() else []
        new = [name for name in self._classes if name not in listed]
        if new:
            with atomic_file(file) as temporary:
                text = "".join(f"{name}\n" for name in (*listed, *new))
                temporary.write_text(text, encoding="utf-8")

    def _add(self, detection: Detection, file: Path, rows: list[dict[str, str]]) -> dict[str, str]:
        """Write a detection's segment; its row."""
        cut = self._cut(detection, file, rows)
        with atomic_file(self.folder / cut.path) as temporary:
            write_flac(temporary, cut)
        return dict(zip(SEGMENT_COLUMNS, row_of(cut, CHOSEN), strict=True))

    def _cut(self, detection: Detection, file: Path, rows: list[dict[str, str]]) -> Cut:
        source, names = source_of(file), Names()
        for row in rows:
            names.keep(row["label"], row["path"])
        cut = cut_of(Drawn(detection, ALL, 1), source, self._pad, names)
        if cut.count * source.channels > MOST_SAMPLES:
            raise ValueError(
                f"{detection.label} from {detection.start:.3f} to {detection.end:.3f} s is too "
                "long for a segment; judge shorter ones, with a higher threshold"
            )
        while os.path.lexists(self.folder / cut.path):  # of a process that was killed, or foreign
            cut = cut_of(cut.drawn, source, self._pad, names)
        return cut

    def _remove(self, name: str) -> None:
        """Remove a segment, and its class's folder with the last of them."""
        path = self.folder / name
        if path.suffix == ".flac":
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()


def require_own(folder: Path) -> None:
    """ValueError where a folder is there and holds no table of segments, but something else."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give a new one")
    held = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if held and TABLE not in held:
        raise ValueError(f"{folder} is a folder of something else; give a new one")


def _judged(row: dict[str, str]) -> Judged:
    start, end, verdict = float(row["start"]), float(row["end"]), row["verdict"].strip()
    word = verdict.lower() if verdict.lower() in (YES, NO, UNSURE) else verdict
    return Judged(row["recording"], start, end, row["label"], word)


def _is_of(judged: Judged, detection: Detection) -> bool:
    return (
        judged.recording == shown(detection.recording)
        and judged.label == detection.label
        and abs(judged.start - detection.start) < SAME
        and abs(judged.end - detection.end) < SAME
    )
