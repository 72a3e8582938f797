"""Training, validation and test clips: the splits or folds of a corpus, or new stratified ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from data.manifest import SPLITS, Clips, Manifest

SPLIT_NAMES = {  # as they are written in the wild, in lower case
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
    """The same clips in splits "train", "validation" and "test", stratified by class.

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
            f"validation {validation}, test {test}: expected fractions from 0 that leave some "
            "clips for training"
        )
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    splits = [split for split in SPLITS if shares[split] > 0]
    indices = _stratify(manifest, [shares[split] for split in splits], seed, "splits")
    pairs = zip(manifest.clips, indices, strict=True)
    clips = Clips.of(replace(clip, split=splits[index]) for clip, index in pairs)
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
    indices = _stratify(manifest, [1 / folds] * folds, seed, "folds")
    pairs = zip(manifest.clips, indices, strict=True)
    clips = Clips.of(replace(clip, fold=index + 1) for clip, index in pairs)
    return replace(manifest, clips=clips)


class _Unit(NamedTuple):
    """Clips that stay together: those of a group, or one without a group."""

    clips: list[int]  # indices
    labels: Counter[int]  # how many of the clips have the class


def _stratify(manifest: Manifest, shares: Sequence[float], seed: int, what: str) -> list[int]:
    """For every clip the index, in `shares`, of the split or fold it goes to."""
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
    assigned = _assign(units, shares)
    reached = {(label, split) for unit, split in assigned for label in unit.labels}
    for label in sorted(spread):
        if any((label, split) not in reached for split in range(len(shares))):
            raise ValueError(
                f"{manifest.name}: {manifest.classes[label]!r} is not in all {len(shares)} {what} "
                f"with seed {seed}, since other classes bind its clips; try another seed"
            )
    split_of = {index: split for unit, split in assigned for index in unit.clips}
    return [split_of[index] for index in range(len(manifest.clips))]


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

    Class by class, the rarest of the remaining ones first, each unit goes to the split that still
    lacks most clips of the class. Beyond the paper, the last units of a class go to splits that
    have none of it.
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
    assigned = []
    while waiting:
        rarest = min(waiting, key=lambda label: (len(waiting[label]), label))
        for index, unit in list(waiting[rarest].items()):
            last_ones = len(waiting[rarest]) <= len(lacking[rarest])
            choice = sorted(lacking[rarest]) if last_ones else range(len(shares))
            split = max(choice, key=lambda split: (wanted[rarest][split], room[split]))
            assigned.append((unit, split))
            room[split] -= len(unit.clips)
            for label, count in unit.labels.items():
                wanted[label][split] -= count
                lacking[label].discard(split)
                del waiting[label][index]
        del waiting[rarest]
    return assigned


@dataclass(frozen=True)
class Splits:
    """The clips of one run. With folds, or without a third split, there are no test clips."""

    train: Clips
    validation: Clips  # scored after every epoch, to choose the best one
    test: Clips  # scored once, at the end
    fold: int | None  # whose clips are the validation clips
    validation_name: str  # what the validation clips are: "fold 1", "validation" or "test"


def split_clips(manifest: Manifest, fold: int | None, seed: int) -> Splits:
    """What a run trains on, validates on and tests on.

    With folds, `fold` (None: the first) is the validation split and the others train. Else the
    corpus's own splits are taken; one with training and test clips alone (AudioSet) is validated on
    its test split, as the authors do. A corpus without either is split 80 : 10 : 10 at random,
    stratified by class, groups kept together, as a function of `seed`.

    Raises:
        ValueError: the fold does not exist, a fold is asked of a corpus without folds, or the
            corpus cannot be split so.
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
