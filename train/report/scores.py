"""Scores of single classes with their intervals, confusions, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from train.report.predictions import Predictions

LEVEL = 0.95  # of all intervals
RESAMPLES = 1000  # of the bootstrap, of few clips
FEWEST_RESAMPLES = 100
MOST_DRAWN = 500_000_000  # clips of all classes in all resamples
FEW_CLASSES = 40  # fewer leave the resamples no longer, which are held in memory
BINS = 10  # of the reliability diagram, of equal width


class Interval(NamedTuple):
    """A score and its 95 % interval, 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """How well a class is found; None where no clip says."""

    name: str
    clips: int  # that have it
    predicted: int  # clips that the model gives it
    precision: Interval | None
    recall: Interval | None
    average_precision: Interval | None


def score_classes(predictions: Predictions) -> list[ClassScores]:
    """The scores of each class, in the order of the classes.

    Precision and recall have Wilson's interval, the average precision that of a bootstrap over the
    clips. All take the clips as independent.
    """
    predicted, truth = predictions.predicted, predictions.truth
    weights = draw_weights(len(truth), truth.shape[1])
    found = []
    for index, name in enumerate(predictions.classes):
        has, said = truth[:, index], predicted[:, index]
        hits, clips, given = int((has & said).sum()), int(has.sum()), int(said.sum())
        area = None
        if clips:
            area = average_precision(has, predictions.probabilities[:, index], weights)
        found.append(
            ClassScores(name, clips, given, wilson(hits, given), wilson(hits, clips), area)
        )
    return found


def wilson(hits: int, count: int) -> Interval | None:
    """A share and Wilson's score interval; None of nothing."""
    if not count:
        return None
    low, high = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return Interval(hits / count, float(low), float(high))


def draw_weights(clips: int, classes: int) -> np.ndarray:
    """How often each clip is drawn in each resample of a bootstrap, (resamples, clips)."""
    most = MOST_DRAWN // (clips * max(classes, FEW_CLASSES))
    count = int(np.clip(most, FEWEST_RESAMPLES, RESAMPLES))
    uniform = np.full(clips, 1 / clips)
    return np.random.default_rng(0).multinomial(clips, uniform, size=count).astype(np.float32)


def average_precision(has: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Interval:
    """The average precision of a class, as scikit-learn's, and the bootstrap's percentiles.

    Args:
        has: (clips,) bool, some of them true.
        scores: (clips,).
        weights: as `draw_weights` gives them; resamples without a clip of the class do not count.
    """
    order = np.argsort(-scores, kind="stable")
    has, scores = has[order], scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of clips of equal score
    resampled = np.array([_area(has, ends, row) for row in weights[:, order]])
    resampled = resampled[np.isfinite(resampled)]
    value = _area(has, ends, np.ones(len(has)))
    if not len(resampled):
        return Interval(value, 0.0, 1.0)
    tail = (1 - LEVEL) / 2
    return Interval(value, *(float(v) for v in np.quantile(resampled, (tail, 1 - tail))))


def _area(has: np.ndarray, ends: np.ndarray, weights: np.ndarray) -> float:
    """Mean precision at each step of recall, of sorted clips that count several times."""
    hits, given = np.cumsum(weights * has)[ends], np.cumsum(weights)[ends]
    if not hits[-1]:
        return np.nan
    precision = hits / np.maximum(given, 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])


def confusion(predictions: Predictions) -> np.ndarray:
    """Clips by true class (row) and likeliest class, (classes, classes), where they exclude each
    other."""
    matrix = np.zeros((len(predictions.classes),) * 2, dtype=int)
    np.add.at(matrix, (predictions.truth.argmax(axis=1), predictions.likeliest), 1)
    return matrix


class Bin(NamedTuple):
    """Predictions of about one probability."""

    count: int
    confidence: float  # mean probability
    share: Interval  # of them that are right


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities are what they claim to be."""

    bins: list[Bin]  # those that are not empty
    error: float  # expected calibration error, 0 to 1


def calibration(predictions: Predictions) -> Calibration:
    """Of the likeliest class of each clip; of independent classes, of every class of each clip.

    The expected calibration error is that of Guo et al. (2017) over 10 bins of equal width: the
    mean distance of share and probability, by the number of predictions in a bin.
    """
    if predictions.exclusive:
        claimed, right = predictions.probabilities.max(axis=1), predictions.correct
    else:
        claimed, right = predictions.probabilities.ravel(), predictions.truth.ravel()
    numbers = np.minimum((claimed * BINS).astype(int), BINS - 1)
    counts = np.bincount(numbers, minlength=BINS)
    confidences = np.bincount(numbers, claimed.astype(float), BINS) / np.maximum(counts, 1)
    hits = np.bincount(numbers, right, BINS).astype(int)
    bins = [
        Bin(int(counts[n]), float(confidences[n]), wilson(int(hits[n]), int(counts[n])))
        for n in np.flatnonzero(counts)
    ]
    gaps = [each.count * abs(each.share.value - each.confidence) for each in bins]
    return Calibration(bins, sum(gaps) / len(claimed))
