"""Training, validation and test clips: the splits or folds of a corpus, or new stratified ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
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

logger = logging.getLogger(__name__)


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
    clips = manifest.clips.replace("split", (splits[index] for index in indices))
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
    clips = manifest.clips.replace("fold", (index + 1 for index in indices))
    return replace(manifest, clips=clips)


def hold_out(manifest: Manifest, validation: float, seed: int = 0) -> list[str]:
    """For every clip "train" or "validation", stratified by class, groups kept together.

    As `stratified_split`, but rare classes are allowed: every class has training clips, and one
    with a single clip or group has no others.

    Args:
        validation: fraction of the clips, above 0 and below 1.

    Raises:
        ValueError: each clip or group is the only one of a class.
    """
    units = _units(manifest)
    order = _shuffled(units, seed)
    indices, _ = _assign(units, order, [1 - validation, validation])
    validates = np.array(indices, bool)
    owners = np.repeat(np.arange(len(units.sizes)), np.diff(units.offsets))
    is_only_one = np.zeros(len(validates), bool)
    for label in np.unique(units.labels):
        members = owners[units.labels == label]
        validates[members[:1]] &= not validates[members].all()
        is_only_one[members] |= len(members) == 1
    if is_only_one.all():
        raise ValueError(
            f"{manifest.name} has no clip or group to validate on, since each is the only one of a "
            "class: expected two of some class; add recordings"
        )
    if not validates.any():  # what was chosen was the last of its classes
        validates[next(unit for unit in order if not is_only_one[unit])] = True
    return [("train", "validation")[index] for index in validates[units.of_clip].tolist()]


class _Units(NamedTuple):
    """What stays together: the clips of a group, or one without a group."""

    of_clip: np.ndarray  # (clips,) index of the unit
    sizes: np.ndarray  # (units,) in clips
    offsets: np.ndarray  # (units + 1,) unit u has labels[offsets[u] : offsets[u + 1]]
    labels: np.ndarray  # the classes of each unit, and
    counts: np.ndarray  # how many of its clips have the class


def _stratify(manifest: Manifest, shares: Sequence[float], seed: int, what: str) -> list[int]:
    """For every clip the index, in `shares`, of the split or fold it goes to."""
    if (manifest.clips.values("split") | manifest.clips.values("fold")) - {None}:
        raise ValueError(
            f"{manifest.name} has splits or folds of its own: expected clips without; use those"
        )
    units = _units(manifest)
    order = _shuffled(units, seed)
    spread = np.bincount(units.labels, minlength=len(manifest.classes))
    spread = spread[: len(manifest.classes)]  # clips of no class need not be everywhere
    if len(short := np.flatnonzero((spread > 0) & (spread < len(shares)))):
        raise ValueError(
            f"{manifest.name} has {len(short)} classes too small for {len(shares)} {what}, the "
            f"first is {manifest.classes[short[0]]!r} with {spread[short[0]]} clips or groups: "
            f"expected {len(shares)}; add recordings, remove the class, or ask for fewer {what}"
        )
    split_of, lacking = _assign(units, order, shares)
    for label in np.flatnonzero(spread).tolist():
        if lacking[label]:
            raise ValueError(
                f"{manifest.name}: {manifest.classes[label]!r} is not in all {len(shares)} {what} "
                f"with seed {seed}, since other classes bind its clips; try another seed"
            )
    return np.array(split_of, np.int64)[units.of_clip].tolist()


def _units(manifest: Manifest) -> _Units:
    first_of: dict[str, int] = {}
    of_clip = np.fromiter(
        (
            index if group is None else first_of.setdefault(group, index)
            for index, group in enumerate(manifest.clips.groups())
        ),
        np.int64,
    )
    _, of_clip, sizes = np.unique(of_clip, return_inverse=True, return_counts=True)
    targets, counts = manifest.clips.targets()
    owners = np.repeat(of_clip, counts)
    # Clips of no class (multi-label) are spread as a class of their own, one after the last.
    none, num_labels = of_clip[counts == 0], 1 + len(manifest.classes)
    keys = np.concatenate([owners * num_labels + targets, (none + 1) * num_labels - 1])
    keys, counts = np.unique(keys, return_counts=True)
    owners, labels = np.divmod(keys, num_labels)
    offsets = np.searchsorted(owners, np.arange(1 + len(sizes)))
    return _Units(of_clip, sizes, offsets, labels, counts)


def _shuffled(units: _Units, seed: int) -> np.ndarray:
    """(units,) in the order in which they are assigned: large ones while there is room."""
    order = np.random.default_rng(seed).permutation(len(units.sizes))
    return order[np.argsort(-units.sizes[order], kind="stable")]


def _assign(
    units: _Units, order: np.ndarray, shares: Sequence[float]
) -> tuple[list[int], dict[int, set[int]]]:
    """Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) of whole groups.

    Class by class, the rarest of the remaining ones first, each unit goes to the split that still
    lacks most clips of the class. Beyond the paper, the last units of a class go to splits that
    have none of it.

    Returns:
        The split of each unit, and for each class the splits that have none of it.
    """
    waiting = _units_by_label(units, order)
    left = {label: len(members) for label, members in waiting.items()}  # of those, not assigned
    totals = np.bincount(units.labels, units.counts).tolist()
    wanted = {label: [totals[label] * share for share in shares] for label in waiting}
    room = [len(units.of_clip) * share for share in shares]  # as `wanted`, in clips of any class
    lacking = {label: set(range(len(shares))) for label in waiting}
    sizes, offsets, labels, counts = (column.tolist() for column in units[1:])
    split_of = [-1] * len(sizes)
    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for unit in waiting[rarest]:
            if split_of[unit] >= 0:
                continue
            needs = list(zip(wanted[rarest], room, strict=True))
            if left[rarest] <= len(lacking[rarest]):  # the last ones
                split = max(sorted(lacking[rarest]), key=needs.__getitem__)
            else:
                split = needs.index(max(needs))
            split_of[unit] = split
            room[split] -= sizes[unit]
            for position in range(offsets[unit], offsets[unit + 1]):
                label = labels[position]
                wanted[label][split] -= counts[position]
                lacking[label].discard(split)
                left[label] -= 1
        del left[rarest]
    return split_of, lacking


def _units_by_label(units: _Units, order: np.ndarray) -> dict[int, list[int]]:
    """The units that have each class, in this order."""
    owners = np.repeat(np.arange(len(units.sizes)), np.diff(units.offsets))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    by_label = np.lexsort((place[owners], units.labels))
    labels, starts = np.unique(units.labels[by_label], return_index=True)
    members = np.split(owners[by_label], starts[1:])
    return {label: part.tolist() for label, part in zip(labels.tolist(), members, strict=True)}


@dataclass(frozen=True)
class Splits:
    """The clips of one run. With folds, or without a third split, there are no test clips."""

    train: Clips
    validation: Clips  # scored after every epoch, to choose the best one
    test: Clips  # scored once, at the end
    fold: int | None  # whose clips are the validation clips
    validation_name: str  # what the validation clips are: "fold 1", "validation" or "test"


def split_clips(
    manifest: Manifest, fold: int | None, seed: int, clips_per_class: int = 0
) -> Splits:
    """What a run trains on, validates on and tests on.

    With folds, `fold` (None: the first) is the validation split and the others train. Else the
    corpus's own splits are taken; one with training and test clips alone (AudioSet) is validated on
    its test split, as the authors do. A corpus without either is split 80 : 10 : 10 at random,
    stratified by class, groups kept together, as a function of `seed`.

    Args:
        clips_per_class: train on so many clips of each class, as `draw_per_class` draws them; 0:
            on all. The other splits stay as they are.

    Raises:
        ValueError: the fold does not exist, a fold is asked of a corpus without folds, or the
            corpus cannot be split so; as `draw_per_class`.
    """
    splits = _all_clips(manifest, fold, seed)
    if not clips_per_class:
        return splits
    return replace(splits, train=draw_per_class(manifest, splits.train, clips_per_class, seed))


def draw_per_class(manifest: Manifest, clips: Clips, count: int, seed: int) -> Clips:
    """So many clips of each class, drawn at random from as many groups as there are.

    No group gives a second clip of a class before every group that has the class gave its first,
    and so on. Of one seed, a smaller draw is part of a larger one. Where clips have several
    classes, those of the rarest class are drawn first and count for the others that they have, so
    that a class may have more; one that has fewer gives all it has, which is logged.

    Args:
        clips: of `manifest`, to draw from; their order is kept.

    Raises:
        ValueError: a class has fewer clips, and no clip has several classes.
    """
    targets, counts = clips.targets()
    rows_of_targets = np.repeat(np.arange(len(clips)), counts)
    found = np.bincount(targets, minlength=len(manifest.classes))
    few = np.flatnonzero(found < count)
    if len(few) and not manifest.multi_label:
        raise ValueError(
            f"{manifest.name} has {found[few[0]]} training clips of "
            f"{manifest.classes[few[0]]!r:.60}, expected {count} of each class: use a smaller "
            "--clips-per-class, or add recordings"
        )
    if len(few):
        names = ", ".join(f"{manifest.classes[label]!r:.60} {found[label]}" for label in few[:5])
        logger.warning(
            f"{len(few)} classes have fewer than {count} training clips, and give all: {names}"
            f"{', …' if len(few) > 5 else ''}"
        )
    groups = _group_numbers(clips)
    waiting = {}
    for label in np.argsort(found, kind="stable").tolist():
        rows = np.random.default_rng([seed, label]).permutation(rows_of_targets[targets == label])
        waiting[label] = iter(rows[np.argsort(_turn(groups[rows]), kind="stable")].tolist())
    ends = np.cumsum(counts)
    drawn, have = set(), np.zeros(len(found), np.int64)
    for wanted, label in product(range(1, count + 1), waiting):
        if have[label] < wanted:
            row = next((row for row in waiting[label] if row not in drawn), None)
            if row is not None:
                drawn.add(row)
                have[targets[ends[row] - counts[row] : ends[row]]] += 1
    return clips[np.array(sorted(drawn), np.int64)]


def _group_numbers(clips: Clips) -> np.ndarray:
    """The group of each clip, (clips,); a clip without one is a group of its own."""
    names = [
        str(row) if group is None else f"group {group}" for row, group in enumerate(clips.groups())
    ]
    return np.unique(names, return_inverse=True)[1]


def _turn(groups: np.ndarray) -> np.ndarray:
    """How many of the same group came before, for each of a sequence of groups."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    turns = np.empty(len(groups), np.int64)
    turns[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return turns


def _all_clips(manifest: Manifest, fold: int | None, seed: int) -> Splits:
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
