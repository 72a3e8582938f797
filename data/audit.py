"""A look at the data before training: what would spoil a result silently, and notes."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data.duplicates import equal_files
from data.file_table import FileTable, look_at, salted
from data.headers import read_headers
from data.manifest import Clip, Clips, Manifest
from data.splits import Splits
from data.statistics import Statistics

WINDOW_SECONDS = 0.025  # one frame of the filterbank: a shorter clip has none
FEW_CLIPS = 10  # of a class in training
LARGEST_SHIFT = 0.25  # of the mean, in standard deviations
LARGEST_STRETCH = 1.25  # of the standard deviation, either way
NAMED = 5  # of many, in one line
LISTENED = 200  # clips, evenly taken, of which the loudness is measured
NEAR_SILENCE = -60  # dB below full scale, root mean square
FULL_SCALE, CLIPPED_SAMPLES = 0.99, 10  # a clip with so many samples at full scale is clipped

LOUDNESS = "loudness"  # file of the table that keeps it


@dataclass(frozen=True)
class Audit:
    """What was found, each finding in one line."""

    facts: tuple[str, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]
    unreadable: dict[Path, str]  # file and reason; missing files are among them
    training: Clips  # the clips that can be read
    evaluation: Clips  # of validation and test
    training_seconds: np.ndarray  # (training clips,)
    training_rates: np.ndarray  # (training clips,), Hz

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
    splits: Splits,
    sample_rate: int = 16_000,
    measure: Callable[[Sequence[Clip]], Statistics | None] | None = None,
    expected: tuple[float, float] | None = None,
    skip_unreadable: bool = False,
    kept: Path | None = None,
    load: Callable[[Path, int], Tensor] | None = None,
    highest: float | None = None,
) -> Audit:
    """Whether these clips can be trained on, and the others tell how good the result is.

    Errors are: files missing or unreadable, clips shorter than a window of 25 ms, classes without
    training clips, and files that are trained on and evaluated (of the same content, whatever their
    names). Only headers are read, and as much as `equal_files` needs, but for what `measure` and
    `load` decode: damage inside a file shows when it is decoded.

    Args:
        manifest: where the clips are from; gives the names of the classes.
        splits: what is trained on, and validation and test clips, which may be none.
        sample_rate: of the model, in Hz.
        measure: gives mean and standard deviation of the log-mel values of clips, or None; called
            with the training clips unless there are errors.
        expected: the recipe's mean and standard deviation, to compare with.
        skip_unreadable: missing and unreadable files become a note instead of an error; training
            and evaluation of the result are without them in either case.
        kept: folder that keeps what was read, so that a later audit reads only files that have
            changed since; None keeps nothing.
        load: decodes a file at a sample rate; called for up to `LISTENED` training clips, to tell
            how loud they are, unless there are errors. None: loudness is left out.
        highest: frequency that the model hears, in Hz; None: half its sample rate.
    """
    every = splits.train + splits.validation + splits.test
    files = look_at(every)
    headers, failures = read_headers(every, files, kept)
    readable = headers["samples"] > 0
    ends = np.cumsum([len(splits.train), len(splits.validation)])
    counts = [int(some.sum()) for some in np.split(readable, ends)]  # of each split
    num_trained = counts[0]
    clips, headers, files = every[readable], headers[readable], files[readable]
    training, evaluation = clips[:num_trained], clips[num_trained:]
    seconds = headers["samples"] / headers["sample_rate"]
    remedy = (
        "left out" if skip_unreadable else "restore them, or leave them out with --skip-unreadable"
    )
    lost = _lost_clips(failures, len(every) - len(clips), len(every), remedy)
    errors = [
        *([] if skip_unreadable else lost),
        *_short_clips(clips, seconds),
        *_untrained_classes(manifest, training),
        *_trained_on(training, evaluation, files, kept),
    ]
    measured = measure(training) if measure and not errors else None
    levels = _levels(training, files, load, sample_rate, kept) if load and not errors else []
    notes = [
        *(lost if skip_unreadable else []),
        *_small_classes(manifest, training),
        *_unmeasured_classes(manifest, training, evaluation),
        *(_clips_of_no_class(clips) if manifest.classes else []),
        *_validated_on(evaluation[: counts[1]], evaluation[counts[1] :], files[num_trained:], kept),
        *_shared_groups(training, evaluation),
        *_low_rates(headers, sample_rate, highest or sample_rate / 2),
        *_near_silent(levels),
        *_clipped(levels),
        *_wrong_statistics(measured, expected),
    ]
    facts = [
        f"{manifest.name}: {_by_split(counts, splits)}, {_number_of_classes(manifest)}",
        *_clips_by_class(manifest, training),
        *_durations(clips, seconds),
        *_sample_rates(headers),
        *_loudness(levels),
        *_mean_and_std(measured, expected),
    ]
    unreadable = {path: " ".join(str(error).split()) for path, error in failures.items()}
    trained = seconds[:num_trained], headers["sample_rate"][:num_trained]
    found = tuple(facts), tuple(notes), tuple(errors), unreadable
    return Audit(*found, training, evaluation, *trained)


def _number_of_classes(manifest: Manifest) -> str:
    return f"{len(manifest.classes)} classes" if manifest.classes else "without labels"


def _by_split(counts: Sequence[int], splits: Splits) -> str:
    """How many clips each split has, in words."""
    names = ("training", "validation", "test")
    named = [f"{count:,} {name}" for count, name in zip(counts, names, strict=True) if count]
    *first, last = named or ["no"]
    known = {"validation": "", "test": " (validated on the test split)"}
    remark = known.get(splits.validation_name, f" ({splits.validation_name})")
    return f"{', '.join(first)}{' and ' if first else ''}{last} clips{remark}"


def _lost_clips(
    failures: dict[Path, Exception], lost: int, num_clips: int, remedy: str
) -> list[str]:
    if not failures:
        return []
    missing = sum(isinstance(error, FileNotFoundError) for error in failures.values())
    return [
        f"{lost} of {num_clips} clips cannot be used, {missing} files are missing and "
        f"{len(failures) - missing} unreadable, the first is {next(iter(failures))}: {remedy}"
    ]


def _short_clips(clips: Clips, seconds: np.ndarray) -> list[str]:
    short = np.flatnonzero(seconds < WINDOW_SECONDS)
    if not len(short):
        return []
    return [
        f"{len(short)} clips are shorter than one window of 25 ms, the first is "
        f"{clips[short[0]].path} ({1000 * seconds[short[0]]:.1f} ms): remove them"
    ]


def _untrained_classes(manifest: Manifest, training: Clips) -> list[str]:
    if not training:
        return [f"{manifest.name} leaves no clips to train on: check the fold or the splits"]
    absent = set(range(len(manifest.classes))) - _classes_of(training)
    if not absent:
        return []
    return [
        f"{len(absent)} of {len(manifest.classes)} classes have no training clips "
        f"({_names(manifest.classes[target] for target in sorted(absent))}): "
        "add some, or remove the classes from the data"
    ]


def _classes_of(clips: Clips) -> set[int]:
    return set(np.unique(clips.targets()[0]).tolist())


def _trained_on(
    training: Clips, evaluation: Clips, files: np.ndarray, kept: Path | None
) -> list[str]:
    return _in_both(
        training,
        evaluation,
        files,
        kept,
        "validation and test clips are trained on as well",
        "a score on them shows memory, not skill",
    )


def _validated_on(
    validation: Clips, test: Clips, files: np.ndarray, kept: Path | None
) -> list[str]:
    return _in_both(
        validation,
        test,
        files,
        kept,
        "test clips are validation clips as well",
        "the score of the best epoch on them flatters",
    )


def _in_both(
    first: Clips, second: Clips, files: np.ndarray, kept: Path | None, found: str, reason: str
) -> list[str]:
    """Clips of the second split whose file's content is in the first; `files` are of both."""
    of_first, of_second = np.split(files, [len(first)])
    pairs = equal_files(second, first, of_second, of_first, kept)
    if not pairs:
        return []
    clip, same = pairs[0]
    return [
        f"{len(pairs)} {found}, the first is {clip} = {same}: {reason}; remove them from one split"
    ]


