"""Which of what a model hears is a detection: thresholds, classes, neighbours joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ast_model.timeline import Timeline
from data.files import csv_records

DETECTION = np.dtype([("start", "<f8"), ("end", "<f8"), ("class", "<i4"), ("probability", "<f4")])
"""Seconds of the recording, a number among `Choice.classes`, the highest of joined windows."""

SHOWN = 5  # classes of a model that a message lists


@dataclass(frozen=True)
class Choice:
    """What is chosen of a timeline; `choose` checks it.

    Args:
        classes: that are kept, in the model's order.
        thresholds: least probability of each of them; None: the `top_k` likeliest of each window.
        top_k: how many.
        merge_gap: windows of one class that lie up to so many seconds apart are one detection;
            None: each window is a detection of its own.
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None
    top_k: int = 5
    merge_gap: float | None = None

    def kept(self, timeline: Timeline) -> Timeline:
        """The timeline of the classes that are kept."""
        if timeline.classes == self.classes:
            return timeline
        columns = [timeline.classes.index(name) for name in self.classes]
        probabilities = timeline.probabilities[:, columns]
        return Timeline(
            timeline.starts, timeline.ends, probabilities, self.classes, timeline.multi_label
        )

    def detections(self, timeline: Timeline) -> np.ndarray:
        """The detections of a recording, (detections,) of `DETECTION`, in the order of time."""
        timeline = self.kept(timeline)
        if self.merge_gap is not None:
            numbers = {name: number for number, name in enumerate(self.classes)}
            segments = timeline.segments(self.thresholds, self.merge_gap)
            rows = [(start, end, numbers[name], score) for start, end, name, score in segments]
            return np.array(rows, DETECTION)
        probabilities = timeline.probabilities
        if self.thresholds is None:
            best = probabilities.topk(min(self.top_k, len(self.classes)), dim=1).indices
            rows, columns = torch.arange(len(best)).repeat_interleave(best.shape[1]), best.flatten()
        else:
            rows, columns = (probabilities >= torch.tensor(self.thresholds)).nonzero(as_tuple=True)
        found = np.empty(len(rows), DETECTION)
        found["start"], found["end"] = timeline.starts[rows], timeline.ends[rows]
        found["class"], found["probability"] = columns, probabilities[rows, columns]
        return found


def choose(
    known: Sequence[str],
    threshold: float | Mapping[str, float] | None = None,
    classes: Sequence[str] | None = None,
    top_k: int = 5,
    merge_gap: float | None = None,
) -> Choice:
    """The choice that these arguments make of a model's classes.

    Args:
        known: the classes of the model.
        threshold: least probability, of all classes or by class; None: the `top_k` likeliest.
        classes: those that are kept; None: all.
        top_k: how many classes a window.
        merge_gap: as `Choice`.

    Raises:
        ValueError: a class is unknown to the model or has no threshold, or a number is out of
            range.
    """
    for name in (*(classes or ()), *(threshold if isinstance(threshold, Mapping) else ())):
        if name not in known:
            listed = ", ".join(known[:SHOWN]) + (", …" if len(known) > SHOWN else "")
            raise ValueError(
                f"the model has no class {name!r:.200}; it has {len(known)}: {listed:.400}"
            )
    kept = tuple(name for name in known if classes is None or name in classes)
    if not kept:
        raise ValueError("no class is kept; name at least one, or leave the list out for all")
    if merge_gap is not None and not 0 <= merge_gap < math.inf:
        raise ValueError(f"merge gap {merge_gap} is not a length of time; use 0 or more seconds")
    if merge_gap is not None and threshold is None:
        raise ValueError("windows are merged where a class reaches a threshold; give one as well")
    if isinstance(threshold, Mapping):
        lacking = [name for name in kept if name not in threshold]
        if lacking:
            raise ValueError(
                f"{len(lacking)} of {len(kept)} classes have no threshold, the first is "
                f"{lacking[0]!r:.200}; add them, or keep the others alone"
            )
        thresholds = tuple(threshold[name] for name in kept)
    else:
        thresholds = None if threshold is None else (threshold,) * len(kept)
    for each in thresholds or ():
        if not 0 <= each <= 1:
            raise ValueError(f"threshold {each} is not a probability in [0, 1]")
    return Choice(kept, thresholds, top_k, merge_gap)


def read_thresholds(path: Path) -> dict[str, float]:
    """The thresholds in a CSV file with the columns class and threshold.

    Raises:
        FileNotFoundError, ValueError: there is no such file, a column is missing, a class occurs
            twice, or a threshold is no number in [0, 1].
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; give a probability, or a CSV file with the columns class and "
            "threshold"
        )
    thresholds: dict[str, float] = {}
    for line, row in csv_records(path, ("class", "threshold")):
        name, where = row["class"], f"{path}, line {line}"
        try:
            value = float(row["threshold"])
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError(
                f"{where}: threshold {row['threshold']!r:.60} is not a probability in [0, 1]"
            )
        if name in thresholds:
            raise ValueError(f"{where}: class {name!r:.200} has a threshold already; keep one")
        thresholds[name] = value
    if not thresholds:
        raise ValueError(f"{path} holds no thresholds; give a row for each class")
    return thresholds
