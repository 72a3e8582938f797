"""How much of a run's score is owed to which of its clips: the score without each group of them.

N clips, C classes, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from data import Manifest
from train.experiments.statistics import RunScore
from train.run.folder import RunRecord
from train.run.schema import read_class_columns, read_clips
from train.run.tables import read_csv, write_csv

GROUPS = "groups.csv"  # of a table's folder: the clips that have a group, with it
MOST_BLOCKS = 1_000  # of clips without groups; more would say no more of the variance


def write_groups(out: Path, manifest: Manifest) -> None:
    """Note the clips' groups (speakers, sites) in a table's folder, where the corpus has any."""
    clips = manifest.clips
    rows = [
        (manifest.relative(Path(path)), group)
        for path, group in zip(clips.paths(), clips.groups(), strict=True)
        if group is not None
    ]
    if rows:
        write_csv(out / GROUPS, ("clip", "group"), rows)


def read_groups(out: Path) -> dict[str, str]:
    """What `write_groups` noted: clip to group; empty where it noted nothing.

    Raises:
        ValueError: the file holds something else.
    """
    file = out / GROUPS
    if not file.is_file():
        return {}
    rows = read_csv(file)
    source, header = next(rows)
    if header != ["clip", "group"]:
        raise ValueError(f"{source}: the columns are {', '.join(header):.60}, not clip and group")
    return {clip: group for _, (clip, group) in rows}


def run_score(run: RunRecord, groups: Mapping[str, str]) -> RunScore:
    """The score to quote of a finished run, and what its clips add to it, by its predictions.

    Those are of the final model, whose share stands for that of averaged weights too.

    Args:
        groups: of the clips that have one; the others count as drawn one by one.

    Raises:
        ValueError: the predictions are damaged, or not of the clips that were scored.
    """
    quoted = run.quoted
    file = run.folder / quoted.predictions
    if not file.is_file():
        return RunScore(quoted.score)
    classes = {name: index for index, name in enumerate(read_class_columns(file))}
    names, labels, rows = [], [], []
    for clip, target, probabilities in read_clips(file):
        names.append(clip)
        labels.append([target] if target in classes else target.split("|"))
        rows.append(np.array(probabilities, np.float32))
    if quoted.clips is not None and len(names) != quoted.clips:
        raise ValueError(
            f"{file} has {len(names)} clips, but {quoted.clips} were scored: it is damaged; "
            "delete the run folder and train it again"
        )
    targets = np.zeros((len(names), len(classes)), bool)
    for row, words in zip(targets, labels, strict=True):
        row[[classes[word] for word in words if word in classes]] = True
    units = _units(names, groups)
    if len(set(units)) < 2:
        return RunScore(quoted.score)
    return RunScore(quoted.score, changes(run.recipe.metric, targets, np.stack(rows), units))


def _units(clips: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    """What each clip is left out with: its group, or itself; of many, those its name puts it with.

    A clip's unit is the same in every run that scored the same clips.
    """
    few = len(clips) <= MOST_BLOCKS
    blocks = [crc32(clip.encode("utf-8", "surrogateescape")) % MOST_BLOCKS for clip in clips]
    return [
        f"group {groups[clip]}" if clip in groups else f"clip {clip}" if few else f"block {block}"
        for clip, block in zip(clips, blocks, strict=True)
    ]


def changes(
    metric: str, targets: np.ndarray, scores: np.ndarray, units: Sequence[str]
) -> dict[str, float]:
    """The score of all clips, less that without the clips of each unit.

    Args:
        metric: accuracy, or mAP.
        targets: (N, C) bool.
        scores: (N, C), the higher, the likelier.
        units: (N,) what each clip is left out with; two different ones at least.
    """
    names, codes = np.unique(units, return_inverse=True)
    without = _accuracy_without if metric == "accuracy" else _map_without
    *others, whole = without(targets, scores, codes, len(names)).tolist()
    return {str(name): whole - other for name, other in zip(names, others, strict=True)}


def _accuracy_without(
    targets: np.ndarray, scores: np.ndarray, codes: np.ndarray, groups: int
) -> np.ndarray:
    """(G + 1,) without the clips of each group, and at last of all."""
    hits = targets[np.arange(len(scores)), scores.argmax(axis=1)].astype(float)
    lost = np.bincount(codes, hits, groups + 1)
    return (hits.sum() - lost) / (len(hits) - np.bincount(codes, minlength=groups + 1))


def _map_without(
    targets: np.ndarray, scores: np.ndarray, codes: np.ndarray, groups: int
) -> np.ndarray:
    """As `_accuracy_without`; the mean over the classes that the clips left have."""
    occurring = np.flatnonzero(targets.any(axis=0))
    precisions = [
        average_precision_without(targets[:, c], scores[:, c], codes, groups) for c in occurring
    ]
    return np.nanmean(precisions, axis=0)


def average_precision_without(
    positive: np.ndarray, scores: np.ndarray, codes: np.ndarray, groups: int
) -> np.ndarray:
    """Average precision of one class without the clips of each group, and at last of all.

    The mean over the class's clips of the precision among the clips that score as high or higher.
    All groups at once, since a clip of the class loses from its rank the group's clips above it.

    Args:
        positive: (N,) bool. scores: (N,). codes: (N,) the group of each clip, below `groups`.

    Returns:
        (G + 1,); NaN without the only group that has the class.
    """
    order = np.argsort(-scores, kind="stable")
    descending, codes, positive = -scores[order], codes[order], positive[order]
    own = np.flatnonzero(positive)
    ends = np.searchsorted(descending, descending[own], side="right")  # behind all as high

    def above(items: np.ndarray) -> np.ndarray:
        """(P, G + 1) how many of the items, by group, are above each clip of the class."""
        first = np.searchsorted(ends, items, side="right")  # the first that it is above
        inside = first < len(own)
        cells = first[inside] * (groups + 1) + codes[items[inside]]
        counts = np.bincount(cells, minlength=len(own) * (groups + 1))
        return counts.reshape(len(own), groups + 1).cumsum(axis=0)

    hits, ranks = above(own), above(np.arange(len(order)))
    left = codes[own][:, None] != np.arange(groups + 1)
    number = hits.sum(axis=1, keepdims=True) - hits
    precision = number / np.maximum(ranks.sum(axis=1, keepdims=True) - ranks, 1)
    count = left.sum(axis=0)
    total = (precision * left).sum(axis=0)
    return np.divide(total, count, out=np.full(groups + 1, np.nan), where=count > 0)
