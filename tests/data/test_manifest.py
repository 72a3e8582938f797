"""Clips by fold and by split, and their names relative to the corpus."""

import ntpath
from pathlib import Path, PureWindowsPath

import pytest

from data.manifest import Clip, Clips, Manifest

CLIPS = tuple(Clip(Path(f"{number}.wav"), (0,), fold) for number, fold in enumerate((2, 1, 3, 2)))
MANIFEST = Manifest("three folds", CLIPS, ("dog",))


def test_folds_are_the_ones_that_occur_in_ascending_order():
    assert MANIFEST.folds == (1, 2, 3)
    assert Manifest("none", (Clip(Path("a.wav"), (0,)),), ("dog",)).folds == ()


def test_split_validates_on_one_fold_and_trains_on_all_others():
    training, validation = MANIFEST.split(2)
    assert validation == (CLIPS[0], CLIPS[3])
    assert training == (CLIPS[1], CLIPS[2])


def test_an_unknown_fold_is_named_with_the_folds_there_are():
    with pytest.raises(ValueError, match=r"fold 4 .* three folds.* 1, 2, 3"):
        MANIFEST.split(4)


def test_a_split_is_the_clips_that_belong_to_it_and_a_missing_one_is_named():
    clips = (Clip(Path("a.wav"), (0,), split="train"), Clip(Path("b.wav"), (0,), split="test"))
    manifest = Manifest("lists", clips, ("dog",))
    assert manifest.in_split("test") == clips[1:]
    with pytest.raises(ValueError, match=r"lists has no 'validation' clips.*train, test"):
        manifest.in_split("validation")


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="twins has two classes 'dog'"):
        Manifest("twins", CLIPS, ("cat", "dog", "dog"))


def relative_names(*paths: str) -> list[str]:
    manifest = Manifest("names", [Clip(Path(path), (0,)) for path in paths], ("dog",))
    return [manifest.relative(clip.path) for clip in manifest.clips]


def test_clips_of_one_folder_are_named_by_their_files():
    assert relative_names("/esc/audio/a.wav", "/esc/audio/b.wav") == ["a.wav", "b.wav"]
    assert relative_names("/esc/audio/a.wav") == ["a.wav"]
    assert relative_names("a.wav", "b.wav") == ["a.wav", "b.wav"]


def test_files_of_one_name_in_two_folders_have_different_names():
    assert relative_names("/data/dog/a.wav", "/data/cat/a.wav") == ["dog/a.wav", "cat/a.wav"]
    assert relative_names("/data/dog/a.wav", "/data/a.wav") == ["dog/a.wav", "a.wav"]
    assert relative_names("dog/a.wav", "cat/a.wav") == ["dog/a.wav", "cat/a.wav"]
    assert relative_names("/data/dog/a.wav", "/data/dogs/a.wav") == ["dog/a.wav", "dogs/a.wav"]


def test_clips_that_share_no_folder_are_named_by_their_whole_path():
    assert relative_names("/a/dog.wav", "/b/dog.wav") == ["a/dog.wav", "b/dog.wav"]
    assert relative_names("/a/dog.wav", "b/dog.wav") == ["/a/dog.wav", "b/dog.wav"]


def test_relative_names_have_forward_slashes_on_every_system(monkeypatch):
    for name, value in vars(ntpath).items():
        if name in ("sep", "commonpath", "join"):
            monkeypatch.setattr("os.path." + name, value)
    monkeypatch.setattr("os.sep", "\\")
    manifest = Manifest("names", [], ("dog",))
    monkeypatch.setattr(Clips, "values", lambda clips, field: {"C:\\x\\dog\\", "C:\\x\\cat\\"})
    assert manifest.relative(PureWindowsPath("C:\\x\\dog\\a.wav")) == "dog/a.wav"


def test_naming_many_clips_looks_for_their_folder_once(monkeypatch):
    manifest = Manifest("many", [Clip(Path(f"/data/{n % 41}/{n}"), ()) for n in range(500)], ())
    calls = []
    values = Clips.values
    monkeypatch.setattr(Clips, "values", lambda *given: calls.append(given) or values(*given))
    assert manifest.relative(manifest.clips[42].path) == "1/42"
    assert len({manifest.relative(clip.path) for clip in manifest.clips}) == 500
    assert len(calls) == 1


@pytest.mark.parametrize("path", ["a/\udcff.wav", "\udcff/a.wav"])
def test_a_path_that_is_not_utf8_is_refused(path):
    fine, clip = Clip(Path("a/ä.wav"), (0,)), Clip(Path(path), (0,))
    with pytest.raises(ValueError, match=r"test: the name '.*udcff.*' is not UTF-8"):
        Manifest("test", Clips.of([fine, clip]), ("x",))
    with pytest.raises(ValueError, match="is not UTF-8"):
        Manifest("test", Clips.of([fine]), ("\ud800",))


@pytest.mark.parametrize("name", ["\x1b[2Jdog", "dog\ncat"])
def test_a_class_that_a_terminal_would_obey_is_refused(name):
    clips = [Clip(Path("a.wav"), (0,)), Clip(Path("b.wav"), (1,))]
    with pytest.raises(ValueError, match=r"b\.wav.*control characters, expected a line of text"):
        Manifest("test", clips, ("cat", name))