def _small_classes(manifest: Manifest, training: Clips) -> list[str]:
    counts = enumerate(np.bincount(training.targets()[0]).tolist())
    small = sorted((count, target) for target, count in counts if 0 < count < FEW_CLIPS)
    if not small:
        return []
    names = _names(f"{manifest.classes[target]} {count}" for count, target in small)
    return [f"{len(small)} classes have fewer than {FEW_CLIPS} training clips: {names}"]


def _unmeasured_classes(manifest: Manifest, training: Clips, evaluation: Clips) -> list[str]:
    absent = sorted(_classes_of(training) - _classes_of(evaluation))
    if not (evaluation and absent):
        return []
    names = _names(manifest.classes[target] for target in absent)
    return [
        f"{len(absent)} classes have no validation or test clips, no score will show them: {names}"
    ]


def _clips_of_no_class(clips: Clips) -> list[str]:
    count = (clips.targets()[1] == 0).sum()
    return [f"{count} clips are of no class: all their targets are 0"] if count else []


def _shared_groups(training: Clips, evaluation: Clips) -> list[str]:
    measured = set(evaluation.groups()) - {None}
    shared = sorted({group for group in training.groups() if group in measured})
    if not shared:
        return []
    return [
        f"{len(shared)} of {len(measured)} groups of validation and test clips are trained on as "
        f"well ({_names(shared)}): the score does not tell how the model does on new ones"
    ]


