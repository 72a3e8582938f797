"""A look at the data before training: errors would spoil the result silently, notes are to know."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from data.audio import SAMPLE_RATES, UNKNOWN_FRAMES, checked_source, load_audio, require_file
from data.manifest import Clip, Manifest

WINDOW_SECONDS = 0.025  # one frame of the filterbank: a shorter clip has none
FEW_CLIPS = 10  # of a class in training
LARGEST_SHIFT = 0.25  # of the mean, in standard deviations
LARGEST_STRETCH = 1.25  # of the standard deviation, either way
NAMED = 5  # of many, in one line
BLOCK = 1 << 20  # bytes hashed at a time


class Header(NamedTuple):
    """What a file says of itself, without decoding."""

    samples: int
    sample_rate: int  # Hz
    size: int  # bytes

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Audit:
    """What was found, each finding in one line."""

    facts: tuple[str, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]
    unreadable: dict[Path, str]  # file and reason; missing files are among them
    training: tuple[Clip, ...]  # the clips that can be read
    held_out: tuple[Clip, ...]

    def lines(self) -> list[str]:
        """All of it to be printed: facts, unreadable files, notes, errors."""
        return [
            *self.facts,
            *(f"unreadable: {reason}" for reason in self.unreadable.values()),
            *(f"note: {note}" for note in self.notes),
            *(f"error: {error}" for error in self.errors),
        ]

    def require_sound(self) -> None:
        """Raise a ValueError where there are errors: the first, and the number of the others."""
        if self.errors:
            more = f" (and {len(self.errors) - 1} more errors)" if len(self.errors) > 1 else ""
            raise ValueError(self.errors[0] + more)


def audit(
    manifest: Manifest,
    training: Sequence[Clip],
    held_out: Sequence[Clip],
    sample_rate: int = 16_000,
    measure: Callable[[Sequence[Clip]], tuple[float, float] | None] | None = None,
    expected: tuple[float, float] | None = None,
    skip_unreadable: bool = False,
) -> Audit:
    """Whether these clips can be trained on and the held-out ones tell how good the result is.

    Errors are: files missing or unreadable, clips shorter than a window of 25 ms, classes without
    training clips, and files in both parts (of the same content, whatever their names). Only the
    headers are read, and the content of files that have the same size as one of the other part:
    damage inside a file shows when it is decoded.

    Args:
        manifest: where the clips are from; gives the names of the classes.
        training: what is trained on.
        held_out: what is not: validation and test clips, or those of a fold. May be empty.
        sample_rate: of the model, in Hz.
        measure: gives mean and standard deviation of the log-mel values of clips, or None; called
            for the training clips unless there are errors.
        expected: the recipe's mean and standard deviation, to compare with.
        skip_unreadable: missing and unreadable files become a note instead of an error; training
            and held_out of the result are without them in either case.
    """
    headers, failures = _read_headers(clip.path for clip in (*training, *held_out))
    num_clips = len(training) + len(held_out)
    training = tuple(clip for clip in training if clip.path in headers)
    held_out = tuple(clip for clip in held_out if clip.path in headers)
    lost = _lost_clips(failures, num_clips - len(training) - len(held_out), num_clips)
    errors = [
        *(f"{line}: restore them, or --skip-unreadable" for line in lost if not skip_unreadable),
        *_short_clips(headers),
        *_untrained_classes(manifest, training),
        *_duplicates(training, held_out, headers),
    ]
    measured = measure(training) if measure and not errors else None
    notes = [
        *(f"{line}: left out" for line in lost if skip_unreadable),
        *_small_classes(manifest, training),
        *_unmeasured_classes(manifest, training, held_out),
        *_clips_of_no_class((*training, *held_out)),
        *_shared_groups(training, held_out),
        *_low_rates((*training, *held_out), headers, sample_rate),
        *_statistics(measured, expected),
    ]
    facts = _facts(manifest, training, held_out, headers)
    if measured and expected:
        facts.append(
            f"mean {measured[0]:.4f}, std {measured[1]:.4f}; "
            f"the recipe has {expected[0]:.4f}, {expected[1]:.4f}"
        )
    unreadable = {path: " ".join(str(error).split()) for path, error in failures.items()}
    return Audit(tuple(facts), tuple(notes), tuple(errors), unreadable, training, held_out)


def read_header(path: Path) -> Header:
    """Length and sample rate of a file, after the checks of `load_audio` that need no decoding.

    Raises:
        FileNotFoundError, ValueError: as `load_audio`.
    """
    require_file(path)
    try:
        with soundfile.SoundFile(checked_source(path)) as file:
            samples, sample_rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, TypeError):  # TypeError: a name that ends in .raw
        samples = sample_rate = 0
    if sample_rate not in SAMPLE_RATES or samples in (0, UNKNOWN_FRAMES):
        # Decoding names what is wrong, or finds the length that a streamed FLAC does not announce.
        sample_rate = sample_rate if sample_rate in SAMPLE_RATES else 16_000
        samples = len(load_audio(path, sample_rate))
    return Header(samples, sample_rate, path.stat().st_size)


def _read_headers(paths: Iterable[Path]) -> tuple[dict[Path, Header], dict[Path, Exception]]:
    """The headers, and the reason for each file that has none."""
    headers, failures = {}, {}
    for path in tqdm(dict.fromkeys(paths), "audit", unit="file", leave=False, disable=None):
        try:
            headers[path] = read_header(path)
        except (OSError, ValueError) as error:
            failures[path] = error
    return headers, failures


def _lost_clips(failures: dict[Path, Exception], lost: int, num_clips: int) -> list[str]:
    if not failures:
        return []
    missing = sum(isinstance(error, FileNotFoundError) for error in failures.values())
    return [
        f"{lost} of {num_clips} clips cannot be used, {missing} files are missing and "
        f"{len(failures) - missing} unreadable, the first is {next(iter(failures))}"
    ]


def _short_clips(headers: dict[Path, Header]) -> list[str]:
    short = [path for path, header in headers.items() if header.seconds < WINDOW_SECONDS]
    if not short:
        return []
    return [
        f"{len(short)} clips are shorter than one window of 25 ms, the first is {short[0]} "
        f"({1000 * headers[short[0]].seconds:.1f} ms): remove them"
    ]


def _untrained_classes(manifest: Manifest, training: Sequence[Clip]) -> list[str]:
    if not training:
        return [f"{manifest.name} leaves no clips to train on: check the fold or the parts"]
    absent = set(range(len(manifest.classes))) - {t for clip in training for t in clip.targets}
    if not absent:
        return []
    return [
        f"{len(absent)} of {len(manifest.classes)} classes have no training clips "
        f"({_names(manifest.classes[target] for target in sorted(absent))}): "
        "add some, or remove the classes from the data"
    ]


def _duplicates(
    training: Sequence[Clip], held_out: Sequence[Clip], headers: dict[Path, Header]
) -> list[str]:
    """Equal content has equal size, so that of most files need not be read."""
    sizes = {headers[clip.path].size for clip in training}
    suspects = [clip.path for clip in held_out if headers[clip.path].size in sizes]
    sizes = {headers[path].size for path in suspects}
    trained = {clip.path: None for clip in training if headers[clip.path].size in sizes}
    digests = {_digest(path): path for path in trained}
    pairs = [(path, digests[d]) for path in suspects if (d := _digest(path)) in digests]
    if not pairs:
        return []
    held, learnt = pairs[0]
    return [
        f"{len(pairs)} held-out clips are trained on as well, the first is {held} = {learnt}: "
        "a score on them shows memory, not skill; remove them from one part"
    ]


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.digest()


def _small_classes(manifest: Manifest, training: Sequence[Clip]) -> list[str]:
    counts = Counter(target for clip in training for target in clip.targets)
    small = sorted((count, target) for target, count in counts.items() if count < FEW_CLIPS)
    if not small:
        return []
    names = _names(f"{manifest.classes[target]} {count}" for count, target in small)
    return [f"{len(small)} classes have fewer than {FEW_CLIPS} training clips: {names}"]


def _unmeasured_classes(
    manifest: Manifest, training: Sequence[Clip], held_out: Sequence[Clip]
) -> list[str]:
    measured = {target for clip in held_out for target in clip.targets}
    absent = sorted({target for clip in training for target in clip.targets} - measured)
    if not (held_out and absent):
        return []
    names = _names(manifest.classes[target] for target in absent)
    return [f"{len(absent)} classes have no held-out clips, no score will show them: {names}"]


def _clips_of_no_class(clips: Sequence[Clip]) -> list[str]:
    count = sum(not clip.targets for clip in clips)
    return [f"{count} clips are of no class: all their targets are 0"] if count else []


def _shared_groups(training: Sequence[Clip], held_out: Sequence[Clip]) -> list[str]:
    trained, measured = ({clip.group for clip in part} - {None} for part in (training, held_out))
    shared = sorted(trained & measured)
    if not shared:
        return []
    return [
        f"{len(shared)} of {len(measured)} held-out groups are trained on as well "
        f"({_names(shared)}): the score does not tell how the model does on new ones"
    ]


def _low_rates(clips: Sequence[Clip], headers: dict[Path, Header], sample_rate: int) -> list[str]:
    rates = Counter(headers[clip.path].sample_rate for clip in clips)
    return [
        f"{count} clips are recorded at {rate} Hz: nothing in them above {rate // 2} Hz, "
        f"where the model, at {sample_rate} Hz, looks up to {sample_rate // 2} Hz"
        for rate, count in sorted(rates.items())
        if rate < sample_rate
    ]


def _statistics(
    measured: tuple[float, float] | None, expected: tuple[float, float] | None
) -> list[str]:
    if not (measured and expected):
        return []
    (mean, std), (recipe_mean, recipe_std) = measured, expected
    shift, stretch = abs(mean - recipe_mean) / recipe_std, std / recipe_std
    if shift <= LARGEST_SHIFT and 1 / LARGEST_STRETCH <= stretch <= LARGEST_STRETCH:
        return []
    return [
        "the recipe's mean and std do not bring these data to mean 0 and std 0.5: "
        f"train with --mean {mean:.4f} --std {std:.4f}"
    ]


def _facts(
    manifest: Manifest,
    training: Sequence[Clip],
    held_out: Sequence[Clip],
    headers: dict[Path, Header],
) -> list[str]:
    clips = (*training, *held_out)
    facts = [
        f"{manifest.name}: {len(training)} training and {len(held_out)} held-out clips, "
        f"{len(manifest.classes)} classes"
    ]
    if clips:
        seconds = sorted((headers[clip.path].seconds, clip.path) for clip in clips)
        total = timedelta(seconds=round(sum(length for length, _ in seconds)))
        (shortest, short), (longest, long) = seconds[0], seconds[-1]
        rates = Counter(headers[clip.path].sample_rate for clip in clips)
        facts += [
            f"duration {total} (h:mm:ss) in total, "
            f"shortest {shortest:.2f} s ({short.name}), longest {longest:.2f} s ({long.name})",
            "sample rates: " + ", ".join(f"{n} clips at {rate} Hz" for rate, n in rates.items()),
        ]
    return facts


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more
