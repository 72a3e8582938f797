"""Scores of classes, their intervals and the calibration are those of the literature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from train.report.predictions import Predictions, joined, read_table
from train.report.scores import (
    _area,
    average_precision,
    calibration,
    confusion,
    draw_weights,
    score_classes,
    wilson,
)


def table(truth, probabilities, classes="abcdefgh"):
    truth, probabilities = np.array(truth, dtype=bool), np.array(probabilities, dtype=np.float32)
    names = [f"{n}.wav" for n in range(len(truth))]
    return Predictions(names, list(classes[: truth.shape[1]]), truth, probabilities, "last")


def test_wilsons_interval_is_that_of_newcombe():
    share, low, high = wilson(81, 263)  # Newcombe (1998), table I, method 3
    assert (share, round(low, 4), round(high, 4)) == (81 / 263, 0.2553, 0.3662)
    assert wilson(0, 0) is None


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=30
    ).filter(lambda rows: any(has and weight for has, _, weight in rows))
)
def test_resampled_average_precision_is_scikit_learns_of_clips_that_count_several_times(rows):
    has, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = _area(has[order], ends, weights[order])
    repeated = np.repeat(has, weights), np.repeat(scores, weights)
    assert found == pytest.approx(average_precision_score(*repeated))


def test_the_bootstrap_covers_the_score_and_narrows_with_more_clips():
    rng = np.random.default_rng(1)
    widths = []
    for clips in (40, 1000):
        has = rng.random(clips) < 0.3
        found = average_precision(has, has + rng.normal(0, 1, clips), draw_weights(clips, 2))
        assert 0 <= found.low < found.value < found.high <= 1
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_many_clips_and_classes_have_fewer_resamples():
    assert draw_weights(50, 10).shape == (1000, 50)
    assert (draw_weights(50, 10).sum(axis=1) == 50).all()
    assert draw_weights(5_000, 527).shape == (189, 5_000)
    assert draw_weights(20_000, 527).shape == (100, 20_000)


def test_scores_of_classes():
    probabilities = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.7, 0.2], [0.2, 0.7, 0.1]]
    truth = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    first, second, third = score_classes(table(truth, probabilities))
    assert (first.clips, first.predicted, second.clips, second.predicted) == (2, 1, 2, 3)
    assert (first.precision[0], first.recall[0], second.precision[0]) == (1, 0.5, 2 / 3)
    assert first.average_precision.value == second.average_precision.value == 1
    assert (third.clips, third.precision, third.recall, third.average_precision) == (0, *[None] * 3)
    assert confusion(table(truth, probabilities)).tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_calibration_is_the_mean_distance_of_claim_and_share():
    truth = [[1, 0], [1, 0], [0, 1], [1, 0]]
    probabilities = [[0.95, 0.05], [0.95, 0.05], [0.95, 0.05], [0.65, 0.35]]
    found = calibration(table(truth, probabilities))
    assert [(each.count, each.share.value) for each in found.bins] == [(1, 1), (3, 2 / 3)]
    assert found.error == pytest.approx((3 * (0.95 - 2 / 3) + 0.35) / 4)


def test_independent_classes_count_each_probability():
    found = table([[1, 1, 0], [0, 0, 0]], [[0.9, 0.8, 0.2], [0.6, 0.1, 0.1]])
    assert not found.exclusive
    assert found.predicted.tolist() == [[True, True, False], [True, False, False]]
    assert found.correct.tolist() == [True, False]
    assert sum(each.count for each in calibration(found).bins) == 6


def test_a_probability_of_one_is_in_the_last_bin():
    found = calibration(table([[1, 0]], [[1, 0]]))
    assert [(each.count, each.confidence) for each in found.bins] == [(1, 1.0)]


def test_targets_are_told_apart_from_names_with_bars(tmp_path):
    file = tmp_path / "predictions.csv"
    rows = ["clip,target,a,a|b,c", "1,a|b,0,1,0", "2,a|b|c,0,1,1", "3,c|a,1,0,1", "4,,0,0,0"]
    file.write_text("\n".join([*rows, ""]))
    truth = read_table(file).truth.astype(int).tolist()
    assert truth == [[0, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0]]
    assert read_table(file).names == ["1", "2", "3", "4"]


def test_a_table_without_clips_is_refused(tmp_path):
    (tmp_path / "predictions.csv").write_text("clip,target,a,b\n")
    with pytest.raises(ValueError, match="has no clips"):
        read_table(tmp_path / "predictions.csv")


def test_runs_of_other_classes_are_not_joined(tmp_path):
    one, other = table([[1, 0]], [[1, 0]]), table([[1, 0]], [[1, 0]], "xy")
    assert len(joined([one, one], [tmp_path, tmp_path]).names) == 2
    with pytest.raises(ValueError, match="other classes"):
        joined([one, other], [tmp_path / "fold1", tmp_path / "fold2"])
