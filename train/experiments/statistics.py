"""Scores of a table's rows over runs and clips, and whether rows differ from a reference.

A mean score is uncertain for two reasons: other seeds would train other models, and other clips
would score them otherwise. With R runs whose scores have the variance s^2, and C the mean
covariance of two runs' scores over the clips that might have been drawn,

    Var(mean) = s^2 / R + C

(Obuchowski and Rockette 1995, for readers and cases; here runs and clips). C is estimated by the
jackknife over groups of clips, and the degrees of freedom of Student's t after Satterthwaite 1946,
from R - 1 of s^2 and G - 1 of the G groups' C. Several comparisons are corrected after Holm 1979,
their intervals after Serlin 1993: one excludes zero where the corrected p is below 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev

import numpy as np
from scipy.stats import t

ALPHA = 0.05  # of intervals and tests
POWER = 0.8  # of the numbers of runs and clips that would show a difference
MIN_SD = 1e-12  # below it, scores are equal but for rounding
MOST_TIMES = 100  # as many runs or clips as there are: more are no advice
STEP = 1.05  # from one number of runs or clips that is tried to the next

Run = tuple[int | None, int]  # fold, seed


@dataclass(frozen=True)
class RunScore:
    """A run's score, and what each group of its clips adds to it."""

    score: float
    changes: Mapping[str, float] = field(default_factory=dict)
    """Of each group: the score, less that without the group's clips. Empty: not known."""


Scores = Mapping[Run, RunScore]


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over runs, by where it comes from."""

    runs: float
    groups: float  # of clips; 0: what the clips add is not known
    between_runs: float  # s^2
    of_clips: float = 0.0  # C
    interaction: float = 0.0  # part of s^2 that is the chance of the clips in one run alone

    @property
    def variance(self) -> float:
        return self.between_runs / self.runs + self.of_clips

    @property
    def parts(self) -> tuple[float, float, float]:
        """The variance: what more runs alone would lower, more clips alone, and either of them."""
        both = self.interaction / self.runs
        return self.between_runs / self.runs - both, self.of_clips, both

    @property
    def degrees(self) -> float:
        """Degrees of freedom of Student's t."""
        parts = (self.between_runs / self.runs) ** 2 / (self.runs - 1)
        if self.groups:
            parts += self.of_clips**2 / (self.groups - 1)
        return self.variance**2 / parts

    def times(self, runs: float = 1.0, clips: float = 1.0) -> Spread:
        """What it would be with so many times the runs, or the clips in as many more groups."""
        fewer = self.interaction * (1 - 1 / clips)
        return Spread(
            self.runs * runs,
            self.groups * clips,
            self.between_runs - fewer,
            self.of_clips / clips,
            self.interaction / clips,
        )

    def shows(self, difference: float, alpha: float) -> bool:
        """Whether a difference is shown in `POWER` of such experiments."""
        quantiles = t.ppf([1 - alpha / 2, POWER], self.degrees)
        return abs(difference) >= quantiles.sum() * math.sqrt(self.variance)


@dataclass(frozen=True)
class Estimate:
    """Mean of some runs' scores, or of differences of two rows' scores."""

    count: int  # runs
    mean: float
    sd: float | None = None  # of the sample (n - 1); None, as the spread, of a single run
    spread: Spread | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is an interval: of two runs or more that are not all the same."""
        return self.spread is not None and self.spread.variance > MIN_SD**2

    def interval(self, alpha: float = ALPHA) -> tuple[float, float] | None:
        """The 1 - alpha interval; None where `is_known` is false."""
        if not self.is_known:
            return None
        half = t.ppf(1 - alpha / 2, self.spread.degrees) * math.sqrt(self.spread.variance)
        return self.mean - float(half), self.mean + float(half)

    @property
    def p(self) -> float | None:
        """Of the t test that the mean is zero, two-sided; None where `is_known` is false."""
        if not self.is_known:
            return None
        return float(
            2 * t.sf(abs(self.mean) / math.sqrt(self.spread.variance), self.spread.degrees)
        )


def estimate(runs: Sequence[RunScore]) -> Estimate:
    """Mean, standard deviation, and where the mean's variance comes from."""
    values = [run.score for run in runs]
    if not values:
        return Estimate(0, math.nan)
    if len(values) == 1:
        return Estimate(1, values[0])
    sd = stdev(values)
    spread = Spread(len(runs), 0, sd**2)
    if all(run.changes for run in runs):
        own, shared, groups = _over_clips([run.changes for run in runs])
        interaction = min(max(own - shared, 0.0), sd**2)
        spread = replace(spread, groups=groups, of_clips=max(shared, 0.0), interaction=interaction)
    return Estimate(len(runs), mean(values), sd, spread)


def _over_clips(changes: Sequence[Mapping[str, float]]) -> tuple[float, float, int]:
    """Mean variance of a run's score and covariance of two over the clips; the groups of those."""
    names = sorted(set().union(*changes))
    matrix = np.array([[of_run.get(name, 0.0) for name in names] for of_run in changes])
    matrix -= matrix.mean(axis=1, keepdims=True)
    covariance = matrix @ matrix.T * (len(names) - 1) / len(names)
    runs, own = len(changes), float(np.trace(covariance))
    return own / runs, (float(covariance.sum()) - own) / (runs * (runs - 1)), len(names)


