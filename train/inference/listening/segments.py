"""Detections cut out of their recordings for a person to hear, beside a table for verdicts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from data.audio import read_header
from data.corpora.segments import CLASSES, SEGMENT_COLUMNS, segment_rows
from data.files import atomic_folder, is_one_line
from train.inference.listening.draw import By, Drawn, draw
from train.inference.listening.tables import read_detections
from train.run.tables import write_csv

logger = logging.getLogger(__name__)

TABLE = "segments.csv"
CLOSE = 0.01  # seconds that a detection may end after its recording: lengths are rounded
HIGHEST_RATE = 655_350  # Hz, of FLAC
MOST_CHANNELS = 8  # of FLAC
PREROLL = 8192  # samples, more than an MP3's decoder or a block of Vorbis looks back
LONGEST_NAME = 100  # bytes of a part of a name; file systems allow 255 in all
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # recordings that 16 bits would not hold
RESERVED = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))}


class Written(NamedTuple):
    """What `write_segments` wrote."""

    table: Path
    segments: int
    classes: int


@dataclass(frozen=True)
class _Cut:
    """A span of a recording, and the FLAC that it becomes."""

    drawn: Drawn
    path: Path  # below the folder
    first: int  # sample of the recording
    count: int
    sample_rate: int  # Hz, of the recording


def write_segments(
    tables: str | Path | Sequence[str | Path],
    out: Path,
    *,
    per_class: int = 20,
    by: By = "certain",
    pad: float = 1.0,
    seed: int = 0,
    classes: Collection[str] = (),
    recordings: Path | None = None,
) -> Written:
    """Cut detections of each class out of their recordings, and write a table for verdicts.

    A segment is a FLAC at the recording's own sample rate and channels, of 24 bits where the
    recording has more than 16, else of 16. Of a recording, only the span is read.

    Args:
        tables, recordings: as `read_detections`.
        out: a new folder; or an older one of segments, as long as it has no verdicts. It is
            written whole or not at all.
        per_class, by, seed, classes: as `draw`.
        pad: seconds before and after a detection, as far as the recording goes.

    Raises:
        FileNotFoundError: a table or a recording is not there.
        ValueError: as `read_detections` and `draw`; a recording ends before its detection or
            cannot be a FLAC, or `out` holds verdicts or something else.
        OSError: writing failed; `out` is as it was.
    """
    if not 0 <= pad < np.inf:
        raise ValueError(f"padding of {pad} s is not a length of time; use 0 or more seconds")
    require_replaceable(out)
    drawn, known = draw(read_detections(tables, recordings), per_class, by, seed, classes)
    cuts = _cuts(drawn, pad)
    with atomic_folder(out) as folder:
        louder = sum(_write(folder / cut.path, cut) for cut in cuts)
        write_csv(folder / TABLE, SEGMENT_COLUMNS, (_row(cut, by) for cut in cuts))
        listed = [name for name in known if is_one_line(name)]
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
        require_replaceable(out)  # somebody may have written verdicts meanwhile
    if louder:
        logger.warning(f"{louder} of {len(cuts)} segments are beyond full scale: scaled to fit")
    return Written(out / TABLE, len(cuts), len({cut.drawn.detection.label for cut in cuts}))


def require_replaceable(out: Path) -> None:
    """ValueError where a folder holds verdicts, or what `write_segments` did not write."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise ValueError(f"{out} is not a folder; give a new one")
    if not any(out.iterdir()):
        return
    table = out / TABLE
    if not table.is_file():
        raise ValueError(f"{out} is a folder of something else; give a new one")
    rows = [row for _, row in segment_rows(table)]
    verdicts = sum(bool(row["verdict"].strip()) for row in rows)
    if verdicts:
        raise ValueError(f"{table} has verdicts on {verdicts} segments; give another --out")
    written = {table, out / CLASSES, *(out / row["path"] for row in rows)}
    held = (path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    others = sorted(str(path) for path in held if path not in written)
    if others:
        raise ValueError(f"{out} also holds {others[0]!r:.300}; move it away, or give a new folder")


def _cuts(drawn: Iterable[Drawn], pad: float) -> list[_Cut]:
    """Where each detection lies in its recording; all are looked at before any is cut."""
    cuts, spans, taken = [], {}, set()
    folders: dict[str, str] = {}
    for each in drawn:
        path, start, end, label, score = each.detection
        if path not in spans:
            spans[path] = _samples_and_rate(path)
        samples, rate = spans[path]
        if end > samples / rate + CLOSE:
            raise ValueError(
                f"{path} lasts {samples / rate:.3f} s, expected {label!r:.200} from {start:.3f} to "
                f"{end:.3f} s: it is another recording, or was cut; detect anew"
            )
        if label not in folders:
            folders[label] = _unused(safe_name(label), "", taken)
        name = f"{score:.4f}_{safe_name(path.stem)}_{start:010.3f}"
        file = _unused(f"{folders[label]}/{name}", ".flac", taken)
        first, last = max(0, round((start - pad) * rate)), min(samples, round((end + pad) * rate))
        cuts.append(_Cut(each, Path(file), first, last - first, rate))
    return cuts


def _samples_and_rate(path: Path) -> tuple[int, int]:
    header = read_header(path)
    with soundfile.SoundFile(path) as file:
        if file.channels > MOST_CHANNELS or file.samplerate > HIGHEST_RATE:
            raise ValueError(
                f"{path} has {file.channels} channels at {file.samplerate} Hz: FLAC holds up to "
                f"{MOST_CHANNELS} at {HIGHEST_RATE} Hz; convert the recording first"
            )
    return header.samples, header.sample_rate


def safe_name(text: str) -> str:
    """A text as a part of a path: letters, digits and ` -_.()` alone, and not too long."""
    letters = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in text)
    short = letters.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore").strip(" .")
    return f"_{short}" if not short or short.split(".")[0].lower() in RESERVED else short


