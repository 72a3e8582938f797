"""A corpus decoded and resampled once: the same folder with 16-bit mono FLAC files."""

from __future__ import annotations

import io
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import soundfile
from tqdm import tqdm

from data.audio import load_audio, read_header
from data.download.unpack import require_vacant
from data.files import alone, atomic_file, is_audio, sync, sync_folder, walk

SAMPLE_RATES = range(1_000, 655_351)  # Hz; what load_audio and FLAC have in common
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".json", ".parquet", ".md", ""})
CHUNK = 16  # files that a process is given at a time

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What became of one file."""

    peak: float = 0.0  # largest magnitude; 0 for a file that was there already
    problem: str | None = None  # why the source cannot be read


def prepare(
    folder: str | Path,
    destination: str | Path,
    sample_rate: int = 16_000,
    processes: int | None = None,
) -> Path:
    """Write every audio file of `folder` to `destination` as mono FLAC, where the corpora read it.

    The layout stays, and so do the tables, copied as they are: a corpus takes `x.flac` where its
    table says `x.wav`. (A table with absolute paths goes on pointing at the originals.) Copied are
    .csv, .tsv, .txt, .json, .parquet, .md and names without suffix (LICENSE); other files are not.

    The work is done in `destination + ".RATE.CORPUS.part"`, which is renamed at the end; a call
    that broke off is resumed: files that are there, and not older than their source, are kept.
    FLAC of 16 bits holds a 16-bit recording of this
    sample rate exactly; samples beyond full scale (float files, overshoot of resampling) are
    clipped, and a warning says in how many files. Does nothing where `destination` holds every file
    already.

    Args:
        folder: a corpus.
        destination: the new folder; not within `folder`.
        sample_rate: in Hz, 1,000 to 655,350.
        processes: how many decode at once; as many as cores by default.

    Returns:
        `destination`.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: files that cannot be read (the others are converted first), two that would get
            one name, no audio at all, a wrong argument, a destination in use or of another rate,
            or a full disk.
    """
    folder, destination = (Path(path).expanduser().resolve() for path in (folder, destination))
    processes = available_cores() if processes is None else processes
    check_arguments(folder, destination, sample_rate, processes)
    sources, tables = survey(folder)
    # Of this corpus alone: another one's files would be published with it.
    name = f"{destination.name}.{sample_rate}.{crc32(os.fsencode(folder)):08x}.part"
    part = destination.with_name(name)
    try:
        with alone(destination):
            if all((destination / target).is_file() for target in (*sources, *tables)):
                _require_rate(destination / next(iter(sources)), sample_rate)
                logger.info("%s is prepared already: nothing to do", destination)
                return destination
            require_vacant(destination)
            logger.info(
                f"{len(sources):,} audio files of {folder} go to {destination} as FLAC of "
                f"{sample_rate} Hz"
            )
            targets = [part / target for target in sources]
            convert_all(list(sources.values()), targets, sample_rate, processes)
            for table in tables:
                (part / table).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / table, part / table)
            wanted = {part / target for target in (*sources, *tables)}
            for path in list(part.rglob("*")):
                if path.is_file() and path not in wanted:
                    path.unlink()  # of a process that was killed, or of a file that is gone since
            sync(part)
            part.replace(destination)
            sync_folder(destination.parent)
    except OSError as error:
        raise ValueError(
            f"{part} cannot be written ({error}): make room there and run this again to go on"
        ) from error
    return destination


def _require_rate(flac: Path, sample_rate: int) -> None:
    found = read_header(flac).sample_rate
    if found != sample_rate:
        raise ValueError(
            f"{flac.parent} was prepared at {found} Hz, not {sample_rate}; give another folder"
        )


def check_arguments(folder: Path, destination: Path, sample_rate: int, processes: int) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected a corpus to prepare")
    if destination.is_relative_to(folder):
        raise ValueError(
            f"{destination} is within {folder}: expected a folder outside of it; choose one"
        )
    if type(sample_rate) is not int or sample_rate not in SAMPLE_RATES:
        raise ValueError(f"sample_rate {sample_rate!r}: expected an integer from 1000 to 655350")
    if processes < 1:
        raise ValueError(f"processes {processes}: expected at least one")


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # on Linux: what this process may use of the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def survey(folder: Path) -> tuple[dict[Path, Path], list[Path]]:
    """Sources by target, and tables; targets and tables relative to `folder`."""
    sources: dict[Path, Path] = {}
    tables = []
    for path, names in walk(folder):
        for file in (Path(path, name) for name in names):
            relative = file.relative_to(folder)
            if not is_audio(file.name):
                if file.suffix.lower() in TABLE_SUFFIXES and file.is_file():  # no device or pipe
                    tables.append(relative)
                continue
            target = relative.with_suffix(".flac")
            if target in sources:
                raise ValueError(
                    f"{sources[target]} and {file.name} would both become {target.name}: "
                    "expected one of them; move the other away"
                )
            sources[target] = file
    if not sources:
        raise ValueError(f"{folder} holds no audio files: expected a corpus to prepare")
    return sources, tables


def convert_all(sources: list[Path], targets: list[Path], sample_rate: int, processes: int) -> None:
    """Convert what is missing; raise an error for files that cannot be read, warn of clipping."""
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    with mapper(min(processes, len(sources))) as run:
        outcomes = run(convert, sources, targets, repeat(sample_rate))
        outcomes = list(tqdm(outcomes, total=len(sources), unit="file", desc="prepare"))
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    if problems:
        raise ValueError(
            f"{len(problems):,} of {len(sources):,} files cannot be read: {problems[0]}; "
            "then run this again to go on"
        )
    peaks = [outcome.peak for outcome in outcomes if outcome.peak > 1]
    if peaks:
        logger.warning(
            f"{len(peaks):,} of {len(sources):,} files reached beyond full scale and were clipped; "
            f"the highest peak was {max(peaks):.3f}"
        )


@contextmanager
def mapper(processes: int) -> Iterator:
    """A function like `map` that works in `processes` processes; an error ends it early."""
    if processes == 1:
        yield map
        return
    # Started anew, not forked: a fork would copy locks that threads of this process hold.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield lambda function, *arguments: pool.map(function, *arguments, chunksize=CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def convert(source: Path, target: Path, sample_rate: int) -> Outcome:
    """Write one file as FLAC, unless it is there; OSError where `target` cannot be written."""
    try:
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            return Outcome()
        waveform = load_audio(source, sample_rate).numpy()
    except (ValueError, OSError) as error:
        return Outcome(problem=str(error))
    samples = np.rint(waveform * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    flac = io.BytesIO()  # not straight to disk: libsndfile does not tell when that is full
    soundfile.write(flac, samples, sample_rate, format="FLAC", subtype="PCM_16")
    with atomic_file(target) as temporary:
        temporary.write_bytes(flac.getbuffer())
    return Outcome(float(np.abs(waveform).max()))
