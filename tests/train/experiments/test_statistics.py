"""Statistics of a table: intervals against known values, and what is said of them."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from train.experiments.statistics import difference, estimate


def test_interval_is_students():
    values = [0.61, 0.64, 0.58, 0.66]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    expected = (4, np.mean(values), np.std(values, ddof=1), low, high)
    assert astuple(estimate(values)) == pytest.approx(expected)


def test_one_value_has_no_interval():
    assert astuple(estimate([0.5])) == (1, 0.5, None, None, None)
    assert estimate([]).count == 0


def test_difference_pairs_by_fold_and_seed_not_by_order():
    reference = {(1, 0): 0.5, (1, 1): 0.7, (2, 0): 0.3, (9, 9): 0.0}
    row = {(2, 0): 0.41, (1, 1): 0.79, (1, 0): 0.62}
    found = difference(row, reference)
    pairs = ([0.62, 0.79, 0.41], [0.5, 0.7, 0.3])
    test = stats.ttest_rel(*pairs)
    interval = test.confidence_interval()
    assert found.p == pytest.approx(test.pvalue)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((interval.low, interval.high))
    assert found.estimate.mean == pytest.approx(np.mean(pairs[0]) - 0.5)
    assert found.estimate.count == 3
    assert found.verdict == "the interval does not cover zero: higher"
    assert difference(reference, row).verdict == "the interval does not cover zero: lower"


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ([0.6, 0.4, 0.55], "the interval covers zero: no difference was shown"),
        ([0.5, 0.5, 0.5], "all 3 differences are zero: no difference was shown"),
        ([0.6, 0.6, 0.6], "all 3 differences are equal, so there is no interval to judge by"),
        ([0.6], "1 pair of runs, too few to tell"),
        ([], "0 pairs of runs, too few to tell"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(row, verdict):
    reference = {(1, seed): 0.5 for seed in range(3)}
    found = difference({(1, seed): score for seed, score in enumerate(row)}, reference)
    assert found.verdict == verdict
    assert (found.p is None) == (found.estimate.low is None)
