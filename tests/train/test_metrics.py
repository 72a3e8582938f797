"""Scores against scikit-learn called another way, against numbers by hand, and their limits."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from train.metrics import confusion_matrix, evaluate_scores, padded_cmap


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def single_label(seed: int, clips: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=clips - classes)])
    targets = np.eye(classes)[labels]
    return (2 * targets + 2 * rng.normal(size=targets.shape)).astype(np.float32), targets


def multi_label(seed: int, clips: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((clips, classes)) < 0.3).astype(np.int64)
    targets[:2] = [[1] * classes, [0] * classes]
    return 2 * targets - 1 + 2 * rng.normal(size=targets.shape), targets


@pytest.mark.parametrize("seed", range(3))
def test_single_label_scores_equal_scikit_learn_on_class_indices(seed):
    logits, targets = single_label(seed)
    scores = evaluate_scores(logits, targets)
    true, predicted = targets.argmax(1), logits.argmax(1)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )
    area = sklearn_metrics.roc_auc_score(true, probabilities, multi_class="ovr", average="macro")
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "mAP": sklearn_metrics.average_precision_score(targets, probabilities, average="macro"),
        "AUC": area,
        "d_prime": np.sqrt(2) * norm.ppf(area),
        "loss": sklearn_metrics.log_loss(true, probabilities),
    }
    assert scores == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_multi_label_scores_equal_scikit_learn_on_indicator_matrices(seed):
    logits, targets = multi_label(seed)
    scores = evaluate_scores(logits, targets, multi_label=True)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        targets, expit(logits) > 0.5, average="macro", zero_division=0
    )
    area = sklearn_metrics.roc_auc_score(targets, expit(logits), average="macro")
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(targets).double()
    )
    expected = {
        "accuracy": np.mean([targets[i, row.argmax()] for i, row in enumerate(logits)]),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "mAP": sklearn_metrics.average_precision_score(targets, expit(logits), average="macro"),
        "AUC": area,
        "d_prime": np.sqrt(2) * norm.ppf(area),
        "loss": loss.item(),
    }
    assert scores == pytest.approx(expected, rel=1e-6)


def test_scores_worked_out_by_hand():
    # Clips 0 and 1 are right, clip 2 (class 1) is taken for class 0. By log-softmax for class 0 the
    # order is clip 0 (true), 2, 1; for class 1 it is 1 (true), 2 (true), 0.
    logits = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    scores = evaluate_scores(logits, np.array([[1, 0], [0, 1], [0, 1]]))
    assert scores == pytest.approx(
        {
            "accuracy": 2 / 3,
            "precision": (1 / 2 + 1) / 2,
            "recall": (1 + 1 / 2) / 2,
            "f1": 2 / 3,
            "mAP": 1,
            "AUC": 1,
            "d_prime": np.sqrt(2) * norm.ppf(1 - 1e-6),
            "loss": -(np.log(0.9) + np.log(0.8) + np.log(0.4)) / 3,
        }
    )


def test_average_precision_and_area_of_one_wrong_pair_by_hand():
    # Ranked: negative, positive, positive, negative. AP = (1/2 + 2/3) / 2; 2 of 4 pairs in order.
    scores = evaluate_scores(
        np.array([[2.0], [1.0], [0.5], [-1.0]]), np.array([[0], [1], [1], [0]]), multi_label=True
    )
    assert scores["mAP"] == pytest.approx(7 / 12)
    assert scores["AUC"] == pytest.approx(0.5)
    assert scores["d_prime"] == pytest.approx(0, abs=1e-12)
    assert (scores["precision"], scores["recall"]) == pytest.approx((2 / 3, 1))


@pytest.mark.parametrize("several", [False, True])
def test_perfect_logits_score_one_with_a_finite_d_prime(several):
    targets = np.eye(4)[[0, 1, 2, 3, 0]]
    scores = evaluate_scores(40 * targets - 20, targets, several)
    assert [scores[name] for name in ("accuracy", "precision", "recall", "f1", "mAP", "AUC")] == [
        1
    ] * 6
    assert 6.7 < scores["d_prime"] < 6.8
    assert scores["loss"] == pytest.approx(0, abs=1e-6)


def test_random_logits_score_at_chance():
    rng = np.random.default_rng(0)
    targets = np.eye(4)[np.arange(8000) % 4]
    scores = evaluate_scores(rng.normal(size=targets.shape), targets)
    for name in ("accuracy", "precision", "recall", "f1", "mAP"):
        assert scores[name] == pytest.approx(0.25, abs=0.02)
    assert scores["AUC"] == pytest.approx(0.5, abs=0.02)
    assert scores["d_prime"] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("several", [False, True])
def test_a_class_without_clips_does_not_lower_a_perfect_score(several):
    targets = np.eye(4)[[0, 1, 2, 0]]
    scores = evaluate_scores(10 * targets - 5, targets, several)
    assert [scores[name] for name in ("precision", "recall", "f1", "mAP", "AUC")] == [1] * 5


def test_a_class_never_predicted_has_precision_zero():
    scores = evaluate_scores(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1, 0], [0, 1]]))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (
        0.25,
        0.5,
        pytest.approx(1 / 3),
    )


def test_area_is_chance_where_no_class_has_both_kinds_of_clips():
    scores = evaluate_scores(np.array([[3.0, 1.0]]), np.array([[1, 0]]))
    assert (scores["AUC"], scores["d_prime"], scores["mAP"]) == (0.5, 0, 1)


def test_multi_label_accuracy_asks_for_the_top_class_only():
    logits, targets = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([[1, 0, 1], [0, 1, 1]])
    assert evaluate_scores(logits, targets, multi_label=True)["accuracy"] == 0.5


def test_single_label_scores_ignore_an_offset_per_clip():
    logits, targets = single_label(0)
    offset = 100 * np.arange(len(logits))[:, None]
    assert evaluate_scores(logits + offset, targets) == pytest.approx(
        evaluate_scores(logits, targets), rel=1e-4
    )


@pytest.mark.parametrize("several", [False, True])
def test_extreme_logits_keep_their_order_and_a_finite_loss(several):
    targets = np.eye(2)[[0, 1, 1, 0]]
    logits = np.array([[3e4, -3e4], [-3e4, 3e4], [-2e4, 2e4], [1e4, -1e4]])
    scores = evaluate_scores(logits, targets, several)
    assert scores["mAP"] == 1 and scores["loss"] == 0
    assert evaluate_scores(-logits, targets, several)["loss"] >= 1e4


@settings(deadline=None, max_examples=60)
@given(
    clips=st.integers(1, 12),
    classes=st.integers(1, 6),
    several=st.booleans(),
    scale=st.sampled_from([0, 1, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_score_is_a_finite_float_in_its_range(clips, classes, several, scale, seed):
    rng = np.random.default_rng(seed)
    logits = np.float32(scale * rng.normal(size=(clips, classes)))
    targets = np.eye(classes)[rng.integers(classes, size=clips)]
    if several:
        targets = np.maximum(targets, rng.integers(2, size=targets.shape))
    scores = evaluate_scores(logits, targets, several)
    assert all(type(value) is float for value in scores.values())
    json.dumps(scores, allow_nan=False)
    for name in ("accuracy", "precision", "recall", "f1", "mAP", "AUC"):
        assert 0 <= scores[name] <= 1
    assert abs(scores["d_prime"]) < 6.8 and scores["loss"] >= 0


def test_confusion_matrix_counts_targets_in_rows():
    logits = np.eye(3)[[0, 2, 2, 0]]
    matrix = confusion_matrix(logits, np.eye(3)[[0, 0, 2, 0]])
    assert matrix.tolist() == [[2, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_confusion_matrix_agrees_with_the_accuracy():
    logits, targets = single_label(3)
    matrix = confusion_matrix(logits, targets)
    assert matrix.sum(axis=1).tolist() == targets.sum(axis=0).tolist()
    assert np.trace(matrix) / matrix.sum() == evaluate_scores(logits, targets)["accuracy"]


@pytest.mark.parametrize(
    ("logits", "targets", "several", "message"),
    [
        ([[np.nan, 0]], [[1, 0]], False, "NaN or infinite, first at row 0"),
        ([[0, 0], [np.inf, 0]], [[1, 0], [1, 0]], True, "1 of 2 clips .* row 1"),
        ([[0, 0]], [[1, 0], [0, 1]], False, "expected the same shape"),
        ([0, 0], [1, 0], False, "expected the same shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), True, "at least one"),
        ([[0, 0]], [[0.5, 0.5]], True, "other values than 0 and 1"),
        ([[0, 0]], [[np.nan, 1]], True, "other values than 0 and 1"),
        ([[0, 0], [0, 0]], [[1, 0], [1, 1]], False, "row 1 has 2 classes"),
        ([[0, 0]], [[0, 0]], True, "no clip has a class"),
    ],
)
def test_bad_input_is_named(logits, targets, several, message):
    with pytest.raises(ValueError, match=message):
        evaluate_scores(np.array(logits, dtype=float), np.array(targets), several)


def plain_padded_cmap(probabilities, targets, padding):
    """Of each class, the mean over its clips of the precision at the clip's rank."""
    areas = []
    for scores, present in zip(probabilities.T, targets.T, strict=True):
        clips = [(1.0, 1)] * padding + list(zip(scores.tolist(), present.tolist(), strict=True))
        area = sum(
            sum(p for s, p in clips if s >= score) / sum(s >= score for s, _ in clips)
            for score, positive in clips
            if positive
        )
        areas.append(area / sum(positive for _, positive in clips))
    return np.mean(areas)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_padded_cmap_is_that_of_its_definition_and_of_sklearn(clips, classes, padding, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.integers(0, 11, (clips, classes)) / 10  # with ties, also with 1
    targets = (generator.random((clips, classes)) < 0.3).astype(int)
    found = padded_cmap(probabilities, targets, padding)
    assert found == pytest.approx(plain_padded_cmap(probabilities, targets, padding))
    ones = np.ones((padding, classes))
    both = np.concatenate([targets, ones]), np.concatenate([probabilities, ones])
    if classes > 1:
        assert found == pytest.approx(sklearn_metrics.average_precision_score(*both))


def test_padding_lets_a_class_without_clips_count_and_softens_a_missed_one():
    targets = np.array([[1, 0], [0, 0]])
    assert padded_cmap(np.array([[0.9, 0.2], [0.1, 0.3]]), targets) == 1
    missed = padded_cmap(np.array([[0.1, 0.2], [0.9, 0.3]]), targets)
    assert missed == pytest.approx((1 + (5 + 6 / 7) / 6) / 2)


@pytest.mark.parametrize(
    ("probabilities", "targets", "padding", "message"),
    [
        ([[0.5]], [[1, 0]], 5, "expected the same shape"),
        ([[]], [[]], 5, "at least one of each"),
        ([[1.5]], [[1]], 5, "expected probabilities from 0 to 1"),
        ([[math.nan]], [[1]], 5, "expected probabilities from 0 to 1"),
        ([[0.5]], [[0.5]], 5, "targets that are 0 or 1"),
        ([[0.5]], [[1]], 0, "padding 0: expected at least one"),
    ],
)
def test_padded_cmap_refuses_what_it_is_not_of(probabilities, targets, padding, message):
    with pytest.raises(ValueError, match=message):
        padded_cmap(np.array(probabilities), np.array(targets), padding)
