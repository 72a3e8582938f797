"""Scores of a table's rows over folds and seeds, and whether two rows differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from scipy.stats import t, ttest_rel

Scores = Mapping[tuple[int | None, int], float]  # (fold, seed) -> score
CONFIDENCE = 0.95
MIN_SD = 1e-12  # below it, scores are equal but for rounding


@dataclass(frozen=True)
class Estimate:
    """Mean of some values and its `CONFIDENCE` interval."""

    count: int
    mean: float
    sd: float | None = None  # of the sample (n - 1); None, as the interval, for a single value
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Row minus reference, over the (fold, seed) pairs that both were trained with."""

    estimate: Estimate
    p: float | None  # paired t test; None where the differences do not vary, or of one pair

    @property
    def verdict(self) -> str:
        """What the interval says, in words."""
        count, low, high = self.estimate.count, self.estimate.low, self.estimate.high
        if count < 2:
            return f"{count} pair{'' if count else 's'} of runs, too few to tell"
        if self.p is None and abs(self.estimate.mean) < MIN_SD:
            return f"all {count} differences are zero: no difference was shown"
        if self.p is None:
            return f"all {count} differences are equal, so there is no interval to judge by"
        if low <= 0 <= high:
            return "the interval covers zero: no difference was shown"
        return f"the interval does not cover zero: {'higher' if low > 0 else 'lower'}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation, and the interval of Student's t distribution."""
    if not values:
        return Estimate(0, math.nan)
    if len(values) == 1:
        return Estimate(1, values[0])
    middle, sd = mean(values), stdev(values)
    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    return Estimate(len(values), middle, sd, middle - half, middle + half)


def difference(row: Scores, reference: Scores) -> Difference:
    """A row against the reference, paired by fold and seed."""
    pairs = [pair for pair in row if pair in reference]
    mean_difference = estimate([row[pair] - reference[pair] for pair in pairs])
    if mean_difference.count < 2 or mean_difference.sd < MIN_SD:
        return Difference(replace(mean_difference, low=None, high=None), None)
    test = ttest_rel([row[pair] for pair in pairs], [reference[pair] for pair in pairs])
    return Difference(mean_difference, float(test.pvalue))
