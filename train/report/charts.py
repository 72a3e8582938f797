"""Charts as what an inline SVG draws, in the colours of the page, also in dark mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import MaxNLocator

from train.report.scores import Calibration
from train.run.plots import LEAST_SPAN, Rows

WIDTH, HEIGHT = 360, 250  # of a chart, in units of which the text has 11
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 38  # margins
MANY_EPOCHS = 40  # from here on a line has no dots


class Axis:
    """From values to places on the chart.

    Args:
        low, high: what is to be seen.
        start, end: where they lie.
        label: what is on the axis, with its unit.
    """

    def __init__(
        self, low: float, high: float, start: float, end: float, label: str, whole: bool = False
    ) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self.start, self.end, self.label = start, end, label
        steps = MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole).tick_values(self.low, self.high)
        inside = [float(tick) for tick in steps if self.low <= tick <= self.high + 1e-9]
        self.ticks = [(self.at(tick), f"{tick:g}") for tick in inside]

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass
class Chart:
    """Lines, dots and bars between two axes, in the units of the SVG."""

    alt: str  # what is to be seen, for those who do not see it
    x: Axis
    y: Axis
    lines: list[tuple[str, str]] = field(default_factory=list)  # class of its style, points
    dots: list[tuple[str, float, float]] = field(default_factory=list)  # style, x, y
    bars: list[tuple[float, float, float]] = field(default_factory=list)  # x, from y, to y
    legend: list[tuple[str, str]] = field(default_factory=list)  # style, name

    def add_line(self, style: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        places = [(self.x.at(x), self.y.at(y)) for x, y in zip(xs, ys, strict=True)]
        self.lines.append((style, " ".join(f"{x},{y}" for x, y in places)))
        if "fold" not in style and len(places) < MANY_EPOCHS:
            self.dots += [(style, x, y) for x, y in places]


def _axes(
    xs: tuple[float, float, str], ys: tuple[float, float, str], whole: bool = False
) -> tuple[Axis, Axis]:
    x = Axis(xs[0], xs[1], LEFT, WIDTH - RIGHT, xs[2], whole)
    return x, Axis(ys[0], ys[1], HEIGHT - BOTTOM, TOP, ys[2])


def loss_chart(runs: Mapping[str, Rows], split: str) -> Chart:
    """Training and validation loss by epoch; of several runs thin, their means thick."""
    columns = {"train_loss": ("training", "training"), "loss": ("validation", split)}
    top = max(row[name] for rows in runs.values() for row in rows for name in columns)
    chart = _epoch_chart(runs, 0, 1.05 * top, "loss (nats)")
    ends = [_draw(chart, runs, column, style, name) for column, (style, name) in columns.items()]
    chart.alt = f"Loss by epoch. {' '.join(ends)}"
    return chart


def score_chart(runs: Mapping[str, Rows], metric: str, split: str, chance: float | None) -> Chart:
    """The metric on what is validated by epoch, and what chance scores."""
    values = [100 * row[metric] for rows in runs.values() for row in rows]
    values += [] if chance is None else [100 * chance]
    low, high = min(values), max(values)
    more = max(LEAST_SPAN - (high - low), 0.1 * (high - low)) / 2
    low, high = max(low - more, 0), min(high + more, 100)
    chart = _epoch_chart(runs, low, high, f"{metric} (%)")
    end = _draw(chart, runs, metric, "validation", split, 100, " %")
    chart.alt = f"{metric} by epoch. {end}"
    if chance is not None:
        chart.lines.append(("chance", _across(chart, 100 * chance)))
        chart.legend.append(("chance", "chance"))
        chart.alt += f" Chance: {100 * chance:.1f} %."
    return chart


def _across(chart: Chart, value: float) -> str:
    y = chart.y.at(value)
    return f"{chart.x.start},{y} {chart.x.end},{y}"


def _epoch_chart(runs: Mapping[str, Rows], low: float, high: float, label: str) -> Chart:
    epochs = [row["epoch"] for rows in runs.values() for row in rows]
    return Chart("", *_axes((min(epochs), max(epochs), "epoch"), (low, high, label), whole=True))


def _draw(
    chart: Chart,
    runs: Mapping[str, Rows],
    column: str,
    style: str,
    name: str,
    factor: float = 1,
    unit: str = "",
) -> str:
    """Draw a column of all runs; returns a sentence on its first and last value."""
    curves = [{row["epoch"]: factor * row[column] for row in rows} for rows in runs.values()]
    if len(curves) > 1:
        for curve in curves:
            chart.add_line(f"{style} fold", list(curve), list(curve.values()))
        name = f"{name}, mean of {len(curves)}"
    common = sorted(set.intersection(*map(set, curves)))
    means = [float(np.mean([curve[epoch] for curve in curves])) for epoch in common]
    chart.add_line(style, common, means)
    chart.legend.append((style, name))
    start, end = f"{means[0]:.3g}{unit}", f"{means[-1]:.3g}{unit}"
    return f"{name[0].upper()}{name[1:]}: {start} in epoch {common[0]:g}, {end} in {common[-1]:g}."


def reliability_chart(found: Calibration) -> Chart:
    """How often predictions of each probability are right, with intervals."""
    axes = _axes((0, 100, "probability (%)"), (0, 100, "right (%)"))
    chart = Chart("", *axes)
    chart.lines.append(("chance", f"{axes[0].start},{axes[1].start} {axes[0].end},{axes[1].end}"))
    told = []
    for each in found.bins:
        x, share = 100 * each.confidence, each.share
        chart.bars.append(
            (axes[0].at(x), axes[1].at(100 * share.low), axes[1].at(100 * share.high))
        )
        chart.dots.append(("validation", axes[0].at(x), axes[1].at(100 * share.value)))
        told.append(f"{x:.0f} % claimed, {100 * share.value:.0f} % right ({each.count:,})")
    chart.legend = [("bar", "right, 95 % interval"), ("chance", "as claimed")]
    chart.alt = f"Reliability diagram. {'; '.join(told)}."
    return chart
