"""What a run said of the clips that it was scored on, from its table of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.run.folder import PREDICTIONS, TEST_PREDICTIONS, RunRecord
from train.run.schema import read_class_columns, read_clips

THRESHOLD = 0.5  # of independent classes, as `train.metrics` has it
SUM_ERROR = 1e-3  # by which probabilities of 6 decimals that exclude each other may miss 1


@dataclass(frozen=True)
class Predictions:
    """Clips, what they are, and what a model says."""

    names: list[str]  # of the clips, as the table has them
    classes: list[str]
    truth: np.ndarray  # (clips, classes) bool
    probabilities: np.ndarray  # (clips, classes) float32
    model: str  # folder of the model in the run: "last", "best"

    @property
    def exclusive(self) -> bool:
        """Whether a clip has exactly one class, so that probabilities sum to one."""
        sums = self.probabilities.sum(axis=1, dtype=float)
        return bool((self.truth.sum(axis=1) == 1).all() and (abs(sums - 1) < SUM_ERROR).all())

    @property
    def likeliest(self) -> np.ndarray:
        """(clips,) index of the class of the highest probability."""
        return self.probabilities.argmax(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """(clips, classes) bool: the likeliest class, or every one above one half."""
        if self.exclusive:
            return self.likeliest[:, None] == np.arange(len(self.classes))
        return self.probabilities > THRESHOLD

    @property
    def correct(self) -> np.ndarray:
        """(clips,) bool: whether the clip has its likeliest class."""
        return self.truth[np.arange(len(self.names)), self.likeliest]


def read_run_predictions(run: RunRecord) -> Predictions:
    """Of a finished run: those on the test split where there is one, else on the validation split.

    Raises:
        FileNotFoundError, ValueError: the table is missing, empty or damaged.
    """
    test = run.folder / TEST_PREDICTIONS
    return read_table(test, "best") if test.is_file() else read_table(run.folder / PREDICTIONS)


def read_table(file: Path, model: str = "last") -> Predictions:
    """The clips of a `predictions.csv`."""
    classes = read_class_columns(file)
    index = {name: number for number, name in enumerate(classes)}
    names, targets, rows = [], [], []
    for name, target, scores in read_clips(file):
        names.append(name)
        rows.append(np.array(scores, dtype=np.float32))
        targets.append(_indices(target, index, file))
    if not rows:
        raise ValueError(f"{file} has no clips: it is damaged, or of a run without any to score")
    truth = np.zeros((len(rows), len(classes)), dtype=bool)
    for row, found in zip(truth, targets, strict=True):
        row[found] = True
    return Predictions(names, classes, truth, np.stack(rows), model)


def _indices(target: str, index: Mapping[str, int], file: Path) -> list[int]:
    """The classes in a cell: one, or several with "|" between, which a name may have in it, too."""
    if target in index:
        return [index[target]]
    words, found = target.split("|") if target else [], []
    while words:
        sizes = range(len(words), 0, -1)
        size = next((size for size in sizes if "|".join(words[:size]) in index), 0)
        if not size:
            raise ValueError(f"{file}: target is {target!r:.60}, which is no class of the table")
        found.append(index["|".join(words[:size])])
        words = words[size:]
    return found


def joined(tables: Sequence[Predictions], folders: Sequence[Path]) -> Predictions:
    """The clips of several runs as one table.

    Raises:
        ValueError: the runs do not have the same classes.
    """
    first = tables[0]
    for table, folder in zip(tables, folders, strict=True):
        if table.classes != first.classes:
            raise ValueError(f"{folder} has other classes than {folders[0]}: they are not folds")
    return Predictions(
        [name for table in tables for name in table.names],
        first.classes,
        np.concatenate([table.truth for table in tables]),
        np.concatenate([table.probabilities for table in tables]),
        first.model,
    )
