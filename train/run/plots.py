"""Learning curves, confusion matrices and scores against costs as PNG files.

Figures are made without pyplot: no backend is chosen and no global state is touched, so this runs
on a machine without a display and beside a notebook that plots.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.files import atomic_file
from train.run.schema import PRETEXT, SHARES

# From the palette of Okabe and Ito, told apart with any kind of colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX<>"
LEAST_SPAN = 5.0  # percentage points: an axis of scores that shows less makes noise look like more
NEARLY_EQUAL = 0.03  # share of the axis below which costs are drawn side by side
GREY = "#666666"
LONGEST_NAME = 28  # letters of a class that are shown
LETTER = 0.6  # width of a letter, in sizes of the font
Rows = Sequence[Mapping[str, float]]


def learning_curves(
    runs: Mapping[str, Rows],
    path: str | os.PathLike,
    metric: str = "accuracy",
    title: str = "",
    split: str = "validation",
    chance: float | None = None,
) -> None:
    """Draw the learning curves of one run, or of the folds of a cross-validation, into a PNG file.

    runs: label ("fold 1") to the rows of its metrics.csv, of which epoch, train_loss, loss and the
    metric (0 to 1, or an error) are drawn. split: what was scored after each epoch. chance: what
    chance scores by the metric, marked where it is in range. ValueError if there are no runs, no
    rows or not these columns.
    """
    save_figure(learning_curves_figure(runs, metric, title, split, chance), path)


def learning_curves_figure(
    runs: Mapping[str, Rows],
    metric: str = "accuracy",
    title: str = "",
    split: str = "validation",
    chance: float | None = None,
) -> Figure:
    """Return the figure of `learning_curves`: a panel for the losses, one for the metric."""
    _check_runs(runs, metric)
    figure = Figure(figsize=(10, 4.5 if title else 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    _draw(losses, runs, "train_loss", BLUE, "training")
    _draw(losses, runs, "loss", VERMILION, split)
    of_classes = {*PRETEXT}.isdisjoint(next(iter(runs.values()))[0])
    label = "loss (nats)" if of_classes else "loss"  # a sum with a squared error has no unit
    losses.set(ylabel=label, ylim=(0, 1.05 * losses.dataLim.ymax or 1))
    is_share = metric in SHARES
    _draw(scores, runs, metric, VERMILION, split, factor=100 if is_share else 1)
    for axes in (losses, scores):
        _finish_panel(axes)
    if is_share:
        scores.set(ylabel=f"{metric} (%)")
        _fit_scores(scores, chance)
    else:
        scores.set(ylabel=f"{metric} (mean squared error)", ylim=(0, None))
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.get_layout_engine().set(wspace=0.06)
    return figure


def _fit_scores(axes: Axes, chance: float | None) -> None:
    """Let an axis of percentages fit what is drawn, but show no noise large, and mark chance."""
    low, high = axes.get_ylim()
    more = max(LEAST_SPAN - (high - low), 0) / 2
    low, high = low - more, high + more
    shift = max(-1 - low, 0) - max(high - 101, 0)  # what leaves 0 to 100 on one side
    axes.set_ylim(max(low + shift, -1), min(high + shift, 101))
    if chance is not None and axes.get_ylim()[0] <= 100 * chance <= axes.get_ylim()[1]:
        axes.axhline(100 * chance, color=GREY, linewidth=1, linestyle=":")
        place, corner = (0.995, 100 * chance), {"ha": "right", "va": "bottom"}
        across = axes.get_yaxis_transform()
        axes.text(*place, "chance", color=GREY, fontsize=9, transform=across, **corner)


def _draw(
    axes: Axes, runs: Mapping[str, Rows], column: str, colour: str, label: str, factor: float = 1
) -> None:
    """Draw `column` of every run; of several, thin, with their mean over common epochs, thick."""
    curves = [{row["epoch"]: factor * row[column] for row in rows} for rows in runs.values()]
    if len(curves) == 1:
        _draw_line(axes, curves[0], color=colour, linewidth=2.2, label=label)
        return
    for name, curve in zip(runs, curves, strict=True):
        # A leading underscore keeps a line out of the legend.
        _draw_line(axes, curve, color=colour, linewidth=0.9, alpha=0.45, label=f"_{name}")
    common = sorted(set.intersection(*map(set, curves)))
    mean = {epoch: np.mean([curve[epoch] for curve in curves]) for epoch in common}
    label = f"{label}, mean of {len(curves)}"
    _draw_line(axes, mean, color=colour, linewidth=2.6, label=label)


def _draw_line(axes: Axes, curve: Mapping[float, float], **style) -> None:
    marker = "o" if len(curve) == 1 else None  # a line of one point is invisible
    axes.plot(list(curve), list(curve.values()), marker=marker, **style)


def _finish_panel(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.margins(x=0.02 if axes.dataLim.width else 10)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY)
    # Above the panel, where it cannot cover a curve.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)


def _check_runs(runs: Mapping[str, Rows], metric: str) -> None:
    if not runs:
        raise ValueError("no runs to draw: expected at least one label with its rows")
    for label, rows in runs.items():
        if not rows:
            raise ValueError(f"{label} has no rows: train it for at least one epoch")
        missing = {"epoch", "train_loss", "loss", metric} - set.intersection(*map(set, rows))
        if missing:
            raise ValueError(f"rows of {label} lack {', '.join(sorted(missing))}")


def confusion(
    matrix: np.ndarray, classes: Sequence[str], path: str | os.PathLike, title: str
) -> None:
    """Draw a confusion matrix (classes, classes), rows = true class, into a PNG file.

    A cell's number counts clips, its colour is the share of its row. ValueError if the matrix does
    not have a row and a column for each class.
    """
    save_figure(confusion_figure(matrix, classes, title), path)


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Return the figure of `confusion`, which grows with the number of classes."""
    matrix, count = np.asarray(matrix), len(classes)
    if not count or matrix.shape != (count, count):
        raise ValueError(
            f"confusion matrix of shape {matrix.shape}: expected a row and a column for each of "
            f"{count} classes, and at least one class"
        )
    cell = min(max(0.29, 5.5 / count), 1.2, 40 / count)  # inches
    font = min(10.0, 72 * cell * 0.45)  # points
    heading = min(max(11.0, 0.28 * count), 20.0)
    names = [_shortened(name) for name in classes]
    size = count * cell + max(map(len, names)) * LETTER * font / 72
    width, height = max(size + 2.0, 6.5), max(size + 1.7, 4.5)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    axes = figure.subplots()
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    _write_counts(axes, matrix, share, cell)
    _name_classes(axes, names, font)
    axes.set_xlabel("predicted class", fontsize=heading)
    axes.set_ylabel("true class", fontsize=heading)
    letters = int(72 * width / (LETTER * (heading + 1)))
    lines = [part for line in title.splitlines() for part in wrap(line, letters)]
    figure.suptitle("\n".join(lines), fontsize=heading + 1, parse_math=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("share of the row (%)", fontsize=heading - 1)
    bar.ax.tick_params(labelsize=heading - 2)
    return figure


def confusion_title(name: str, split: str, matrix: np.ndarray, model: str) -> str:
    """Of what a confusion matrix is, in two lines.

    name: of the recipe. model: what predicted, as "best (epoch 22)".
    """
    clips, right = int(matrix.sum()), float(np.trace(matrix))
    return f"{name}: {split}, {clips:,} clips\n{model}: accuracy {100 * right / clips:.2f} %"


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _name_classes(axes: Axes, names: Sequence[str], font: float) -> None:
    # Names are other people's: a "$" in one must not start a formula.
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=font, parse_math=False)
    between = np.arange(1, len(names)) - 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color="#E4E4E4", linewidth=0.5)
    axes.tick_params(which="both", length=0)