def _low_rates(headers: np.ndarray, sample_rate: int, highest: float) -> list[str]:
    rates = Counter(headers["sample_rate"].tolist())
    return [
        f"{count} clips are recorded at {rate} Hz: nothing in them above {rate // 2} Hz, "
        f"where the model, at {sample_rate} Hz, looks up to {highest:g} Hz"
        for rate, count in sorted(rates.items())
        if rate / 2 < highest
    ]


def _mean_and_std(measured: Statistics | None, expected: tuple[float, float] | None) -> list[str]:
    if not (measured and expected):
        return []
    mean, std = measured.with_padding()
    return [
        f"mean {measured.mean:.4f}, std {measured.std:.4f} (padding included {mean:.4f}, "
        f"{std:.4f}); the recipe has {expected[0]:.4f}, {expected[1]:.4f}"
    ]


def _wrong_statistics(
    measured: Statistics | None, expected: tuple[float, float] | None
) -> list[str]:
    """Published recipes count the padding, so a recipe may fit either with it or without."""
    if not (measured and expected):
        return []
    if _near(measured[:2], expected) or _near(measured.with_padding(), expected):
        return []
    return [
        "the recipe's mean and std do not bring these data to mean 0 and std 0.5: "
        f"train with --mean {measured.mean:.4f} --std {measured.std:.4f}"
    ]


def _near(measured: tuple[float, float], expected: tuple[float, float]) -> bool:
    (mean, std), (recipe_mean, recipe_std) = measured, expected
    shift, stretch = abs(mean - recipe_mean) / recipe_std, std / recipe_std
    return shift <= LARGEST_SHIFT and 1 / LARGEST_STRETCH <= stretch <= LARGEST_STRETCH


class _Level(NamedTuple):
    """How loud a clip is."""

    path: Path
    decibels: float  # root mean square, below full scale
    clipped: bool


