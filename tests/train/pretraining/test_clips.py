"""Which clips pretrain: without labels, never those of a test split."""

from dataclasses import replace
from pathlib import Path

import pytest

from data import Clip, Manifest
from data.splits import split_clips
from train.pretraining.clips import unlabelled


def corpus(*clips):
    return Manifest("corpus", clips, ("a", "b"))


def clip(number, **fields):
    return Clip(Path(f"/clips/{number}.wav"), (number % 2,), **fields)


def names(clips):
    return {each.path.stem for each in clips}


def test_labels_change_nothing():
    clips = [clip(number) for number in range(20)]
    others = [replace(each, targets=(1 - each.targets[0],)) for each in clips]
    bare = unlabelled(corpus(*clips), 0)
    assert bare == unlabelled(corpus(*others), 0)
    assert bare.classes == () and not any(each.targets for each in bare.clips)


def test_a_tenth_validates_by_the_seed_and_groups_stay_together():
    clips = [clip(number, group=str(number // 2)) for number in range(40)]
    drawn = [split_clips(unlabelled(corpus(*clips), seed), None, 0) for seed in (0, 0, 1)]
    assert len(drawn[0].validation) == 4 and len(drawn[0].train) == 36 and not drawn[0].test
    assert names(drawn[0].validation) == names(drawn[1].validation) != names(drawn[2].validation)
    assert not {*drawn[0].train.groups()} & {*drawn[0].validation.groups()}


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "validation", "test")])
def test_a_test_split_is_never_heard(splits):
    clips = [clip(number, split=splits[number % len(splits)]) for number in range(60)]
    found = split_clips(unlabelled(corpus(*clips), 0), None, 0)
    heard = names(found.train) | names(found.validation)
    assert heard == {each.path.stem for each in clips if each.split != "test"}
    if "validation" in splits:
        assert names(found.validation) == names(each for each in clips if each.split == splits[1])


def test_folds_are_kept():
    clips = [clip(number, fold=1 + number % 5) for number in range(10)]
    found = split_clips(unlabelled(corpus(*clips), 0), 2, 0)
    assert names(found.validation) == {"1", "6"} and len(found.train) == 8


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([clip(0)], "all 1 clips of corpus are in one split"),
        ([clip(n, group="one") for n in range(9)], "all 9 clips of corpus are in one split"),
        ([clip(n, split="test") for n in range(9)], "corpus has no clips to train on"),
        ([clip(n, split="validation") for n in range(9)], "corpus has no clips to train on"),
    ],
)
def test_clips_in_one_split_are_refused(clips, message):
    with pytest.raises(ValueError, match=message):
        unlabelled(corpus(*clips), 0)
