"""Which clips train, which are watched, which test."""

from dataclasses import replace
from pathlib import Path

import pytest

from data import Clip, Manifest
from train.division import divide


def manifest(parts):
    clips = [Clip(Path(f"{i}.wav"), (i % 2,), part=part) for i, part in enumerate(parts)]
    return Manifest("made", tuple(clips), ("a", "b"))


def test_a_fold_is_held_out_against_the_others():
    clips = tuple(Clip(Path(f"{i}.wav"), (0,), fold=1 + i % 3) for i in range(6))
    corpus = Manifest("folds", clips, ("a",))
    division = divide(corpus, 2, seed=0)
    assert {clip.fold for clip in division.held_out} == {2}
    assert {clip.fold for clip in division.training} == {1, 3}
    assert (division.test, division.fold, division.held_out_name) == ((), 2, "fold 2")
    assert divide(corpus, None, seed=0).fold == 1


def test_official_parts_are_kept():
    corpus = manifest(["train", "train", "valid", "test", "test"])
    division = divide(corpus, None, seed=0)
    assert [len(part) for part in (division.training, division.held_out, division.test)] == [
        2,
        1,
        2,
    ]
    assert (division.fold, division.held_out_name) == (None, "valid")


def test_training_and_validation_parts_alone_leave_no_test():
    division = divide(manifest(["train", "train", "valid"]), None, seed=0)
    assert (len(division.held_out), division.test, division.held_out_name) == (1, (), "valid")


def test_without_a_validation_part_the_test_part_is_watched_and_named():
    division = divide(manifest(["train", "train", "test"]), None, seed=0)
    assert (len(division.held_out), division.test, division.held_out_name) == (1, (), "test")


def test_undivided_clips_are_split_by_the_seed():
    corpus = manifest([None] * 100)
    division = divide(corpus, None, seed=0)
    sizes = [len(part) for part in (division.training, division.held_out, division.test)]
    assert sizes == [80, 10, 10]
    parts = (division.training, division.held_out, division.test)
    assert len({clip.path for part in parts for clip in part}) == 100
    assert divide(corpus, None, seed=0) == division
    assert divide(corpus, None, seed=1) != division


def test_a_fold_of_a_corpus_without_folds_is_refused():
    with pytest.raises(ValueError, match="made has no folds, so leave --fold 1 out"):
        divide(manifest(["train", "test"]), 1, seed=0)


def test_a_corpus_without_training_clips_is_refused():
    with pytest.raises(ValueError, match="no 'train' clips"):
        divide(replace(manifest(["test", "valid"])), None, seed=0)
