"""Splits: every class in every split in proportion, groups whole, the same for the same seed."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.manifest import Clip, Manifest
from data.splits import draw_per_class, split_clips, stratified_folds, stratified_split


def corpus(*targets: tuple[int, ...], groups: list | None = None) -> Manifest:
    groups = groups or [None] * len(targets)
    clips = (
        Clip(Path(f"{number}.wav"), labels, group=group)
        for number, (labels, group) in enumerate(zip(targets, groups, strict=True))
    )
    classes = tuple(f"class {n}" for n in range(1 + max(max(t, default=0) for t in targets)))
    return Manifest("corpus", tuple(clips), classes, any(len(labels) != 1 for labels in targets))


def counts(manifest: Manifest, field: str) -> dict[int, Counter]:
    """For every class, how many clips of it each split or fold has."""
    table = defaultdict(Counter)
    for clip in manifest.clips:
        for target in clip.targets:
            table[target][getattr(clip, field)] += 1
    return dict(table)


def test_of_no_class_no_clip_is_drawn():
    clips = [Clip(Path(f"{number}.wav"), ()) for number in range(3)]
    manifest = Manifest("unlabelled", clips, (), multi_label=True)
    assert len(draw_per_class(manifest, manifest.clips, 2, seed=0)) == 0


def test_every_class_is_split_in_the_given_proportions():
    manifest = stratified_split(corpus(*[(0,)] * 100, *[(1,)] * 40), validation=0.1, test=0.2)
    assert counts(manifest, "split") == {
        0: {"train": 70, "validation": 10, "test": 20},
        1: {"train": 28, "validation": 4, "test": 8},
    }


def test_only_the_splits_change():
    before = corpus(*[(0,)] * 10, *[(1,)] * 10)
    after = stratified_split(before)
    assert [(clip.path, clip.targets) for clip in after.clips] == [
        (clip.path, clip.targets) for clip in before.clips
    ]
    assert (after.name, after.classes) == (before.name, before.classes)


def test_the_seed_decides_and_nothing_else():
    manifest = corpus(*[(0,)] * 50)
    assert stratified_split(manifest) == stratified_split(manifest)
    assert stratified_split(manifest, seed=1) != stratified_split(manifest)
    assert stratified_folds(manifest, seed=1) != stratified_folds(manifest)


def test_a_corpus_is_split_as_by_earlier_versions():
    targets = [(n % 3,) if n % 7 else (n % 3, 3) for n in range(40)]
    groups = [f"speaker {n % 11}" if n % 2 else None for n in range(40)]
    splits = [clip.split[0] for clip in stratified_split(corpus(*targets, groups=groups)).clips]
    assert "".join(splits) == "vtttttttttttvttttttvttttttttttttvttttttt"
    folds = [str(clip.fold) for clip in stratified_folds(corpus(*targets)).clips]
    assert "".join(folds) == "2421215544532115552443155314133224341233"


def test_three_clips_are_enough_for_three_splits_and_two_are_not():
    manifest = stratified_split(corpus(*[(0,)] * 3, *[(1,)] * 90))
    assert counts(manifest, "split")[0] == {"train": 1, "validation": 1, "test": 1}
    with pytest.raises(ValueError, match=r"'class 0' with 2 clips.*expected 3"):
        stratified_split(corpus(*[(0,)] * 2, *[(1,)] * 90))


def test_a_split_of_fraction_zero_is_not_made():
    manifest = stratified_split(corpus(*[(0,)] * 2, *[(1,)] * 2), validation=0.5, test=0)
    assert counts(manifest, "split") == {
        0: {"train": 1, "validation": 1},
        1: {"train": 1, "validation": 1},
    }


def test_groups_stay_whole_and_every_class_is_in_every_split():
    # four speakers say both words, unevenly: two of them must train
    groups = [f"speaker {n % 4}" for n in range(120)]
    manifest = stratified_split(corpus(*[(n % 3 % 2,) for n in range(120)], groups=groups))
    splits = {clip.group: set() for clip in manifest.clips}
    for clip in manifest.clips:
        splits[clip.group].add(clip.split)
    assert sorted(map(sorted, splits.values())) == [["test"], ["train"], ["train"], ["validation"]]


def test_a_class_of_too_few_groups_is_refused():
    groups = ["a", "b"] * 30
    with pytest.raises(ValueError, match="'class 0' with 2 clips or groups"):
        stratified_split(corpus(*[(0,)] * 60, groups=groups))


def test_large_groups_train_where_small_ones_validate_and_test():
    groups = ["large"] * 80 + ["small"] * 10 + ["tiny"] * 10
    manifest = stratified_split(corpus(*[(0,)] * 100, groups=groups))
    assert counts(manifest, "split")[0] == {"train": 80, "validation": 10, "test": 10}


def test_folds_are_even_in_every_class():
    manifest = stratified_folds(corpus(*[(0,)] * 50, *[(1,)] * 12), folds=5)
    assert manifest.folds == (1, 2, 3, 4, 5)
    assert set(counts(manifest, "fold")[0].values()) == {10}
    assert set(counts(manifest, "fold")[1].values()) == {2, 3}
    sizes = Counter(clip.fold for clip in manifest.clips)
    assert set(sizes.values()) == {12, 13}


def test_what_is_left_of_many_small_classes_makes_no_fold_larger():
    manifest = stratified_folds(corpus(*[(n // 7,) for n in range(70)]), folds=5)
    assert set(Counter(clip.fold for clip in manifest.clips).values()) == {14}


def test_multi_label_follows_the_rarest_class():
    targets = [(0,)] * 60 + [(0, 1)] * 20 + [(0, 1, 2)] * 10 + [()] * 10
    manifest = stratified_split(corpus(*targets))
    assert counts(manifest, "split") == {
        0: {"train": 72, "validation": 9, "test": 9},
        1: {"train": 24, "validation": 3, "test": 3},
        2: {"train": 8, "validation": 1, "test": 1},
    }
    assert Counter(clip.split for clip in manifest.clips if not clip.targets) == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }


def test_one_clip_of_no_class_is_no_obstacle():
    assert len(stratified_split(corpus((), *[(0,)] * 30)).clips) == 31


def test_classes_that_bind_each_other_are_in_every_split_or_an_error_says_so():
    # three clips each: where class 0 and class 2 go leaves class 1 a choice or none
    manifest = corpus((0, 1), (0,), (0, 2), (1, 2), (2,), (1,))
    outcomes = set()
    for seed in range(40):
        try:
            table = counts(stratified_split(manifest, seed=seed), "split")
        except ValueError as error:
            assert "is not in all 3 splits" in str(error)
            outcomes.add("refused")
        else:
            assert all(len(splits) == 3 for splits in table.values())
            outcomes.add("split")
    assert outcomes == {"split", "refused"}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_fractions_out_of_range(validation, test):
    with pytest.raises(ValueError, match="expected fractions"):
        stratified_split(corpus(*[(0,)] * 10), validation, test)


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="1 folds: expected at least 2"):
        stratified_folds(corpus(*[(0,)] * 10), folds=1)


@pytest.mark.parametrize("split", [stratified_split, stratified_folds])
def test_a_split_of_its_own_is_not_overwritten(split):
    own = stratified_split(corpus(*[(0,)] * 10))
    with pytest.raises(ValueError, match="splits or folds of its own"):
        split(own)


@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=8),
    validation=st.floats(0.01, 0.4),
    test=st.floats(0.01, 0.4),
    seed=st.integers(0, 2**32),
)
def test_no_class_is_off_by_a_clip_or_more_beyond_the_one_that_every_split_gets(
    sizes, validation, test, seed
):
    manifest = corpus(*[(target,) for target, size in enumerate(sizes) for _ in range(size)])
    table = counts(stratified_split(manifest, validation, test, seed), "split")
    for target, size in enumerate(sizes):
        for split, share in (("validation", validation), ("test", test)):
            assert abs(table[target][split] - max(1, size * share)) <= 1
        assert table[target]["train"] >= 1


@given(st.data())
def test_groups_never_straddle_folds(data):
    num_groups = data.draw(st.integers(12, 30))
    clips = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, num_groups - 1)), max_size=60)
    )
    clips += [(target, group) for target in range(3) for group in range(num_groups)]
    manifest = corpus(*[(t,) for t, _ in clips], groups=[str(group) for _, group in clips])
    fold_of = {}
    for clip in stratified_folds(manifest, folds=4).clips:
        assert fold_of.setdefault(clip.group, clip.fold) == clip.fold
    assert Counter(fold_of.values()).keys() == {1, 2, 3, 4}


def manifest(splits):
    clips = [Clip(Path(f"{i}.wav"), (i % 2,), split=split) for i, split in enumerate(splits)]
    return Manifest("made", tuple(clips), ("a", "b"))


def test_a_fold_validates_and_the_others_train():
    clips = tuple(Clip(Path(f"{i}.wav"), (0,), fold=1 + i % 3) for i in range(6))
    corpus = Manifest("folds", clips, ("a",))
    splits = split_clips(corpus, 2, seed=0)
    assert {clip.fold for clip in splits.validation} == {2}
    assert {clip.fold for clip in splits.train} == {1, 3}
    assert (splits.test, splits.fold, splits.validation_name) == ((), 2, "fold 2")
    assert split_clips(corpus, None, seed=0).fold == 1


def test_official_splits_are_kept():
    corpus = manifest(["train", "train", "validation", "test", "test"])
    splits = split_clips(corpus, None, seed=0)
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [
        2,
        1,
        2,
    ]
    assert (splits.fold, splits.validation_name) == (None, "validation")


def test_training_and_validation_splits_alone_leave_no_test():
    splits = split_clips(manifest(["train", "train", "validation"]), None, seed=0)
    assert (len(splits.validation), splits.test, splits.validation_name) == (1, (), "validation")


def test_without_a_validation_split_the_test_split_validates_and_is_named():
    splits = split_clips(manifest(["train", "train", "test"]), None, seed=0)
    assert (len(splits.validation), splits.test, splits.validation_name) == (1, (), "test")


def test_clips_without_splits_are_split_by_the_seed():
    corpus = manifest([None] * 100)
    splits = split_clips(corpus, None, seed=0)
    three = (splits.train, splits.validation, splits.test)
    assert [len(split) for split in three] == [80, 10, 10]
    assert len({clip.path for split in three for clip in split}) == 100
    assert split_clips(corpus, None, seed=0) == splits
    assert split_clips(corpus, None, seed=1) != splits


def test_a_seed_goes_on_giving_the_splits_of_earlier_runs():
    splits = split_clips(manifest([None] * 40), None, seed=3)
    names = [[clip.path.stem for clip in split] for split in (splits.validation, splits.test)]
    assert names == [["1", "5", "6", "14"], ["19", "26", "36", "37"]]


def test_a_fold_of_a_corpus_without_folds_is_refused():
    with pytest.raises(ValueError, match="made has no folds, so leave --fold 1 out"):
        split_clips(manifest(["train", "test"]), 1, seed=0)


def test_a_corpus_without_training_clips_is_refused():
    with pytest.raises(ValueError, match="no 'train' clips"):
        split_clips(replace(manifest(["test", "validation"])), None, seed=0)


def words(speakers=6, each=4):
    """Two words by some speakers, and two validation clips."""
    clips = [
        Clip(Path(f"{word}-{speaker}-{n}.wav"), (word,), split="train", group=f"speaker {speaker}")
        for word in range(2)
        for speaker in range(speakers)
        for n in range(each)
    ]
    clips += [Clip(Path(f"v{n}.wav"), (n,), split="validation", group="other") for n in range(2)]
    return Manifest("words", clips, ("a", "b"))


@pytest.mark.parametrize("count", [1, 6, 7, 20, 24])
def test_so_many_clips_of_each_class_train_spread_over_the_groups(count):
    splits = split_clips(words(), None, seed=0, clips_per_class=count)
    for word in range(2):
        speakers = Counter(clip.group for clip in splits.train if clip.targets == (word,))
        assert speakers.total() == count
        assert len(speakers) == min(count, 6)
        assert max(speakers.values()) - min(speakers.values()) <= (1 if count > 6 else 0)
    assert splits.validation == split_clips(words(), None, seed=0).validation


@given(st.integers(0, 2**63 - 1), st.integers(1, 12), st.integers(0, 12), st.booleans())
def test_a_draw_follows_from_the_seed_and_is_part_of_a_larger_one(seed, count, more, grouped):
    corpus = words()
    if not grouped:
        corpus = replace(corpus, clips=[replace(clip, group=None) for clip in corpus.clips])
    fewer = split_clips(corpus, None, seed, count).train
    assert fewer == split_clips(corpus, None, seed, count).train
    larger = split_clips(corpus, None, seed, count + more).train
    assert {*fewer.paths()} <= {*larger.paths()}
    every = list(split_clips(corpus, None, seed).train.paths())
    assert sorted(larger.paths(), key=every.index) == list(larger.paths())


def test_another_seed_draws_others():
    one, other = (split_clips(words(), None, seed, 3).train for seed in (0, 1))
    assert {*one.paths()} != {*other.paths()}
    assert {clip.group for clip in one[:3]} != {clip.group for clip in one[3:]}  # by word


def test_a_draw_of_more_clips_than_a_class_has_is_refused():
    with pytest.raises(ValueError, match="words has 24 training clips of 'a', expected 25 of each"):
        split_clips(words(), None, seed=0, clips_per_class=25)


SEVERAL = st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=30).filter(any)


@given(SEVERAL, st.integers(0, 2**63 - 1), st.integers(1, 6), st.integers(0, 3))
def test_of_clips_with_several_classes_each_gets_its_number_or_all_it_has(
    labels, seed, count, more
):
    clips = [Clip(Path(f"{n}.wav"), tuple(sorted(each))) for n, each in enumerate(labels)]
    manifest = Manifest("several", clips, tuple("abcde"), multi_label=True)
    drawn = draw_per_class(manifest, manifest.clips, count, seed)
    have, there = (Counter(n for clip in some for n in clip.targets) for some in (drawn, clips))
    assert all(have[label] >= min(count, there[label]) for label in range(5))
    assert all(clip.targets for clip in drawn)
    larger = draw_per_class(manifest, manifest.clips, count + more, seed)
    assert {*drawn.paths()} <= {*larger.paths()}


def test_clips_of_a_rare_class_count_for_the_others_that_they_have(caplog):
    sets = [(0, 1)] * 2 + [(1,)] * 5 + [(0, 1, 2)]
    clips = [Clip(Path(f"{n}.wav"), each) for n, each in enumerate(sets)]
    manifest = Manifest("several", clips, tuple("abc"), multi_label=True)
    drawn = draw_per_class(manifest, manifest.clips, 3, seed=0)
    assert [clip.targets for clip in drawn] == [(0, 1), (0, 1), (0, 1, 2)]
    assert "1 classes have fewer than 3 training clips, and give all: 'c' 1" in caplog.text


def test_of_folds_the_training_ones_are_drawn_from():
    clips = [Clip(Path(f"{n}.wav"), (n % 2,), fold=1 + n % 3) for n in range(24)]
    splits = split_clips(Manifest("folds", clips, ("a", "b")), 2, seed=0, clips_per_class=3)
    assert (len(splits.train), {clip.fold for clip in splits.train}) == (6, {1, 3})
    assert len(splits.validation) == 8
