"""Splitting a manifest by fold."""

from pathlib import Path

import pytest

from data.manifest import Clip, Manifest

CLIPS = tuple(Clip(Path(f"{number}.wav"), (0,), fold) for number, fold in enumerate((2, 1, 3, 2)))
MANIFEST = Manifest("three folds", CLIPS, ("dog",))


def test_folds_are_the_ones_that_occur_in_ascending_order():
    assert MANIFEST.folds == (1, 2, 3)
    assert Manifest("none", (Clip(Path("a.wav"), (0,)),), ("dog",)).folds == ()


def test_split_holds_out_one_fold_and_trains_on_all_others():
    training, held_out = MANIFEST.split(2)
    assert held_out == (CLIPS[0], CLIPS[3])
    assert training == (CLIPS[1], CLIPS[2])


def test_an_unknown_fold_is_named_with_the_folds_there_are():
    with pytest.raises(ValueError, match=r"fold 4 .* three folds.* 1, 2, 3"):
        MANIFEST.split(4)


def test_a_part_is_the_clips_that_belong_to_it_and_a_missing_one_is_named():
    clips = (Clip(Path("a.wav"), (0,), split="train"), Clip(Path("b.wav"), (0,), split="test"))
    manifest = Manifest("lists", clips, ("dog",))
    assert manifest.in_split("test") == clips[1:]
    with pytest.raises(ValueError, match=r"lists has no 'validation' clips.*train, test"):
        manifest.in_split("validation")
