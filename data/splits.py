"""Which split of the data a clip is in: the usual names of the splits, and splits where none is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from data.manifest import SPLITS, Clips, Manifest

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def stratified_split(
    manifest: Manifest, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Manifest:
    """The same clips divided into train, validation and test, every class in the given proportions.

    Clips of one group stay together. Every class is in every split. The result depends on the order
    of the clips and the seed alone.

    Args:
        validation, test: fractions of the clips, from 0 (no such split); together below 1.

    Raises:
        ValueError: a fraction out of range; the manifest has splits or folds already; a class has
            fewer clips or groups than there are splits.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(
            f"validation {validation}, test {test}: expected fractions from 0 that leave some for training"
        )
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    splits = [split for split in SPLITS if shares[split] > 0]
    places = _stratify(manifest, [shares[split] for split in splits], seed, "splits")
    pairs = zip(manifest.clips, places, strict=True)
    clips = Clips.of(replace(clip, split=splits[place]) for clip, place in pairs)
    return replace(manifest, clips=clips)


def stratified_folds(manifest: Manifest, folds: int = 5, seed: int = 0) -> Manifest:
    """The same clips in folds 1 to `folds` of one size, every class spread evenly.

    Groups, classes and randomness are treated as in `stratified_split`.

    Raises:
        ValueError: fewer than 2 folds; the manifest has splits or folds already; a class has fewer
            clips or groups than there are folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: expected at least 2, to train on one and test on another")
    places = _stratify(manifest, [1 / folds] * folds, seed, "folds")
    pairs = zip(manifest.clips, places, strict=True)
    clips = Clips.of(replace(clip, fold=place + 1) for clip, place in pairs)
    return replace(manifest, clips=clips)


class _Unit(NamedTuple):
    """Clips that stay together: those of a group, or one without a group."""

    clips: list[int]  # indices
    labels: Counter[int]  # how many of the clips have the class


def _stratify(manifest: Manifest, shares: Sequence[float], seed: int, what: str) -> list[int]:
    """For every clip the place (an index of `shares`) it goes to."""
    if (manifest.clips.values("split") | manifest.clips.values("fold")) - {None}:
        raise ValueError(
            f"{manifest.name} has splits or folds of its own: expected clips without; use those"
        )
    units = _units(manifest)
    units = [units[index] for index in np.random.default_rng(seed).permutation(len(units))]
    units.sort(key=lambda unit: -len(unit.clips))  # large groups while there is room for them
    spread = Counter(label for unit in units for label in unit.labels)
    spread.pop(len(manifest.classes), None)  # clips of no class need not be everywhere
    short = [label for label in sorted(spread) if spread[label] < len(shares)]
    if short:
        raise ValueError(
            f"{manifest.name} has {len(short)} classes too small for {len(shares)} {what}, the "
            f"first is {manifest.classes[short[0]]!r} with {spread[short[0]]} clips or groups: "
            f"expected {len(shares)}; add recordings, remove the class, or ask for fewer {what}"
        )
    placed = _assign(units, shares)
    reached = {(label, place) for unit, place in placed for label in unit.labels}
    for label in sorted(spread):
        if any((label, place) not in reached for place in range(len(shares))):
            raise ValueError(
                f"{manifest.name}: {manifest.classes[label]!r} is not in all {len(shares)} {what} "
                f"with seed {seed}, since other classes bind its clips; try another seed"
            )
    place_of = {index: place for unit, place in placed for index in unit.clips}
    return [place_of[index] for index in range(len(manifest.clips))]


def _units(manifest: Manifest) -> list[_Unit]:
    members: dict[tuple[str, object], list[int]] = {}
    for index, clip in enumerate(manifest.clips):
        key = ("clip", index) if clip.group is None else ("group", clip.group)
        members.setdefault(key, []).append(index)
    # Clips of no class (multi-label) are spread as a class of their own, one after the last.
    labels = [clip.targets or (len(manifest.classes),) for clip in manifest.clips]
    return [
        _Unit(clips, Counter(label for index in clips for label in labels[index]))
        for clips in members.values()
    ]


def _assign(units: list[_Unit], shares: Sequence[float]) -> list[tuple[_Unit, int]]:
    """Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) of whole groups.

    Class by class, the rarest of the remaining ones first, each unit goes where most clips of the
    class are still wanted. Beyond the paper, the last units of a class go to places without it.
    """
    totals: Counter[int] = Counter()
    for unit in units:
        totals.update(unit.labels)
    wanted = {label: [total * share for share in shares] for label, total in totals.items()}
    num_clips = sum(len(unit.clips) for unit in units)
    room = [num_clips * share for share in shares]  # as `wanted`, in clips of any class
    waiting: dict[int, dict[int, _Unit]] = {label: {} for label in totals}
    for index, unit in enumerate(units):
        for label in unit.labels:
            waiting[label][index] = unit
    lacking = {label: set(range(len(shares))) for label in totals}
    placed = []
    while waiting:
        rarest = min(waiting, key=lambda label: (len(waiting[label]), label))
        for index, unit in list(waiting[rarest].items()):
            last_ones = len(waiting[rarest]) <= len(lacking[rarest])
            choice = sorted(lacking[rarest]) if last_ones else range(len(shares))
            place = max(choice, key=lambda place: (wanted[rarest][place], room[place]))
            placed.append((unit, place))
            room[place] -= len(unit.clips)
            for label, count in unit.labels.items():
                wanted[label][place] -= count
                lacking[label].discard(place)
                del waiting[label][index]
        del waiting[rarest]
    return placed


@dataclass(frozen=True)
class Splits:
    """The clips of one run. With folds, or without a third split, there is no test."""

    train: Clips
    validation: Clips  # scored after every epoch; chooses the best one
    test: Clips  # scored once, at the end
    fold: int | None  # the fold held out
    validation_name: str  # "fold 1", "validation" or "test"


def split_clips(manifest: Manifest, fold: int | None, seed: int) -> Splits:
    """One fold against the others; else the splits train, validation and test; else a new split.

    A corpus with training and test clips alone (AudioSet) is watched on its test split, as the
    authors do. One without folds and splits is split 80 : 10 : 10 at random, stratified by class
    and kept together by group, a function of `seed`.

    Raises:
        ValueError: the fold does not exist, a fold is asked of a corpus without folds, or the
            corpus cannot be divided so.
    """
    none = manifest.clips[:0]
    if manifest.folds:
        fold = manifest.folds[0] if fold is None else fold
        train, validation = manifest.split(fold)
        return Splits(train, validation, none, fold, f"fold {fold}")
    if fold is not None:
        raise ValueError(f"{manifest.name} has no folds, so leave --fold {fold} out")
    if not manifest.splits:
        manifest = stratified_split(manifest, seed=seed)
    train = manifest.in_split("train")
    if "validation" in manifest.splits:
        test = manifest.in_split("test") if "test" in manifest.splits else none
        return Splits(train, manifest.in_split("validation"), test, None, "validation")
    return Splits(train, manifest.in_split("test"), none, None, "test")
