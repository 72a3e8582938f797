"""Clips in columns behave as the tuple of clips that they were made from, in a few bytes each."""

import os
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.clips
from data.clips import Clip, Clips
from data.manifest import Manifest

TEXTS = st.text(st.characters() | st.sampled_from("/\\. é"), max_size=20)  # surrogates too
PATHS = st.builds(Path, TEXTS) | st.binary(max_size=20).map(os.fsdecode).map(Path)
CLIPS = st.lists(
    st.builds(
        Clip,
        PATHS,
        st.lists(st.integers(-1, 70_000), max_size=4).map(tuple),
        st.none() | st.integers(-(2**70), 2**70),
        st.sampled_from([None, "train", "validation", "test"]),
        st.none() | TEXTS,
    ),
    max_size=12,
).map(tuple)
FEW = tuple(
    Clip(Path(f"{n}.wav"), (n,), fold=n % 3, split=("train", "test")[n % 2], group=str(n))
    for n in range(300)
)


def audioset_like(count: int):
    for n in range(count):
        video = f"{n:011}"
        path = Path(f"/data/audioset/unbalanced_{n % 41:02}/Y{video}.flac")
        yield Clip(path, tuple(range(n % 500, n % 500 + 1 + n % 4)), split="train", group=video)


@given(CLIPS)
def test_every_clip_comes_back_as_it_was(clips):
    columns = Clips.of(iter(clips))
    assert tuple(columns) == clips
    assert [columns[index] for index in range(-len(clips), 0)] == list(clips)
    assert [str(clip.path) for clip in columns] == [str(clip.path) for clip in clips]
    assert [type(target) for clip in columns for target in clip.targets] == [
        int for clip in clips for _ in clip.targets
    ]


@pytest.mark.parametrize(
    ("family", "separator", "path"),
    [
        (PureWindowsPath, "\\", r"C:\clips\dog\a.wav"),
        (PureWindowsPath, "\\", r"\\server\share\a.wav"),
        (PureWindowsPath, "\\", "C:a.wav"),
        (PurePosixPath, "/", "/clips/a\\b.wav"),
        (PurePosixPath, "/", "/"),
        (PurePosixPath, "/", "."),
    ],
)
def test_paths_of_either_system_come_back(monkeypatch, family, separator, path):
    monkeypatch.setattr(data.clips, "Path", family)
    monkeypatch.setattr(data.clips.os, "sep", separator)
    clips = Clips.of([Clip(family(path), ())])
    assert clips[0].path == family(path)


def test_a_file_name_that_is_not_utf8_comes_back(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    assert os.fsencode(Clips.of([Clip(path, (0,))])[0].path.name) == b"caf\xe9.wav"


@given(CLIPS, st.slices(12))
def test_a_slice_is_the_slice_of_the_tuple(clips, split):
    assert isinstance(Clips.of(clips)[split], Clips)
    assert Clips.of(clips)[split] == clips[split]


@given(CLIPS, st.randoms())
def test_an_array_selects_as_a_filter_does(clips, random):
    mask = np.array([random.random() < 0.5 for _ in clips], dtype=bool)
    kept = tuple(clip for clip, keep in zip(clips, mask, strict=True) if keep)
    assert Clips.of(clips)[mask] == kept
    assert Clips.of(clips)[np.flatnonzero(mask)[::-1]] == kept[::-1]
    assert Clips.of(clips)[mask][1:] == kept[1:]


@given(CLIPS, st.sampled_from(["fold", "split"]))
def test_columns_tell_what_the_clips_do(clips, field):
    columns = Clips.of(clips)[::2]
    assert columns.values(field) == {getattr(clip, field) for clip in columns}
    for value in (*columns.values(field), "unheard of"):
        having = [getattr(clip, field) == value for clip in columns]
        assert columns.having(field, value).tolist() == having
    targets, counts = columns.targets()
    assert targets.tolist() == [target for clip in columns for target in clip.targets]
    assert counts.tolist() == [len(clip.targets) for clip in columns]
    assert list(columns.groups()) == [clip.group for clip in columns]


@given(CLIPS, st.slices(12))
def test_rows_are_the_clips_without_objects(clips, some):
    columns = Clips.of(clips)[some]
    assert [Clip(Path(path), *fields) for path, *fields in columns.rows()] == [*clips[some]]
    assert list(columns.paths()) == [str(clip.path) for clip in clips[some]]
    assert Clips.of_rows(columns.rows()) == columns


def test_more_clips_than_are_taken_at_a_time_come_back(monkeypatch):
    monkeypatch.setattr(data.clips, "CHUNK", 7)
    columns = Clips.of(FEW)
    assert columns == FEW and tuple(columns[5:40]) == FEW[5:40]
    assert Clips.of_rows(columns[::-1].rows()) == FEW[::-1]


@given(CLIPS, st.slices(12), st.booleans())
def test_a_field_is_replaced_and_the_others_stay(clips, some, twice):
    columns = Clips.of(clips)[some]
    columns = columns + columns if twice else columns
    folds = [*range(len(columns))]
    expected = [replace(clip, fold=fold) for clip, fold in zip(columns, folds, strict=True)]
    before = tuple(columns)
    assert list(columns.replace("fold", folds)) == expected
    assert tuple(columns) == before
    with pytest.raises(ValueError, match="give one for each"):
        columns.replace("split", ["train"] * (1 + len(columns)))


@given(CLIPS, CLIPS)
def test_equal_means_the_same_clips_in_the_same_order(first, second):
    for other in (second, Clips.of(second)):
        assert (Clips.of(first) == other) is (first == second)
        assert (other == Clips.of(first)) is (first == second)
    assert Clips.of(first) + Clips.of(second) == first + second
    assert hash(Clips.of(first)) == hash(first)


def test_selections_of_the_same_columns_are_compared_by_their_clips():
    clips = Clips.of([FEW[0], FEW[1], FEW[0]])
    assert clips[:1] == clips[2:]
    assert clips[:1] != clips[1:2]
    assert clips[:2] + clips[:1] == clips
    assert clips != [*clips]  # no more than a tuple is equal to a list


def test_there_is_no_clip_beyond_the_last():
    for index in (300, -301):
        with pytest.raises(IndexError):
            Clips.of(FEW)[index]


def test_pickling_keeps_the_clips_and_leaves_out_the_rest_where_that_is_most():
    clips = Clips.of(FEW)
    for split in (clips, clips[::-1], clips[:0], clips[7:9], clips[1::2]):
        assert pickle.loads(pickle.dumps(split)) == tuple(split)
    assert len(pickle.dumps(clips[:10])) < len(pickle.dumps(clips)) / 4


def test_audioset_takes_less_than_100_bytes_a_clip_in_memory_and_on_the_way_to_a_worker():
    clips = Clips.of(audioset_like(5_000))
    assert clips.nbytes < 100 * len(clips)
    assert len(pickle.dumps(clips)) < 100 * len(clips)


def test_a_selection_takes_memory_for_row_numbers_alone():
    clips = Clips.of(audioset_like(5_000))
    tracemalloc.start()
    selected = clips[clips.having("split", "train")]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(selected) == len(clips) and size < 10 * len(clips)


def test_a_manifest_takes_any_iterable_and_keeps_columns():
    manifest = Manifest("few", FEW, ("a",))
    assert isinstance(manifest.clips, Clips)
    assert manifest == Manifest("few", iter(FEW), ("a",)) == Manifest("few", manifest.clips, ("a",))
    assert Manifest("same", manifest.clips, ("a",)).clips is manifest.clips
    assert manifest.splits == ("train", "test")