@dataclass(frozen=True)
class Difference:
    """Row minus reference, over the (fold, seed) pairs that both were trained with."""

    estimate: Estimate
    alpha: float = ALPHA  # of the corrected interval
    corrected_p: float | None = None

    @property
    def corrected_interval(self) -> tuple[float, float] | None:
        return self.estimate.interval(self.alpha)

    def verdict(self, runs: str = "seeds", clips: str = "clips") -> str:
        """What the corrected interval says, in words.

        Args:
            runs, clips: what the runs differ in, and what is left out in turn.
        """
        found, interval = self.estimate, self.corrected_interval
        count = found.count
        if count < 2:
            return f"{count} pair{'' if count else 's'} of runs, too few to tell"
        if interval is None and abs(found.mean) < MIN_SD:
            return f"all {count} differences are zero: no difference was shown"
        if interval is None:
            return f"all {count} differences are equal, so there is no interval to judge by"
        low, high = interval
        sources = _sources(found.spread, runs, clips)
        if low <= 0 <= high:
            return (
                f"the corrected interval covers zero: no difference was shown; {sources}"
                f"{self._more(runs, clips)}"
            )
        return (
            f"the corrected interval does not cover zero: {'higher' if low > 0 else 'lower'}; "
            f"{sources}"
        )

    def times_needed(self, runs: bool = False, clips: bool = False) -> float | None:
        """How many times the runs, the clips or both would show a difference as large as this.

        In `POWER` of such experiments, to a twentieth; None where `MOST_TIMES` would not.
        """
        steps = range(1, 1 + math.ceil(math.log(MOST_TIMES) / math.log(STEP)))
        for times in (STEP**step for step in steps):
            more = self.estimate.spread.times(times if runs else 1.0, times if clips else 1.0)
            if more.shows(self.estimate.mean, self.alpha):
                return times
        return None

    def _more(self, runs: str, clips: str) -> str:
        more_runs, has_clips = self.times_needed(runs=True), self.estimate.spread.groups
        more_clips = self.times_needed(clips=True) if has_clips else None
        ways = []
        if more_runs:
            number = math.ceil(more_runs * self.estimate.count)
            ways.append(f"{number} {runs} instead of {self.estimate.count}")
        if more_clips:
            ways.append(f"{more_clips:.1f} times the {clips}")
        if not ways and has_clips and (both := self.times_needed(runs=True, clips=True)):
            ways.append(f"{both:.1f} times both the {runs} and the {clips}, neither alone,")
        if not ways:
            return f"; {MOST_TIMES} times as many would not show one as small as this"
        return f"; about {' or '.join(ways)} would show one as large as this in 4 of 5 tables"


def _sources(spread: Spread, runs: str, clips: str) -> str:
    """Which chance the variance is of, the larger one first."""
    if not spread.groups:
        return f"its variance is of the {runs} alone, as that of the {clips} is not known"
    named = zip(spread.parts, (f"the {runs}", f"the {clips}", "both together"), strict=True)
    shares = [f"{part / spread.variance:.0%} of {of}" for part, of in sorted(named, reverse=True)]
    return f"its variance is {', '.join(shares)}"


def differences(rows: Mapping[str, Scores], reference: Scores) -> dict[str, Difference]:
    """Each row against the reference, paired by fold, seed and clip, and corrected after Holm."""
    found = {name: difference(row, reference) for name, row in rows.items()}
    judged = [name for name, each in found.items() if each.estimate.is_known]
    corrected = holm([found[name].estimate.p for name in judged])
    for name, (p, alpha) in zip(judged, corrected, strict=True):
        found[name] = replace(found[name], alpha=alpha, corrected_p=p)
    return found


def difference(row: Scores, reference: Scores) -> Difference:
    """A row against the reference, paired by fold, seed and clip; one comparison alone."""
    found = estimate([_minus(row[run], reference[run]) for run in row if run in reference])
    return Difference(found, corrected_p=found.p)


def _minus(one: RunScore, other: RunScore) -> RunScore:
    changes = {}
    if one.changes and other.changes:
        names = one.changes.keys() | other.changes.keys()
        changes = {n: one.changes.get(n, 0.0) - other.changes.get(n, 0.0) for n in names}
    return RunScore(one.score - other.score, changes)


def holm(p_values: Iterable[float]) -> list[tuple[float, float]]:
    """The corrected p of each of several tests, and the alpha that its interval is to have."""
    p = list(p_values)
    corrected: list[tuple[float, float]] = [(1.0, ALPHA)] * len(p)
    highest, tests, rejecting = 0.0, len(p), True
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        left = len(p) - rank
        tests = left if rejecting else tests
        highest = max(highest, min(left * p[index], 1.0))
        corrected[index] = highest, ALPHA / tests
        rejecting = rejecting and p[index] < ALPHA / tests
    return corrected