def _levels(
    clips: Clips,
    files: np.ndarray,
    load: Callable[[Path, int], Tensor],
    sample_rate: int,
    kept: Path | None,
) -> list[_Level]:
    """Of up to `LISTENED` clips, those that can be decoded."""
    rows = np.arange(0, len(clips), max(1, -(-len(clips) // LISTENED)))
    clips, keys = clips[rows], files["key"][rows]

    def level(row: int) -> tuple[float, bool, bool] | None:
        try:
            waveform = load(clips[row].path, sample_rate)
        except (OSError, ValueError):  # met again where it is trained on
            return None
        power = max(float(waveform.square().mean()), 1e-12)
        clipped = int((waveform.abs() >= FULL_SCALE).sum()) >= CLIPPED_SAMPLES
        return 10 * math.log10(power), clipped, True

    fields = [("decibels", "<f8"), ("clipped", "?"), ("heard", "?")]
    table = FileTable(
        kept / LOUDNESS if kept else None,
        fields,
        is_sound=lambda entries: np.isfinite(entries["decibels"]),
    )
    found = table.values(salted(keys, sample_rate), level, "loudness")
    return [
        _Level(clip.path, float(row["decibels"]), bool(row["clipped"]))
        for clip, row in zip(clips, found, strict=True)
        if row["heard"]
    ]


def _loudness(levels: list[_Level]) -> list[str]:
    if not levels:
        return []
    low, median, high = np.percentile([level.decibels for level in levels], [5, 50, 95])
    clipped = sum(level.clipped for level in levels)
    silent = sum(level.decibels < NEAR_SILENCE for level in levels)
    return [
        f"loudness of {len(levels)} training clips: median {median:.0f} dB of full scale, nine in "
        f"ten between {low:.0f} and {high:.0f}; {clipped or 'none'} clipped, {silent or 'none'} "
        "nearly silent"
    ]


def _near_silent(levels: list[_Level]) -> list[str]:
    silent = [level.path for level in levels if level.decibels < NEAR_SILENCE]
    if not silent:
        return []
    return [
        f"{len(silent)} of {len(levels)} clips listened to are nearly silent (below {NEAR_SILENCE} "
        f"dB), the first is {silent[0]}: the model learns silence as their class"
    ]


def _clipped(levels: list[_Level]) -> list[str]:
    clipped = [level.path for level in levels if level.clipped]
    if not clipped:
        return []
    return [
        f"{len(clipped)} of {len(levels)} clips listened to are clipped (at full scale in at least "
        f"{CLIPPED_SAMPLES} samples), the first is {clipped[0]}"
    ]


def _clips_by_class(manifest: Manifest, training: Clips) -> list[str]:
    counts = np.bincount(training.targets()[0], minlength=len(manifest.classes)).tolist()
    if not training or not counts:
        return []
    if min(counts) == max(counts):
        return [f"training clips by class: {counts[0]} of each"]
    by_count = sorted(zip(manifest.classes, counts, strict=True), key=lambda row: -row[1])
    named = [f"{name} {count}" for name, count in by_count]
    if len(named) > 2 * NAMED:
        named = [*named[:NAMED], "…", *named[-NAMED:]]
    return [f"training clips by class: {', '.join(named)}"]


def _durations(clips: Clips, seconds: np.ndarray) -> list[str]:
    if not clips:
        return []
    total, shortest, longest = seconds.sum(), seconds.min(), seconds.max()
    in_all = f"duration {timedelta(seconds=round(total))} (h:mm:ss) in total"
    if f"{shortest:.2f}" == f"{longest:.2f}":
        return [f"{in_all}, each clip {shortest:.2f} s"]
    short = min(clips[seconds == shortest].paths(), key=_parts)
    long = max(clips[seconds == longest].paths(), key=_parts)
    return [
        f"{in_all}, shortest {shortest:.2f} s ({_parts(short)[-1]}), longest {longest:.2f} s "
        f"({_parts(long)[-1]})",
        "lengths: one clip in twenty up to {:.2f} s, half up to {:.2f} s, nineteen in twenty up to "
        "{:.2f} s".format(*np.percentile(seconds, [5, 50, 95])),
    ]


def _parts(path: str) -> list[str]:
    return path.split(os.sep)  # noqa: PTH206 - a Path for each of millions takes long


def _sample_rates(headers: np.ndarray) -> list[str]:
    rates = Counter(headers["sample_rate"].tolist())  # in the order in which they occur
    listed = ", ".join(f"{count:,} clips at {rate} Hz" for rate, count in rates.items())
    return [f"sample rates: {listed}"] if listed else []


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more