def _write_counts(axes: Axes, matrix: np.ndarray, share: np.ndarray, cell: float) -> None:
    digits = len(f"{matrix.max():.0f}")
    font = min(10.0, 72 * cell * min(0.45, 1.4 / digits))  # points; `cell` is in inches
    with_zeros = len(matrix) <= 20
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column] or with_zeros:
            colour = "white" if share[row, column] > 65 else "black"
            colour = colour if matrix[row, column] else "#BBBBBB"
            text = f"{matrix[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)


def score_against_cost(
    points: Mapping[str, tuple[float, float, float | None]],
    path: str | os.PathLike,
    title: str,
    score: str,
    chance: float | None = None,
    reference: float | None = None,
) -> None:
    """Draw a table's rows as score against GFLOPs into a PNG file.

    points: row to GFLOPs, score in percent and half of an interval around it (None: no bar). score:
    the axis's name. chance: what chance scores, 0 to 1, marked where it is in range. reference: a
    score in percent that the others are compared with, drawn as a line.
    """
    save_figure(score_against_cost_figure(points, title, score, chance, reference), path)


def score_against_cost_figure(
    points: Mapping[str, tuple[float, float, float | None]],
    title: str,
    score: str,
    chance: float | None = None,
    reference: float | None = None,
) -> Figure:
    """Return the figure of `score_against_cost`; rows of one cost stand beside each other."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    costs = [gflops for gflops, _, _ in points.values()]
    places = _apart(costs)
    moved = "; equal ones side by side" if places != costs else ""
    for index, (name, (_, middle, half)) in enumerate(points.items()):
        axes.errorbar(
            places[index],
            middle,
            yerr=half,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=7,
            capsize=4,
            linestyle="none",
            label=name,
        )
    if reference is not None:
        axes.axhline(reference, color="#777777", linewidth=0.9, linestyle="--", zorder=0)
    equal = max(costs) - min(costs) < NEARLY_EQUAL * max(costs)
    axes.margins(x=0.5 if equal else 0.12, y=0.12)
    axes.set_xlabel(f"cost of one clip (GFLOPs, forward{moved})")
    if equal:
        axes.set_xticks([sum(costs) / len(costs)], [f"{costs[0]:.3g}"])
    axes.set_ylabel(score, parse_math=False)
    axes.set_title(title, fontsize=11, parse_math=False)
    _fit_scores(axes, chance)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def _apart(costs: Sequence[float]) -> list[float]:
    """The costs, those that are nearly equal moved apart around their mean."""
    order = sorted(range(len(costs)), key=lambda index: costs[index])
    span = costs[order[-1]] - costs[order[0]]
    step = NEARLY_EQUAL * (span if span > NEARLY_EQUAL * costs[order[-1]] else costs[order[-1]])
    groups: list[list[int]] = []
    for index in order:
        if groups and costs[index] - costs[groups[-1][0]] < step:
            groups[-1].append(index)
        else:
            groups.append([index])
    places = list(costs)
    for group in groups:
        centre = sum(costs[index] for index in group) / len(group)
        for place, index in enumerate(sorted(group)):
            places[index] = centre + (place - (len(group) - 1) / 2) * step
    return places


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
