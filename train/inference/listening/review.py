"""What a person's verdicts say: the precision of each class, and the threshold that it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from data.corpora.segments import NO, UNSURE, YES, known_classes, parse_verdict, segment_rows
from data.files import existing_file, inner_parts, missing_files
from train.inference.listening.draw import CHOSEN
from train.inference.listening.segments import TABLE

CONFIDENCE = 0.95
LEAST_OF_EACH = 5  # verdicts for and against, to calibrate with
SMALLEST = 1e-6  # tables round scores to six decimals, and the logit of 1 is infinite


class Estimate(NamedTuple):
    """A value and its interval of `CONFIDENCE`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Segment:
    """A row of the table."""

    label: str
    score: float
    draw: str
    range: str
    detections: int  # in the range
    verdict: str  # as `parse_verdict`


@dataclass(frozen=True)
class ClassReview:
    """What the verdicts on one class say.

    Args:
        label: the class.
        right, wrong, unsure, open: numbers of segments; `wrong` is no or another class.
        precision: None where nothing is judged.
        threshold: from which a detection is right with the wanted probability; None: `why`.
        precision_from: of what lies at the threshold or above, where the draw tells.
        notes: what does not hold, each a sentence.
    """

    label: str
    right: int
    wrong: int
    unsure: int
    open: int
    precision: Estimate | None
    threshold: Estimate | None = None
    precision_from: Estimate | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """All classes, and how their segments were drawn."""

    draw: str
    classes: tuple[ClassReview, ...]

    @property
    def thresholds(self) -> dict[str, float]:
        """Of the classes that have one."""
        return {each.label: each.threshold.value for each in self.classes if each.threshold}


def review(path: str | Path, precision: float | None = None) -> Review:
    """The precision of each class by the verdicts in a table of segments, and its threshold.

    Precision is that of the segments judged yes or no. For a stratified draw it is that of all
    detections in the ranges of scores that have verdicts, each range weighted by how many it holds.
    Its interval is Wilson's, of the effective number of verdicts (Kish) where these have weights.

    The threshold is the score at which a detection is right with the wanted probability, by a
    logistic regression of the verdict on the score's logit (Wood and Kahl 2024, "Guidelines for
    appropriate use of BirdNET scores"); those above are right more often. All draws choose by the
    score alone, so none biases it; what a person chose on the page is no draw. Its interval is
    Fieller's. It is within the judged scores.

    Args:
        path: `segments.csv`, or the folder that holds it.
        precision: wanted, between 0 and 1; None: no thresholds.

    Raises:
        FileNotFoundError: there is no table, or files that it names are missing.
        ValueError: a column is missing, a row is damaged, a verdict unknown, or nothing is judged.
    """
    if precision is not None and not 0 < precision < 1:
        raise ValueError(f"precision {precision:g}: expected one between 0 and 1, both excluded")
    path = Path(path)
    segments = read_segments(path / TABLE if path.is_dir() else path)
    labels = sorted({each.label for each in segments})
    classes = (
        _of_class(label, [each for each in segments if each.label == label], precision)
        for label in labels
    )
    return Review(segments[0].draw, tuple(classes))


