"""Scores of a whole evaluation set, from logits and 0/1 targets of shape (clips, classes)."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn import metrics
from torch import Tensor

from data import Clip

# An AUC of 1 has an infinite d-prime, which can be neither averaged nor written to JSON.
# At this distance from 0 and 1, d-prime stays within 6.72 on either side.
AUC_MARGIN = 1e-6


def evaluate_scores(
    logits: np.ndarray,
    targets: np.ndarray,
    multi_label: bool = False,
    sigmoid: bool | None = None,
) -> dict[str, float]:
    """Score the logits of every clip against its targets; all values are finite.

    logits: (clips, classes), float, before softmax or sigmoid. targets: (clips, classes), 0 or 1;
    exactly one 1 in a row unless `multi_label`. sigmoid: whether the model was trained with binary
    cross-entropy, which single-label models may be; None: as `multi_label`.

    - accuracy: share of clips whose highest logit is at a class they have.
    - precision, recall, f1: macro mean over the classes that occur in the targets; 0 for a class
      that is never predicted. Predicted is the highest class or, if `multi_label`, every class
      with a probability above 0.5.
    - mAP: mean of the average precision over the classes that occur in the targets.
    - AUC: mean area under the ROC over the classes with both positive and negative clips; 0.5,
      chance, where there is no such class.
    - d_prime: sqrt(2) * norm.ppf(AUC) (AudioSet paper), AUC clipped to [1e-6, 1 - 1e-6].
    - loss: mean cross-entropy in nats, or if `sigmoid` mean binary cross-entropy.

    mAP and AUC rank the clips by logit if `sigmoid`, else by log-softmax, since a softmax
    model leaves an offset per clip undetermined (the authors' code ranks by logit in both cases).

    ValueError: shapes that differ or hold nothing, logits that are NaN or infinite, targets other
    than those described or without a single positive.
    """
    logits, targets = _checked(logits, targets, multi_label)
    sigmoid = multi_label if sigmoid is None else sigmoid
    scores = logits if sigmoid else log_softmax(logits, axis=1)
    top = logits.argmax(axis=1)
    predictions = logits > 0 if multi_label else top[:, None] == np.arange(logits.shape[1])
    # binary cross-entropy: softplus(x) - x * t
    losses = np.logaddexp(0, logits) - logits * targets if sigmoid else -scores[targets]
    area = _area_under_roc(scores, targets)
    return {
        "accuracy": float(targets[np.arange(len(top)), top].mean()),
        **_precision_recall_f1(predictions, targets),
        "mAP": _mean_average_precision(scores, targets),
        "AUC": area,
        "d_prime": float(np.sqrt(2) * norm.ppf(np.clip(area, AUC_MARGIN, 1 - AUC_MARGIN))),
        "loss": float(losses.mean()),
    }


def confusion_matrix(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Count clips by target class (row) and highest logit (column): (classes, classes), integer.

    Single-label targets only; ValueError as in `evaluate_scores`.
    """
    logits, targets = _checked(logits, targets, multi_label=False)
    classes = np.arange(logits.shape[1])
    return metrics.confusion_matrix(targets.argmax(axis=1), logits.argmax(axis=1), labels=classes)


def padded_cmap(probabilities: np.ndarray, targets: np.ndarray, padding: int = 5) -> float:
    """Class-wise mean average precision of BirdCLEF (2023), padded for rare classes.

    Every class gets `padding` more clips that have it, with probability 1, so that one with few or
    no clips counts without deciding; the mean is over all classes. Equal to scikit-learn's
    `average_precision_score` (macro) of the padded arrays.

    probabilities: (clips, classes), in [0, 1]. targets: (clips, classes), 0 or 1.

    ValueError: shapes that differ or hold nothing, a probability out of range, other targets, or
    no padding.
    """
    probabilities, targets = np.asarray(probabilities, np.float64), np.asarray(targets)
    if probabilities.ndim != 2 or probabilities.shape != targets.shape or not targets.size:
        raise ValueError(
            f"probabilities {probabilities.shape} and targets {targets.shape}: expected the same "
            "shape (clips, classes), at least one of each"
        )
    if (
        not ((probabilities >= 0) & (probabilities <= 1)).all()
        or not np.isin(targets, (0, 1)).all()
    ):
        raise ValueError("expected probabilities from 0 to 1, and targets that are 0 or 1")
    if padding < 1:
        raise ValueError(f"padding {padding}: expected at least one clip a class")
    ones = np.ones((padding, targets.shape[1]))
    scores, present = np.concatenate([probabilities, ones]), np.concatenate([targets, ones])
    return _mean_average_precision(scores, present.astype(bool))


def _precision_recall_f1(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    # Counted here: scikit-learn takes a single column for a binary problem and averages over 0 / 1.
    occurs = targets.any(axis=0)
    hits = (predictions & targets).sum(axis=0)[occurs]
    predicted = predictions.sum(axis=0)[occurs]
    actual = targets.sum(axis=0)[occurs]
    return {
        "precision": float(np.mean(hits / np.maximum(predicted, 1))),
        "recall": float(np.mean(hits / actual)),
        "f1": float(np.mean(2 * hits / (predicted + actual))),
    }


def _mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    occurring = np.flatnonzero(targets.any(axis=0))
    return float(
        np.mean([metrics.average_precision_score(targets[:, c], scores[:, c]) for c in occurring])
    )


def _area_under_roc(scores: np.ndarray, targets: np.ndarray) -> float:
    separable = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    areas = [metrics.roc_auc_score(targets[:, c], scores[:, c]) for c in separable]
    return float(np.mean(areas)) if areas else 0.5


def _checked(
    logits: np.ndarray, targets: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits as float64 and targets as bool, or raise ValueError."""
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    if logits.ndim != 2 or logits.shape != targets.shape or not logits.size:
        raise ValueError(
            f"logits {logits.shape} and targets {targets.shape}: "
            "expected the same shape (clips, classes), at least one of each"
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(
            f"logits of {len(broken)} of {len(logits)} clips are NaN or infinite, first at row "
            f"{broken[0]}: the model has diverged or its input is broken; try a lower learning rate"
        )
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("targets hold other values than 0 and 1: give labels before any mixing")
    positives = targets.sum(axis=1)
    if not multi_label and (positives != 1).any():
        row = np.flatnonzero(positives != 1)[0]
        raise ValueError(
            f"clip in row {row} has {positives[row]:g} classes: expected one; "
            "score clips with several or no classes with multi_label=True"
        )
    if not positives.any():
        raise ValueError("no clip has a class, so there is nothing to score: check the labels")
    return logits, targets.astype(bool)


def to_probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """Of independent classes, or of classes that sum to one."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def one_hot(clips: Sequence[Clip], num_classes: int) -> np.ndarray:
    """Targets (clips, classes), 0 or 1."""
    targets = np.zeros((len(clips), num_classes), dtype=np.float32)
    for row, clip in zip(targets, clips, strict=True):
        row[list(clip.targets)] = 1
    return targets
