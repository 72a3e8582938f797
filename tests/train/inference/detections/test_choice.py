"""Which of what a model hears is a detection."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model.timeline import Timeline
from train.inference.detections import choose, read_thresholds

CLASSES = ("dog", "rain", "owl")


def timeline(rows, hop=1.0, length=1.0):
    starts = torch.arange(len(rows), dtype=torch.float64) * hop
    probabilities = torch.tensor(rows, dtype=torch.float32)
    return Timeline(starts, starts + length, probabilities, CLASSES, True)


HEARD = timeline([[0.9, 0.1, 0.0], [0.2, 0.6, 0.0], [0.8, 0.1, 0.7]])


def rows(choice, heard=HEARD):
    found = choice.detections(heard).tolist()
    return [(start, end, choice.classes[number], round(p, 6)) for start, end, number, p in found]


def test_without_a_threshold_each_window_has_its_likeliest_classes():
    assert rows(choose(CLASSES, top_k=1)) == [
        (0, 1, "dog", 0.9),
        (1, 2, "rain", 0.6),
        (2, 3, "dog", 0.8),
    ]


def test_what_reaches_the_threshold_is_a_detection_a_window():
    assert rows(choose(CLASSES, 0.7)) == [
        (0, 1, "dog", 0.9),
        (2, 3, "dog", 0.8),
        (2, 3, "owl", 0.7),
    ]


def test_each_class_has_its_own_threshold():
    assert rows(choose(CLASSES, {"dog": 0.85, "rain": 0.6, "owl": 1.0})) == [
        (0, 1, "dog", 0.9),
        (1, 2, "rain", 0.6),
    ]


def test_classes_that_are_not_kept_are_no_detections():
    assert rows(choose(CLASSES, 0.0, ["owl"])) == [
        (0, 1, "owl", 0),
        (1, 2, "owl", 0),
        (2, 3, "owl", 0.7),
    ]
    assert rows(choose(CLASSES, None, ["rain", "owl"], top_k=1))[0] == (0, 1, "rain", 0.1)
    assert rows(choose(CLASSES, {"rain": 0.5}, ["rain"])) == [(1, 2, "rain", 0.6)]


@pytest.mark.parametrize(("gap", "dogs"), [(0.0, 2), (0.99, 2), (1.0, 1), (60.0, 1)])
def test_neighbours_of_one_class_are_one_detection_where_the_gap_allows(gap, dogs):
    found = [row for row in rows(choose(CLASSES, 0.7, merge_gap=gap)) if row[2] == "dog"]
    assert len(found) == dogs
    if dogs == 1:
        assert found == [(0, 3, "dog", 0.9)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.4, 0.9]), min_size=3, max_size=3), min_size=1),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.25, 1.0]),
)
def test_merged_detections_cover_the_windows_and_are_further_apart_than_the_gap(found, gap, hop):
    heard = timeline(found, hop)
    windows = rows(choose(CLASSES, 0.5), heard)
    merged = rows(choose(CLASSES, 0.5, merge_gap=gap), heard)
    for name in CLASSES:
        whole = [row for row in merged if row[2] == name]
        for before, after in pairwise(whole):
            assert after[0] - before[1] > gap
        own = [row for row in windows if row[2] == name]
        for start, end, _, probability in own:
            (holder,) = [row for row in whole if row[0] <= start and end <= row[1]]
            assert holder[3] >= probability
        assert {row[0] for row in whole} <= {row[0] for row in own}
        assert {row[1] for row in whole} <= {row[1] for row in own}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["dgo"]}, "the model has no class 'dgo'; it has 3: dog, rain, owl"),
        ({"threshold": {"dgo": 0.5}}, "the model has no class 'dgo'"),
        ({"threshold": {"dog": 0.5}}, "2 of 3 classes have no threshold, the first is 'rain'"),
        ({"threshold": 1.5}, "threshold 1.5 is not a probability"),
        ({"threshold": math.nan}, "threshold nan is not a probability"),
        ({"threshold": 0.5, "merge_gap": -1.0}, "merge gap -1.0 is not a length of time"),
        ({"threshold": 0.5, "merge_gap": math.inf}, "merge gap inf is not a length of time"),
        ({"merge_gap": 1.0}, "merged where a class reaches a threshold"),
        ({"classes": []}, "no class is kept"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose(CLASSES, **arguments)


def test_thresholds_are_read_from_a_table(tmp_path):
    file = tmp_path / "thresholds.csv"
    file.write_text('class,threshold,remark\ndog,0.5,\n"rain, heavy",1,x\n')
    assert read_thresholds(file) == {"dog": 0.5, "rain, heavy": 1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class,threshold\ndog,nan\n", "line 2: threshold 'nan' is not a probability"),
        ("class,threshold\ndog,\n", "line 2: threshold '' is not a probability"),
        ("class,threshold\ndog,-0.1\n", "line 2: threshold '-0.1' is not"),
        ("class,threshold\ndog,0.1\ndog,0.2\n", "line 3: class 'dog' has a threshold already"),
        ("class,least\ndog,0.1\n", "lacks the columns threshold"),
        ("class,threshold\n", "holds no thresholds"),
        ("", "lacks the columns class, threshold"),
    ],
)
def test_a_damaged_table_of_thresholds_is_one_line(tmp_path, content, message):
    file = tmp_path / "thresholds.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_thresholds(file)
    assert "\n" not in str(caught.value)


def test_a_table_of_thresholds_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a probability, or a CSV file"):
        read_thresholds(tmp_path / "none.csv")
