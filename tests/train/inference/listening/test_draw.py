"""Which detections are drawn: the extremes, or at random from every range of scores."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.inference.listening.draw import draw
from train.inference.listening.tables import Detection


def detections(scores, label="owl"):
    return [
        Detection(Path("a.wav"), float(number), number + 1.0, label, score)
        for number, score in enumerate(scores)
    ]


SCORES = [0.05, 0.45, 0.52, 0.7, 0.9, 0.99]


def scores_of(drawn):
    return [each.detection.score for each in drawn]


def test_certain_takes_the_highest_and_uncertain_those_nearest_to_a_half():
    drawn, classes = draw([*detections(SCORES), *detections([0.3], "wren")], 2, "certain")
    assert scores_of(drawn) == [0.99, 0.9, 0.3] and classes == ("owl", "wren")
    assert {each.detections for each in drawn[:2]} == {6}
    assert scores_of(draw(detections(SCORES), 2, "uncertain")[0]) == [0.52, 0.45]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(10, 40))
def test_a_stratified_draw_takes_as_many_of_each_range_as_far_as_they_last(scores, per_class):
    drawn, _ = draw(detections(scores), per_class, "stratified")
    sizes = Counter(min(int(score * 10), 9) for score in scores)
    taken = Counter(min(int(score * 10), 9) for score in scores_of(drawn))
    assert len(drawn) == min(per_class, len(scores)) and taken.keys() == sizes.keys()
    most = max(taken.values())
    assert all(taken[r] == sizes[r] or taken[r] >= most - 1 for r in sizes)
    for each in drawn:
        low, high = map(float, each.range.split("-"))
        assert low <= each.detection.score <= high
        assert each.detections == sizes[min(int(each.detection.score * 10), 9)]


def test_a_draw_is_of_its_seed_and_of_no_order_and_fair():
    many = detections(np.random.default_rng(0).uniform(0.9, 1, 200))
    times = Counter()
    for seed in range(300):
        drawn, _ = draw(many, 20, "stratified", seed)
        times.update(each.detection for each in drawn)
    again, _ = draw(many[::-1], 20, "stratified", 299)
    assert again == drawn
    count = np.array([times[each] for each in many])  # of 300 draws of a tenth: 30, deviation 5.2
    assert count.min() > 10 and count.max() < 50 and 4 < count.std() < 6.5


@pytest.mark.parametrize("by", ["certain", "stratified"])
def test_a_detection_of_two_tables_is_refused(by):
    with pytest.raises(ValueError, match=r"'a.wav' has 'owl' at 5 s twice"):
        draw([*detections(SCORES), *detections(SCORES)[-1:]], 10, by)


def test_no_detections_are_refused():
    with pytest.raises(ValueError, match="the tables hold no detections"):
        draw([], 10, "certain")