def _unused(name: str, suffix: str, taken: set[str]) -> str:
    """The name with a number where it is taken, also by one that differs in capitals alone."""
    number, chosen = 1, f"{name}{suffix}"
    while chosen.casefold() in taken:
        number += 1
        chosen = f"{name}-{number}{suffix}"
    taken.add(chosen.casefold())
    return chosen


def _write(path: Path, cut: _Cut) -> bool:
    """Write a segment; whether it was scaled to fit into a FLAC."""
    samples, subtype = _read(cut)
    peak = np.abs(samples).max(initial=0.0)
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples / max(peak, 1.0), cut.sample_rate, subtype, format="FLAC")
    return bool(peak > 1)


def _read(cut: _Cut) -> tuple[np.ndarray, str]:
    """(samples, channels) float64 of a span, and what FLAC holds them in.

    A file is opened for one span and read from a little before it: libsndfile's samples behind a
    seek differ from the recording's in Ogg files that were read before, and in MP3.
    """
    path = cut.drawn.detection.recording
    before = min(cut.first, PREROLL)
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(cut.first - before)
            samples = file.read(before + cut.count, "float64", always_2d=True)[before:]
            subtype = "PCM_24" if file.subtype in FINE else "PCM_16"
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} cannot be read at sample {cut.first}: {error}") from error
    least = cut.count - round(CLOSE * cut.sample_rate)
    if len(samples) < least or not np.isfinite(samples).all():
        what = "NaN or infinity" if len(samples) >= least else f"{len(samples)} samples"
        raise ValueError(
            f"{path} is damaged: {what} from sample {cut.first}, where {cut.count} were expected; "
            "get the file anew"
        )
    return samples, subtype


def _row(cut: _Cut, by: By) -> tuple[Any, ...]:
    path, start, end, label, score = cut.drawn.detection
    place = str(path).encode("utf-8", "backslashreplace").decode()  # readers expect UTF-8
    begin = cut.first / cut.sample_rate
    of_draw = by, cut.drawn.range, cut.drawn.detections
    return (cut.path.as_posix(), label, score, place, start, end, begin, *of_draw, None)
