"""Spans of recordings as FLAC files with safe names, and their rows in the table of segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import soundfile

from data.audio import checked_source, read_header
from train.inference.listening.draw import Drawn
from train.inference.listening.tables import Detection

PAD = 1.0  # seconds before and after a detection
CLOSE = 0.01  # seconds that a detection may end after its recording: lengths are rounded
HIGHEST_RATE = 655_350  # Hz, of FLAC
MOST_CHANNELS = 8  # of FLAC
PREROLL = 8192  # samples, more than an MP3's decoder or a block of Vorbis looks back
LONGEST_NAME = 100  # bytes of a part of a name; file systems allow 255 in all
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # recordings that 16 bits would not hold
RESERVED = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))}


class Source(NamedTuple):
    """The file that holds a recording, and what its header says."""

    file: Path
    samples: int
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class Cut:
    """A span of a recording, and the FLAC that it becomes."""

    drawn: Drawn
    source: Source
    path: Path  # below the folder
    first: int  # sample of the recording
    count: int


class Names:
    """Names of segments below their folder: one folder a class, and no name twice."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._taken: set[str] = set()

    def keep(self, label: str, path: str) -> None:
        """Take the name of a segment that is there, and its folder for others of the class."""
        folder = PurePosixPath(path).parent.as_posix()
        self._folders.setdefault(label, folder)
        self._taken |= {path.casefold(), folder.casefold()}

    def new(self, detection: Detection) -> Path:
        """A name that sorts by class, score, recording and start."""
        path, start, _, label, score = detection
        if label not in self._folders:
            self._folders[label] = self._unused(safe_name(label), "")
        name = f"{score:.4f}_{safe_name(path.stem)}_{start:010.3f}"
        return Path(self._unused(f"{self._folders[label]}/{name}", ".flac"))

    def _unused(self, name: str, suffix: str) -> str:
        """The name with a number where it is taken, also by one that differs in capitals alone."""
        number, chosen = 1, f"{name}{suffix}"
        while chosen.casefold() in self._taken:
            number += 1
            chosen = f"{name}-{number}{suffix}"
        self._taken.add(chosen.casefold())
        return chosen


def safe_name(text: str) -> str:
    """A text as a part of a path: letters, digits and ` -_.()` alone, and not too long."""
    letters = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in text)
    short = letters.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore").strip(" .")
    return f"_{short}" if not short or short.split(".")[0].lower() in RESERVED else short


def cuts_of(drawn: Iterable[Drawn], pad: float) -> list[Cut]:
    """Where each detection lies in its recording; all are looked at before any is cut.

    Raises:
        ValueError: as `source_of` and `cut_of`.
    """
    cuts, sources, names = [], {}, Names()
    for each in drawn:
        path = each.detection.recording
        if path not in sources:
            sources[path] = source_of(path)
        cuts.append(cut_of(each, sources[path], pad, names))
    return cuts


def source_of(path: Path) -> Source:
    """A recording by its header; ValueError where it cannot be a FLAC, or not be read."""
    header = read_header(path)
    with soundfile.SoundFile(checked_source(path)) as file:
        if file.channels > MOST_CHANNELS or file.samplerate > HIGHEST_RATE:
            raise ValueError(
                f"{path} has {file.channels} channels at {file.samplerate} Hz: FLAC holds up to "
                f"{MOST_CHANNELS} at {HIGHEST_RATE} Hz; convert the recording first"
            )
        return Source(path, header.samples, header.sample_rate, file.channels)


def cut_of(drawn: Drawn, source: Source, pad: float, names: Names) -> Cut:
    """The span of a detection with `pad` seconds before and after, as far as the recording goes.

    Raises:
        ValueError: the recording ends before the detection.
    """
    path, start, end, label, _ = drawn.detection
    samples, rate = source.samples, source.sample_rate
    if end > samples / rate + CLOSE:
        raise ValueError(
            f"{path} lasts {samples / rate:.3f} s, expected {label!r:.200} from {start:.3f} to "
            f"{end:.3f} s: it is another recording, or was cut; detect anew"
        )
    first, last = max(0, round((start - pad) * rate)), min(samples, round((end + pad) * rate))
    return Cut(drawn, source, names.new(drawn.detection), first, last - first)


def write_flac(path: Path, cut: Cut) -> bool:
    """Write a segment; whether it was scaled to fit into a FLAC.

    Raises:
        ValueError: the recording is damaged.
        OSError: writing failed.
    """
    samples, subtype = _read(cut)
    peak = np.abs(samples).max(initial=0.0)
    path.parent.mkdir(exist_ok=True)
    fitting = samples / max(peak, 1.0)
    try:
        soundfile.write(path, fitting, cut.source.sample_rate, subtype, format="FLAC")
    except soundfile.SoundFileError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    return bool(peak > 1)


def _read(cut: Cut) -> tuple[np.ndarray, str]:
    """(samples, channels) float64 of a span, and what FLAC holds them in.

    A file is opened for one span and read from a little before it: libsndfile's samples behind a
    seek differ from the recording's in Ogg files that were read before, and in MP3.
    """
    path = cut.drawn.detection.recording
    before = min(cut.first, PREROLL)
    try:
        with soundfile.SoundFile(checked_source(cut.source.file)) as file:
            file.seek(cut.first - before)
            samples = file.read(before + cut.count, "float64", always_2d=True)[before:]
            subtype = "PCM_24" if file.subtype in FINE else "PCM_16"
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} cannot be read at sample {cut.first}: {error}") from error
    least = cut.count - round(CLOSE * cut.source.sample_rate)
    if len(samples) < least or not np.isfinite(samples).all():
        what = "NaN or infinity" if len(samples) >= least else f"{len(samples)} samples"
        raise ValueError(
            f"{path} is damaged: {what} from sample {cut.first}, where {cut.count} were expected; "
            "get the file anew"
        )
    return samples, subtype


def row_of(cut: Cut, draw: str) -> tuple[Any, ...]:
    """The cells of `SEGMENT_COLUMNS`, without a verdict yet."""
    path, start, end, label, score = cut.drawn.detection
    begin = cut.first / cut.source.sample_rate
    of_draw = draw, cut.drawn.range, cut.drawn.detections
    return (cut.path.as_posix(), label, score, shown(path), start, end, begin, *of_draw, None)


def shown(recording: Path) -> str:
    """A recording's path as the table has it: readers expect UTF-8, which a path need not be."""
    return str(recording).encode("utf-8", "backslashreplace").decode()
