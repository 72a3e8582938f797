"""Plots hold the data they were given and land as whole PNG files."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from train.run import plots


def rows(epochs: int, offset: float = 0.0) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "loss": 2 / epoch + 0.5 + offset,
            "accuracy": 1 - 1 / epoch - offset,
            "learning_rate": 1e-4,
        }
        for epoch in range(1, epochs + 1)
    ]


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def legend_texts(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_an_error_is_drawn_as_it_is_and_a_joint_loss_has_no_unit():
    errors = [{**row, "reconstruction": 3.0 / row["epoch"]} for row in rows(3)]
    losses, error = plots.learning_curves_figure({"run": errors}, "reconstruction").axes
    assert lines(error)["validation"].tolist() == [[1, 3.0], [2, 1.5], [3, 1.0]]
    assert error.get_ylabel() == "reconstruction (mean squared error)"
    assert error.get_ylim()[0] == 0
    assert losses.get_ylabel() == "loss"


def test_learning_curves_of_one_run_hold_its_columns():
    losses, accuracy = plots.learning_curves_figure({"fold 1": rows(7)}).axes
    drawn = lines(losses)
    assert drawn["training"].tolist() == [[r["epoch"], r["train_loss"]] for r in rows(7)]
    assert drawn["validation"].tolist() == [[r["epoch"], r["loss"]] for r in rows(7)]
    expected = [[r["epoch"], 100 * r["accuracy"]] for r in rows(7)]
    assert lines(accuracy)["validation"].tolist() == expected
    assert legend_texts(losses) == ["training", "validation"]


def test_learning_curves_of_folds_add_the_mean_over_epochs_all_of_them_have():
    runs = {"fold 1": rows(7), "fold 2": rows(5, offset=0.2)}
    losses, accuracy = plots.learning_curves_figure(runs).axes
    drawn = lines(accuracy)
    assert drawn["_fold 1"].shape == (7, 2) and drawn["_fold 2"].shape == (5, 2)
    mean = drawn["validation, mean of 2"]
    assert mean[:, 0].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(mean[:, 1], [100 * (1 - 1 / e - 0.1) for e in range(1, 6)])
    thin, _, thick = (line.get_linewidth() for line in accuracy.get_lines())
    assert thick > 2 * thin
    assert legend_texts(losses) == ["training, mean of 2", "validation, mean of 2"]


@pytest.mark.parametrize("epochs", [1, 2, 30])
@pytest.mark.parametrize("folds", [1, 5])
def test_learning_curves_have_units_and_a_legend_clear_of_the_panel(folds, epochs):
    figure = plots.learning_curves_figure({f"fold {k}": rows(epochs) for k in range(folds)})
    figure.draw_without_rendering()
    losses, accuracy = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (nats)", "accuracy (%)"]
    for axes in (losses, accuracy):
        assert axes.get_xlabel() == "epoch"
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
        assert all(tick == round(tick) for tick in axes.get_xticks())
        for line in axes.get_lines():
            low, high = axes.get_ylim()
            assert low <= line.get_ydata().min() and line.get_ydata().max() <= high
    # The two legends stand side by side.
    assert losses.get_legend().get_window_extent().x1 < accuracy.get_legend().get_window_extent().x0
    assert losses.get_legend().get_window_extent().x0 >= 0


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "no runs"),
        ({"fold 3": []}, "fold 3 has no rows"),
        ({"fold 3": [{"epoch": 1, "loss": 2.0}]}, "fold 3 lack accuracy, train_loss"),
    ],
)
def test_learning_curves_name_what_is_missing(runs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plots.learning_curves(runs, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_confusion_shows_counts_and_colours_by_the_share_of_the_row():
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 2, 1]])
    axes = plots.confusion_figure(matrix, ["a", "b", "c"], "title").axes[0]
    share = axes.get_images()[0].get_array()
    np.testing.assert_allclose(share, [[80, 20, 0], [0, 0, 0], [25, 50, 25]])
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(c, r): str(matrix[r, c]) for r in range(3) for c in range(3)}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.figure.get_suptitle() == "title"


def test_confusion_of_fifty_classes_leaves_zeros_out_and_no_label_overlaps():
    matrix = np.diag(np.full(50, 40)) + np.eye(50, k=3, dtype=int)
    figure = plots.confusion_figure(matrix, [f"a long class name {i}" for i in range(50)], "title")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert len(axes.texts) == 50 + 47
    for labels, low, high in [
        (axes.get_xticklabels(), "x0", "x1"),
        (axes.get_yticklabels()[::-1], "y0", "y1"),
    ]:
        boxes = [label.get_window_extent() for label in labels]
        for left, right in pairwise(boxes):
            assert getattr(left, high) < getattr(right, low)


@pytest.mark.parametrize("count", [1, 2, 10, 40])
def test_confusion_cuts_no_title_and_no_label(count):
    title = plots.confusion_title("a_recipe_with_quite_a_name", "test", np.eye(count), "best")
    names = [f"a class with a name {k}" for k in range(count)]
    figure = plots.confusion_figure(np.eye(count), names, title)
    figure.draw_without_rendering()
    assert figure.get_suptitle().splitlines()[-1] == "best: accuracy 100.00 %"
    width, height = figure.get_size_inches() * figure.dpi
    texts = [figure._suptitle, figure.axes[0].xaxis.label, figure.axes[0].yaxis.label]
    for text in [*texts, figure.axes[1].yaxis.label, *figure.axes[0].get_yticklabels()]:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height, text


def test_the_title_of_a_confusion_matrix_says_split_clips_model_and_accuracy():
    title = plots.confusion_title("demo", "test", np.array([[3, 1], [0, 4]]), "best (epoch 22)")
    assert title == "demo: test, 8 clips\nbest (epoch 22): accuracy 87.50 %"


def score_axis(scores, chance=None):
    rows_of = [
        row | {"accuracy": score} for row, score in zip(rows(len(scores)), scores, strict=True)
    ]
    axes = plots.learning_curves_figure({"a": rows_of}, chance=chance, split="fold 1").axes[1]
    return axes, axes.get_ylim()


def test_scores_have_an_axis_that_fits_them_and_shows_no_noise_large():
    low, high = score_axis([0.5, 0.9])[1]
    assert 40 < low < 50 and 90 < high < 100
    low, high = score_axis([0.701, 0.703, 0.702])[1]  # nothing but noise
    assert low < 70 < high and high - low == pytest.approx(plots.LEAST_SPAN)
    low, high = score_axis([0.999, 1.0])[1]
    assert high == 101 and high - low == pytest.approx(plots.LEAST_SPAN)


def test_chance_is_marked_where_it_is_in_range():
    axes, (low, _) = score_axis([0.12, 0.5], chance=0.125)
    assert [text.get_text() for text in axes.texts] == ["chance"]
    assert legend_texts(axes) == ["fold 1"]  # the split
    axes, (low, _) = score_axis([0.6, 0.9], chance=0.125)
    assert not axes.texts and low > 50


@pytest.mark.parametrize(("classes", "count"), [(2, 12_345_678), (50, 123_456)])
def test_confusion_keeps_a_long_count_inside_its_cell(classes, count):
    names = [str(k) for k in range(classes)]
    figure = plots.confusion_figure(np.diag([count] * classes), names, "title")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / classes
    assert {text.get_text() for text in axes.texts} <= {"0", str(count)}
    assert all(text.get_window_extent().width < cell for text in axes.texts)


def test_confusion_takes_any_class_name_as_it_is():
    names = [r"$\broken$", "cost: $5 or {10}", "n" * 100]
    figure = plots.confusion_figure(np.eye(3), names, r"$\broken$")
    figure.draw_without_rendering()
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == [*names[:2], "n" * 27 + "…"]


@pytest.mark.parametrize(
    ("matrix", "classes"),
    [(np.eye(3), ["a", "b"]), (np.ones((2, 3)), ["a", "b"]), (np.eye(0), [])],
)
def test_confusion_of_another_shape_than_its_classes_is_rejected(matrix, classes):
    with pytest.raises(ValueError, match="a row and a column for each"):
        plots.confusion_figure(matrix, classes, "title")


def test_plots_are_written_as_png_of_readable_size_and_nothing_else(tmp_path):
    plots.learning_curves({"fold 1": rows(4)}, tmp_path / "plots" / "curves.png")
    plots.confusion(np.eye(10), list("abcdefghij"), tmp_path / "plots" / "confusion.png", "title")
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["confusion.png", "curves.png"]
    for path in (tmp_path / "plots").iterdir():
        height, width, _ = imread(path).shape
        assert 400 < height < 2000 and 800 < width < 2000


def test_a_failed_write_leaves_the_old_plot_whole_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def full_disk(self, name, **kwargs):
        name.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        plots.learning_curves({"fold 1": rows(4)}, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


POINTS = {"small": (1.0, 60.0, 2.0), "large": (9.0, 65.0, None), "as large": (9.01, 70.0, 3.0)}


def test_score_against_cost_has_rows_at_their_cost_with_bars_and_names():
    (axes,) = plots.score_against_cost_figure(POINTS, "sizes", "accuracy (%)").axes
    bars = dict(zip(POINTS, axes.containers, strict=True))
    assert bars["small"].lines[0].get_xydata().tolist() == [[1.0, 60.0]]
    (segment,) = bars["small"].lines[2][0].get_segments()
    assert segment.tolist() == [[1.0, 58.0], [1.0, 62.0]]
    assert not bars["large"].has_yerr
    assert legend_texts(axes) == list(POINTS)
    assert axes.get_ylabel() == "accuracy (%)" and "GFLOPs" in axes.get_xlabel()


def test_score_against_cost_has_the_reference_as_a_line():
    (axes,) = plots.score_against_cost_figure(POINTS, "sizes", "accuracy", reference=63.0).axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {63.0}


def test_rows_of_one_cost_stand_side_by_side_around_it():
    places = plots._apart([9.01, 1.0, 9.0])
    assert places[1] == 1.0
    assert (places[0] + places[2]) / 2 == pytest.approx(9.005)
    assert places[2] - places[0] == pytest.approx(0.03 * 8.01)
    assert len(set(plots._apart([2.0, 2.0, 2.0, 2.0]))) == 4
    assert plots._apart([5.0]) == [5.0]


def test_score_against_cost_of_equal_costs_shows_the_one_cost():
    equal = {name: (2.1, *rest) for name, (_, *rest) in POINTS.items()}
    (axes,) = plots.score_against_cost_figure(equal, "sizes", "accuracy (%)").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2.1"]
    assert "side by side" in axes.get_xlabel()
