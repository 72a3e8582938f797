"""What a run's clips add to its score: as scored without them, whichever way they are read."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from data import Clip, Manifest
from data.files import write_json
from train.experiments import jackknife as module
from train.experiments.jackknife import (
    average_precision_without,
    changes,
    read_groups,
    run_score,
    write_groups,
)
from train.metrics import evaluate_scores
from train.run.folder import read_run

CLIPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]), st.integers(0, 3)),
    min_size=1,
    max_size=20,
)


@given(CLIPS)
def test_average_precision_without_each_group_is_that_of_the_others(clips):
    positive, scores, codes = (np.array(column) for column in zip(*clips, strict=True))
    found = average_precision_without(positive, scores, codes, 4)
    for group, value in enumerate(found):
        left = codes != group  # 4: all
        if positive[left].any():
            assert value == pytest.approx(average_precision_score(positive[left], scores[left]))
        else:
            assert np.isnan(value)


@pytest.mark.parametrize("metric", ["accuracy", "mAP"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_change_is_the_score_less_that_without_the_units_clips(metric, multi_label):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1, (60, 5))
    targets = np.eye(5, dtype=bool)[generator.integers(0, 5, 60)]
    if multi_label:
        targets |= generator.random((60, 5)) < 0.2
    units = np.array([f"speaker {number}" for number in generator.integers(0, 6, 60)])

    def score(left):
        return evaluate_scores(logits[left], targets[left], multi_label, sigmoid=True)[metric]

    found = changes(metric, targets, logits, units)
    assert found.keys() == {*units}
    for unit, change in found.items():
        assert change == pytest.approx(score(units == units) - score(units != unit))


@pytest.fixture
def run(recipe, fake_run, tmp_path):
    """A run whose three of four clips are right."""
    folder = fake_run(tmp_path / "run", 0.75, replace(recipe, metric="accuracy"))
    rows = ["x/1.wav,a,0.9,0.1", "x/2.wav,a,0.2,0.8", "y/1.wav,b,0.1,0.9", "y/2.wav,b,0,1"]
    (folder / "predictions.csv").write_text("\n".join(["clip,target,a,b", *rows, ""]))
    return read_run(folder)


def test_a_runs_clips_are_left_out_by_group(run):
    groups = {"x/1.wav": "anna", "x/2.wav": "anna", "y/1.wav": "bea", "y/2.wav": "bea"}
    found = run_score(run, groups)
    assert found.score == 0.75
    assert found.changes == pytest.approx({"group anna": -0.25, "group bea": 0.25})


def test_clips_without_groups_are_left_out_one_by_one(run):
    found = run_score(run, {"x/1.wav": "anna"})
    assert len(found.changes) == 4 and found.changes["group anna"] == pytest.approx(1 / 12)
    assert sorted(run_score(run, {}).changes.values()) == pytest.approx([-0.25, *[1 / 12] * 3])


def test_many_clips_are_left_out_in_blocks(run, monkeypatch):
    monkeypatch.setattr(module, "MOST_BLOCKS", 3)
    assert 2 <= len(run_score(run, {}).changes) <= 3
    monkeypatch.setattr(module, "MOST_BLOCKS", 1)
    assert run_score(run, {}).changes == {}  # nothing is left without it


def test_a_run_of_an_older_version_has_its_score_alone(run):
    (run.folder / "predictions.csv").unlink()
    assert run_score(run, {}).changes == {}


def test_of_a_test_split_its_own_clips_are_left_out(run):
    results = json.loads((run.folder / "results.json").read_text())
    write_json(run.folder / "results.json", results | {"test": {"best": {**QUOTED, "epoch": 1}}})
    rows = "clip,target,a,b\n1.wav,a,1,0\n2.wav,b,1,0\n"
    (run.folder / "test_predictions.csv").write_text(rows)
    found = run_score(run, {})
    assert found.score == 0.5
    assert sorted(found.changes.values()) == [-0.5, 0.5]


def test_of_a_test_split_that_validates_too_the_clips_are_those_of_validation(run):
    results = json.loads((run.folder / "results.json").read_text())
    write_json(run.folder / "results.json", results | {"validation_split": "test"})
    assert run.quoted.split == "test"
    assert len(run_score(run, {}).changes) == 4


def test_a_thousand_clips_are_left_out_one_by_one(run):
    rows = [f"{number}.wav,a,{number % 2},0.5" for number in range(1000)]
    (run.folder / "predictions.csv").write_text("\n".join(["clip,target,a,b", *rows, ""]))
    assert len(run_score(run, {}).changes) == 1000


QUOTED = {"accuracy": 0.5, "mAP": 0.75}


def test_several_classes_and_none_are_read(run):
    rows = ["1.wav,a|b,0.9,0.8", "2.wav,,0.2,0.1", "3.wav,b,0.1,0.9"]
    text = "\n".join(["clip,target,a,b", *rows, ""])
    (run.folder / "predictions.csv").write_text(text)
    found = run_score(replace(run, recipe=replace(run.recipe, metric="mAP")), {})
    assert list(found.changes.values()) == pytest.approx([0, 0, 0])


def test_predictions_of_other_clips_than_were_scored_are_refused(run):
    results = (run.folder / "results.json").read_text()
    (run.folder / "results.json").write_text(results.replace("{", '{"clips":{"validation":5},', 1))
    with pytest.raises(ValueError, match="has 4 clips, but 5 were scored: it is damaged"):
        run_score(run, {})


def test_groups_come_back_as_they_were(tmp_path):
    clips = [Clip(tmp_path / f"{name}.wav", (0,), group=group) for name, group in NAMES.items()]
    write_groups(tmp_path, Manifest("corpus", clips, ("a",)))
    assert read_groups(tmp_path) == {"a.wav": "anna, the first", "b.wav": "bea"}


NAMES = {"a": "anna, the first", "b": "bea", "c": None}


def test_a_corpus_without_groups_leaves_no_file(tmp_path):
    write_groups(tmp_path, Manifest("corpus", [Clip(tmp_path / "a.wav", (0,))], ("a",)))
    assert list(tmp_path.iterdir()) == [] and read_groups(tmp_path) == {}
    (tmp_path / "groups.csv").write_text("clip,speaker\na.wav,anna\n")
    with pytest.raises(ValueError, match=r"line 1: the columns are clip, speaker, not clip and g"):
        read_groups(tmp_path)
