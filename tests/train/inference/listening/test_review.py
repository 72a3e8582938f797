"""What verdicts say: precision as scipy's, honest after a stratified draw, thresholds as fitted."""

import csv

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from data.corpora.segments import SEGMENT_COLUMNS
from train.inference.listening import review
from train.inference.listening.draw import draw
from train.inference.listening.review import fit, zero_of_line
from train.inference.listening.tables import Detection


def write(folder, rows, draw="certain"):
    """A table of (label, score, verdict) or (label, score, verdict, range, detections)."""
    path = folder / "segments.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(SEGMENT_COLUMNS)
        for number, (label, score, verdict, *of_range) in enumerate(rows):
            (folder / f"{number}.flac").touch()
            row = (f"{number}.flac", label, score, "a.wav", number, number + 1, number, draw)
            writer.writerow((*row, *(of_range or ("all", 100)), verdict))
    return path


@pytest.mark.parametrize(("right", "wrong"), [(7, 3), (0, 4), (12, 0), (1, 0)])
def test_precision_and_its_interval_are_scipys_wilson(tmp_path, right, wrong):
    verdicts = ["yes"] * right + ["no"] * (wrong - wrong // 2) + ["wren"] * (wrong // 2)
    rows = [("owl", 0.9, verdict) for verdict in (*verdicts, "unsure", "", "")]
    write(tmp_path, [*rows, ("wren", 0.5, "YES ")])
    found = review(tmp_path).classes
    assert [each.label for each in found] == ["owl", "wren"]
    owl = found[0]
    assert (owl.right, owl.wrong, owl.unsure, owl.open) == (right, wrong, 1, 2)
    interval = binomtest(right, right + wrong).proportion_ci(0.95, method="wilson")
    expected = (right / (right + wrong), interval.low, interval.high)
    assert owl.precision == pytest.approx(expected, abs=1e-12)
    assert owl.threshold is None and found[1].precision.value == 1


def test_the_name_of_the_label_itself_is_a_yes(tmp_path):
    write(tmp_path, [("owl", 0.9, "owl"), ("owl", 0.9, "no")])
    assert review(tmp_path).classes[0].right == 1


@pytest.mark.parametrize("label", ["no", "unsure"])
def test_no_and_unsure_are_answers_where_a_class_is_called_so_too(tmp_path, label):
    write(
        tmp_path, [(label, 0.9, "no")] * 10 + [(label, 0.9, "yes")] * 2 + [(label, 0.9, "unsure")]
    )
    (found,) = review(tmp_path).classes
    assert (found.right, found.wrong, found.unsure) == (2, 10, 1)


def population(count=5_000, seed=0):
    """Detections of which far more have low scores, and whether each is right."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(0.7, 2.5, count).round(6)
    return scores, generator.random(count) < expit(1.5 * logit(np.clip(scores, 1e-6, 1)) + 0.3)


def drawn_table(folder, by, seed, per_class=300):
    scores, right = population()
    many = (Detection("a.wav", float(i), i + 1.0, "owl", s) for i, s in enumerate(scores))
    drawn, _ = draw(many, per_class, by, seed)
    rows = [
        ("owl", d.score, "yes" if right[int(d.start)] else "no", place, size)
        for d, place, size in drawn
    ]
    write(folder, rows, by)
    return scores, right


def test_a_stratified_draw_tells_the_precision_of_all_detections(tmp_path):
    inside, naive, estimates, precisions = 0, [], [], []
    for seed in range(8):
        scores, right = drawn_table(tmp_path, "stratified", seed)
        found = review(tmp_path, 0.9).classes[0]
        estimates.append(found.precision.value - right.mean())
        naive.append(found.right / (found.right + found.wrong) - right.mean())
        inside += found.precision.low <= right.mean() <= found.precision.high
        above = right[scores >= found.threshold.value].mean()
        assert abs(found.precision_from.value - above) < 0.08
        precisions.append(above)
    assert abs(np.mean(estimates)) < 0.02 < 0.1 < np.mean(naive)
    assert inside >= 7
    assert np.mean(precisions) > 0.9  # above the threshold more are right than at it


@pytest.mark.parametrize("by", ["certain", "uncertain", "stratified"])
def test_the_threshold_is_where_the_probability_is_the_wanted_one_for_every_draw(tmp_path, by):
    wanted = {"certain": 0.85, "uncertain": 0.55, "stratified": 0.9}[by]
    true = expit((logit(wanted) - 0.3) / 1.5)
    drawn_table(tmp_path, by, 1, per_class=1_000)
    found = review(tmp_path, wanted).classes[0]
    assert found.threshold.low < found.threshold.value < found.threshold.high
    assert abs(found.threshold.value - true) < 0.05
    assert (found.precision_from is None) == (by == "uncertain")


def test_the_interval_of_the_threshold_covers_it_as_often_as_it_says():
    generator, inside = np.random.default_rng(0), 0
    for _ in range(200):
        x = generator.uniform(-3, 3, 100)
        right = generator.random(100) < expit(0.5 + 1.5 * x)
        intercept, slope, covariance = fit(x, right)
        low, high = zero_of_line(intercept - 1, slope, covariance)
        inside += low <= 0.5 / 1.5 <= high
    assert 0.91 <= inside / 200 <= 0.98


def test_the_fit_is_scikit_learns_without_penalty():
    generator = np.random.default_rng(0)
    x = generator.normal(size=80)
    right = generator.random(80) < expit(x - 0.5)
    intercept, slope, covariance = fit(x, right)
    other = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000).fit(x[:, None], right)
    assert (intercept, slope) == pytest.approx((other.intercept_[0], other.coef_[0, 0]), abs=1e-5)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)


LOW, HIGH = np.linspace(0.1, 0.4, 8), np.linspace(0.6, 0.9, 8)
MIXED = [(0.5 + 0.02 * i, ("no", "yes")[i % 3 > 0]) for i in range(24)]


@pytest.mark.parametrize(
    ("judged", "wanted", "note"),
    [
        ([(0.9, "yes")] * 4 + [(0.5, "no")] * 9, 0.9, "4 verdicts yes, expected at least 5 of"),
        ([(s, "no") for s in LOW] + [(s, "yes") for s in HIGH], 0.9, "between 0.4000 and 0.6000"),
        ([(s, "yes") for s in LOW] + [(s, "no") for s in HIGH], 0.9, "higher scores are not right"),
        ([(0.5, "yes")] * 6 + [(0.5, "no")] * 6, 0.9, "higher scores are not right"),
        (MIXED, 0.9, "too few verdicts to tell"),
        (
            [(s, "yes" if i % 3 else "no") for i, s in enumerate(HIGH)]
            + [(s, "no" if i % 4 else "yes") for i, s in enumerate(LOW)]
            + [(s, "no") for s in LOW] + [(s + 0.01, "yes") for s in HIGH[:5]],
            0.999,
            "even at 0.9000, the highest score judged, the probability is",
        ),
    ],
)  # fmt: skip
def test_no_threshold_where_the_verdicts_do_not_decide(tmp_path, judged, wanted, note):
    write(tmp_path, [("owl", *each) for each in judged])
    found = review(tmp_path, wanted)
    assert found.classes[0].threshold is None and note in found.classes[0].notes[-1]
    assert found.thresholds == {}


def test_a_threshold_is_not_below_the_scores_that_were_judged(tmp_path):
    drawn_table(tmp_path, "certain", 0, per_class=800)
    found = review(tmp_path, 0.3).classes[0]
    assert "the threshold is the lowest of them" in found.notes[0]
    assert found.threshold.low <= found.threshold.value <= found.threshold.high
    assert found.precision_from == found.precision


def test_a_range_without_verdicts_is_said(tmp_path):
    rows = [("owl", 0.95, "yes", "0.9-1", 10), ("owl", 0.15, "", "0.1-0.2", 5_000)]
    write(tmp_path, rows, "stratified")
    (owl,) = review(tmp_path).classes
    assert owl.notes == (
        "nothing judged of 5,000 detections with scores 0.1-0.2: precision is without",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",no\n", ",nope\n", r"line 3: verdict 'nope': expected yes, no, unsure, nothing or the"),
        (",no\n", ",no,\n", "line 3: 12 cells: expected 11"),
        ("0.5,a.wav", "5,a.wav", r"line 3: score '5' of '100' detections"),
        ("certain,all,100,no", "uncertain,all,100,no", "mixes the draws certain, uncertain"),
        ("verdict\n", "opinion\n", "lacks the columns verdict"),
        ("1.flac", "../1.flac", "'../1.flac' leads out of the folder"),
        (
            "1.flac",
            "gone.flac",
            "lacks 1 of the 2 files .* the first is 'gone.flac': put them back",
        ),
        (",no\n", ",\n", None),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, old, new, message):
    path = write(tmp_path, [("owl", 0.9, "yes"), ("owl", 0.5, "no")])
    text = path.read_bytes().decode().replace("\r\n", "\n")
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if message is None:
        assert review(path).classes[0].open == 1
        return
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        review(path)


def test_a_table_without_verdicts_or_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fill in the column verdict"):
        review(write(tmp_path, [("owl", 0.9, ""), ("owl", 0.5, "unsure")]))
    with pytest.raises(ValueError, match="has no rows"):
        review(write(tmp_path, []))
    with pytest.raises(FileNotFoundError, match=r"segments.csv does not exist"):
        review(tmp_path / "none" / "segments.csv")
    with pytest.raises(ValueError, match="precision 1: expected one between 0 and 1"):
        review(tmp_path, 1.0)


def test_a_spreadsheets_separators_and_a_class_of_the_file_beside_are_read(tmp_path):
    path = write(tmp_path, [("owl", 0.9, "yes"), ("owl", 0.5, "wren")])
    text = path.read_bytes().decode().replace(",", ";")
    path.write_text("\ufeff" + text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"add the class to classes.txt"):
        review(path)
    (tmp_path / "classes.txt").write_text("owl\nwren\n")
    assert review(path).classes[0].wrong == 1
