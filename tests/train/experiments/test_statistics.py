"""Statistics of a table: intervals that hold what they promise, and what is said of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from train.experiments.jackknife import average_precision_without, changes
from train.experiments.statistics import (
    ALPHA,
    Difference,
    Estimate,
    RunScore,
    Spread,
    difference,
    differences,
    estimate,
    holm,
)


def runs(*scores):
    """Runs whose clips are not known."""
    return [RunScore(score) for score in scores]


def from_groups(means):
    """The run whose groups, all of one size, have these scores."""
    means = np.asarray(means)
    without = (means - means.mean()) / (len(means) - 1)
    return RunScore(means.mean(), {f"group {g}": value for g, value in enumerate(without)})


def test_without_predictions_the_interval_is_students_over_the_runs():
    values = [0.61, 0.64, 0.58, 0.66]
    found = estimate(runs(*values))
    assert found.interval() == pytest.approx(
        stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    )
    assert (found.count, found.mean) == (4, pytest.approx(np.mean(values)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_value_has_no_interval():
    assert estimate(runs(0.5)) == Estimate(1, 0.5)
    assert estimate([]).count == 0
    assert estimate(runs(0.5)).interval() is estimate(runs(0.5)).p is None


def test_the_variance_of_a_mean_is_that_of_the_two_way_layout():
    cells = np.random.default_rng(0).normal(0.7, 0.1, (3, 6))
    deviations = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    of_runs = 6 * cells.mean(axis=1).var(ddof=1)
    of_groups = 3 * cells.mean(axis=0).var(ddof=1)
    residual = (deviations**2).sum() / (2 * 5)
    found = estimate([from_groups(row) for row in cells]).spread
    expected = of_runs + max(of_groups - residual, 0)  # mean squares: Searle, Casella, McCulloch
    assert found.variance == pytest.approx(expected / 18)
    assert (found.runs, found.groups) == (3, 6)
    assert found.interaction == pytest.approx(min(residual / 6, of_runs / 6))


def test_where_the_clips_vary_alone_the_interval_is_students_over_their_groups():
    means = [0.5, 0.6, 0.8, 0.7]
    found = estimate([from_groups(means)] * 3)
    assert found.interval() == pytest.approx(
        stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    )
    assert found.spread.parts == pytest.approx((0, found.spread.variance, 0))


SCORES = {
    "accuracy": lambda targets, logits: targets[np.arange(len(logits)), logits.argmax(1)].mean(),
    "mAP": lambda targets, logits: np.mean(
        [
            average_precision_without(targets[:, c], logits[:, c], np.zeros(len(logits), int), 1)[1]
            for c in range(targets.shape[1])
        ]
    ),
}
COVERED = 0.92  # at least, and at most 0.97, of intervals that are to cover 0.95


@pytest.mark.parametrize(
    "sds", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 3, 1), (0.3, 1, 1)]
)
def test_three_seeds_and_six_speakers_cover_the_truth_as_promised(sds):
    of_seed, of_group, of_both = sds
    generator, tables = np.random.default_rng(1), 2000
    cells = generator.normal(0, of_both, (tables, 3, 6))
    cells += generator.normal(0, of_seed, (tables, 3, 1))
    cells += generator.normal(0, of_group, (tables, 1, 6))
    intervals = [estimate([from_groups(row) for row in table]).interval() for table in cells]
    share = np.mean([low <= 0 <= high for low, high in intervals])
    assert COVERED < share < 0.97


@pytest.mark.parametrize("metric", ["accuracy", "mAP"])
def test_rows_that_score_clips_of_six_speakers_cover_their_true_difference(metric):
    """Speakers differ in which row they suit, which seeds alone do not tell."""
    generator, tables, both, seeds_alone = np.random.default_rng(2), 150, [], []
    targets = np.eye(4, dtype=bool)[np.arange(96) % 4]
    units = [f"speaker {clip // 16}" for clip in range(96)]
    for _ in range(tables):
        speaker = generator.normal(0, 0.8, 6)
        rows = {}
        for sign in (1, -1):
            suits = np.repeat(sign * speaker, 16)[:, None]
            rows[sign] = {}
            for seed in range(3):
                of_seed = generator.normal(0, 0.1)
                logits = generator.normal(0, 1, (96, 4)) + targets * (1.5 + suits + of_seed)
                whole = changes(metric, targets, logits, units)
                score = SCORES[metric](targets, logits)
                rows[sign][1, seed] = RunScore(score, whole)
        found = difference(rows[1], rows[-1]).estimate
        both.append(np.prod(found.interval()) <= 0)
        without = {run: RunScore(each.score) for run, each in rows[1].items()}
        interval = difference(without, rows[-1]).estimate.interval()
        seeds_alone.append(interval is not None and np.prod(interval) <= 0)
    assert 0.91 < np.mean(both) < 0.99
    assert np.mean(seeds_alone) < 0.7


def test_difference_pairs_by_fold_and_seed_not_by_order():
    reference = {(1, 0): 0.5, (1, 1): 0.7, (2, 0): 0.3, (9, 9): 0.0}
    row = {(2, 0): 0.41, (1, 1): 0.79, (1, 0): 0.62}
    row, reference = ({run: RunScore(s) for run, s in of.items()} for of in (row, reference))
    found = difference(row, reference)
    test = stats.ttest_rel([0.62, 0.79, 0.41], [0.5, 0.7, 0.3])
    assert found.estimate.p == pytest.approx(test.pvalue)
    assert found.estimate.interval() == pytest.approx(tuple(test.confidence_interval()))
    assert found.estimate.count == 3
    assert "higher" in found.verdict() and "lower" in difference(reference, row).verdict()


def test_difference_pairs_by_clip():
    hard = np.array([0.1, 0.9, 0.4, 0.6])
    row = {(None, seed): from_groups(hard + 0.05 + seed / 100) for seed in range(3)}
    reference = {(None, seed): from_groups(hard) for seed in range(3)}
    found = difference(row, reference).estimate
    assert found.spread.of_clips == pytest.approx(0)  # the speakers are hard for both
    assert estimate(list(row.values())).spread.of_clips > 0.01


def test_clips_of_other_folds_are_other_clips():
    one, other = from_groups([0.1, 0.9]), from_groups([0.2, 0.8])
    other = RunScore(other.score, {f"another {name}": v for name, v in other.changes.items()})
    assert estimate([one, other]).spread.of_clips == 0
    assert estimate([one, one]).spread.of_clips > 0


def test_holm_by_hand():
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert [p for p, _ in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [alpha for _, alpha in found] == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])
    assert holm([0.02]) == [(0.02, ALPHA)]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=6))
def test_a_corrected_interval_excludes_zero_where_the_corrected_p_is_small(p_values):
    for p, (corrected, alpha) in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= 1
        assert (p < alpha) == (corrected < ALPHA) or corrected == pytest.approx(ALPHA)


def test_several_rows_are_corrected_for_each_other():
    reference = {(1, seed): RunScore(0.5) for seed in range(3)}
    rows = {
        name: {(1, seed): RunScore(0.5 + gain + seed / 100) for seed in range(3)}
        for name, gain in (("far", 0.2), ("near", 0.02))
    }
    rows["equal"] = reference  # has no p, so counts for none
    found = differences(rows, reference)
    assert found["far"].corrected_p == pytest.approx(2 * found["far"].estimate.p)
    assert found["near"].corrected_p == pytest.approx(found["near"].estimate.p)
    low, high = found["far"].estimate.interval()
    wider_low, wider_high = found["far"].corrected_interval
    assert wider_low < low < high < wider_high
    assert found["equal"].corrected_p is None
    alone = differences({"far": rows["far"]}, reference)["far"]
    assert alone.corrected_interval == alone.estimate.interval()


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ([0.6, 0.4, 0.55], "the corrected interval covers zero: no difference was shown; its"),
        ([0.5, 0.5, 0.5], "all 3 differences are zero: no difference was shown"),
        ([0.6, 0.6, 0.6], "all 3 differences are equal, so there is no interval to judge by"),
        ([0.6], "1 pair of runs, too few to tell"),
        ([], "0 pairs of runs, too few to tell"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(row, verdict):
    reference = {(1, seed): RunScore(0.5) for seed in range(3)}
    found = difference({(1, seed): RunScore(score) for seed, score in enumerate(row)}, reference)
    assert found.verdict().startswith(verdict)
    assert (found.estimate.p is None) == (found.estimate.interval() is None)


def test_the_verdict_names_the_larger_chance_and_what_would_decide():
    of_seeds = Difference(Estimate(3, 0.02, 0.02, Spread(3, 6, 4e-4, 1e-6)))
    assert "; its variance is 99 % of the seeds, 1 % of the speakers, 0 % of both" in said(of_seeds)
    number = np.ceil(3 * of_seeds.times_needed(runs=True))
    assert of_seeds.times_needed(clips=True) is None
    assert f"; about {number:.0f} seeds instead of 3 would show one as large" in said(of_seeds)
    of_clips = Difference(Estimate(3, 0.02, 0.001, Spread(3, 6, 1e-6, 4e-4)))
    assert "is 100 % of the speakers, 0 % of the seeds, 0 % of both together" in said(of_clips)
    times = of_clips.times_needed(clips=True)
    assert of_clips.times_needed(runs=True) is None
    assert f"; about {times:.1f} times the speakers would show" in said(of_clips)
    of_both = Difference(Estimate(3, 0.02, 0.03, Spread(3, 6, 9e-4, 3e-4)))
    assert "times both the seeds and the speakers, neither alone, would show" in said(of_both)
    of_each_pair = Difference(Estimate(3, 0.02, 0.02, Spread(3, 6, 4e-4, 1e-6, 3.9e-4)))
    assert "its variance is 97 % of both together, 2 % of the seeds, 1 % of" in said(of_each_pair)
    assert of_each_pair.times_needed(clips=True)  # either lowers it
    tiny = Difference(Estimate(3, 1e-6, 0.02, Spread(3, 6, 4e-4, 4e-4)))
    assert "; 100 times as many would not show one as small as this" in said(tiny)


def said(difference):
    return difference.verdict("seeds", "speakers").replace("%", " %")


def test_the_runs_that_are_said_to_be_needed_show_it_four_times_in_five():
    difference = Difference(Estimate(3, 0.02, 0.02, Spread(3, 0, 4e-4)))
    number = math.ceil(3 * difference.times_needed(runs=True))
    assert 3 < number < 30
    drawn = np.random.default_rng(0).normal(0.02, 0.02, (20_000, number))
    shown = stats.ttest_1samp(drawn, 0, axis=1).pvalue < ALPHA
    assert 0.78 < shown.mean() < 0.87
    fewer = stats.ttest_1samp(drawn[:, :-2], 0, axis=1).pvalue < ALPHA
    assert fewer.mean() < 0.78