def read_segments(path: Path) -> list[Segment]:
    """The rows of a table of segments; errors as in `review`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give what `ast-audio segments` wrote")
    rows = list(segment_rows(path))
    if not rows:
        raise ValueError(f"{path} has no rows: expected one for each segment")
    classes = known_classes(path, [row["label"] for _, row in rows])
    segments = [_segment(row, f"{path}, line {line}", classes) for line, row in rows]
    draws = sorted({each.draw for each in segments})
    if len(draws) > 1:
        raise ValueError(f"{path} mixes the draws {', '.join(draws):.200}; review each by itself")
    names = [row["path"] for _, row in rows]
    outside = [name for name in names if inner_parts(name) is None]
    if outside:
        raise ValueError(f"{path}: {outside[0]!r:.200} leads out of the folder; correct the path")
    missing = [name for name in names if existing_file(str(path.parent), name) is None]
    if missing:
        remedy = "put them back beside the table, or remove their rows"
        raise missing_files(path.parent, path, missing, len(names), remedy)
    if not any(_is_judged(each) for each in segments):
        raise ValueError(f"{path} has no verdict yes, no or a class; fill in the column verdict")
    return segments


def _segment(row: dict[str, str], line: str, classes: frozenset[str]) -> Segment:
    try:
        score, detections = float(row["score"]), int(row["detections"])
    except ValueError:
        score, detections = math.nan, 0
    if not (0 <= score <= 1 and detections >= 1):
        raise ValueError(
            f"{line}: score {row['score']!r:.60} of {row['detections']!r:.60} detections: expected "
            "a number in [0, 1] and at least 1; get the table anew"
        )
    verdict = parse_verdict(row["verdict"], line, classes)
    if verdict not in (NO, UNSURE) and verdict == row["label"].strip():
        verdict = YES
    return Segment(row["label"], score, row["draw"], row["range"], detections, verdict)


def _is_judged(segment: Segment) -> bool:
    return segment.verdict not in ("", UNSURE)


def _of_class(label: str, segments: Sequence[Segment], wanted: float | None) -> ClassReview:
    judged = [each for each in segments if _is_judged(each)]
    right = sum(each.verdict == YES for each in judged)
    unsure = sum(each.verdict == UNSURE for each in segments)
    counts = right, len(judged) - right, unsure, len(segments) - len(judged) - unsure
    weights = _weights(judged)
    notes = _unheard(segments, judged)
    found = ClassReview(label, *counts, _precision(judged, weights), notes=notes)
    if wanted is None or not judged:
        return found
    try:
        threshold, note = _threshold(judged, wanted)
    except _Open as why:
        return ClassReview(label, *counts, found.precision, notes=(*notes, str(why)))
    above = np.array([each.score >= threshold.value for each in judged])
    chosen = [each for each, is_above in zip(judged, above, strict=True) if is_above]
    tells = segments[0].draw not in ("uncertain", CHOSEN)  # few of the high scores; no draw at all
    precision_from = _precision(chosen, weights[above]) if tells else None
    return ClassReview(label, *counts, found.precision, threshold, precision_from, (*notes, *note))


def _weights(judged: Sequence[Segment]) -> np.ndarray:
    """How many detections each verdict stands for: those of its range, shared by its verdicts."""
    if not judged or judged[0].draw != "stratified":
        return np.ones(len(judged))
    count = Counter(each.range for each in judged)
    return np.array([each.detections / count[each.range] for each in judged])


def _unheard(segments: Sequence[Segment], judged: Sequence[Segment]) -> tuple[str, ...]:
    if segments[0].draw != "stratified" or not judged:
        return ()
    sizes = {each.range: each.detections for each in segments}
    heard = {each.range for each in judged}
    return tuple(
        f"nothing judged of {sizes[name]:,} detections with scores {name}: precision is without"
        for name in sorted(sizes.keys() - heard)
    )


def _precision(judged: Sequence[Segment], weights: np.ndarray) -> Estimate | None:
    """Wilson's interval (1927); with weights, of Kish's effective number (1965)."""
    if not judged:
        return None
    right = np.array([each.verdict == YES for each in judged])
    share = float(weights @ right / weights.sum())
    count = float(weights.sum() ** 2 / (weights @ weights))
    z = float(norm.isf((1 - CONFIDENCE) / 2))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / count / 2) ** 2)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


class _Open(Exception):
    """Why there is no threshold."""


def _threshold(judged: Sequence[Segment], wanted: float) -> tuple[Estimate, tuple[str, ...]]:
    """The score at which a detection is right with this probability, and what to say of it."""
    right = np.array([each.verdict == YES for each in judged])
    scores = np.array([each.score for each in judged])
    _require_decidable(scores, right)
    x = logit(np.clip(scores, SMALLEST, 1 - SMALLEST))
    intercept, slope, covariance = fit(x, right)
    target = float(logit(wanted))
    if slope <= 0:
        raise _Open("no threshold: higher scores are not right more often")
    low, high = zero_of_line(intercept - target, slope, covariance)
    value = float(expit((target - intercept) / slope))
    if value > scores.max():
        raise _Open(
            f"no threshold: even at {scores.max():.4f}, the highest score judged, the probability "
            f"is {expit(intercept + slope * x.max()):.0%}"
        )
    interval = float(expit(low)), float(expit(high))
    if value < scores.min():
        lowest = float(scores.min())
        note = f"all scores judged reach {wanted:g}: the threshold is the lowest of them"
        return Estimate(lowest, min(lowest, interval[0]), max(lowest, interval[1])), (note,)
    return Estimate(value, *interval), ()


def _require_decidable(scores: np.ndarray, right: np.ndarray) -> None:
    for count, name in ((right.sum(), "yes"), ((~right).sum(), "no")):
        if count < LEAST_OF_EACH:
            raise _Open(
                f"no threshold: {count} verdicts {name}, expected at least {LEAST_OF_EACH} of each"
            )
    if scores[right].max() <= scores[~right].min():
        raise _Open("no threshold: higher scores are not right more often")
    if scores[~right].max() <= scores[right].min():
        raise _Open(
            f"no threshold: verdicts change at once, between {scores[~right].max():.4f} and "
            f"{scores[right].min():.4f}; judge more segments near there"
        )


def fit(x: np.ndarray, right: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Intercept, slope and their covariance (2, 2) of a logistic regression without penalty."""
    regression = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=1e-10)
    regression.fit(x[:, None], right)
    intercept, slope = float(regression.intercept_[0]), float(regression.coef_[0, 0])
    probability = expit(intercept + slope * x)
    design = np.stack([np.ones_like(x), x])
    return intercept, slope, np.linalg.inv(design * (probability * (1 - probability)) @ design.T)


def zero_of_line(intercept: float, slope: float, covariance: np.ndarray) -> tuple[float, float]:
    """The interval of the x at which intercept + slope x is 0 (Fieller 1954)."""
    z2 = float(norm.isf((1 - CONFIDENCE) / 2)) ** 2
    a = slope**2 - z2 * covariance[1, 1]
    b = intercept * slope - z2 * covariance[0, 1]
    c = intercept**2 - z2 * covariance[0, 0]
    if a <= 0:
        raise _Open(
            "no threshold: too few verdicts to tell that higher scores are right more often"
        )
    root = math.sqrt(max(0.0, b * b - a * c))
    return (-b - root) / a, (-b + root) / a
