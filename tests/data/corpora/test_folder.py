"""A folder of class folders: classes, splits, and nothing left out in silence."""

import os
from pathlib import Path
from stat import S_IFSOCK

import pytest

from data.corpora.folder import folder


def lay_out(root: Path, *names: str) -> Path:
    """Empty files: nothing here may decode them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def refusal(root: Path, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        folder(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_are_the_folders_by_name_with_all_their_files_at_any_depth(tmp_path):
    root = lay_out(tmp_path / "farm", "owl/b.WAV", "owl/far/down/a.ogg", "cow/x.mp3", "cow/y.flac")
    manifest = folder(root)
    assert (manifest.name, manifest.classes, manifest.multi_label) == (
        "farm",
        ("cow", "owl"),
        False,
    )
    assert [(clip.path.relative_to(root).as_posix(), clip.targets) for clip in manifest.clips] == [
        ("cow/x.mp3", (0,)),
        ("cow/y.flac", (0,)),
        ("owl/b.WAV", (1,)),
        ("owl/far/down/a.ogg", (1,)),
    ]
    assert all(clip.split is None and clip.fold is None for clip in manifest.clips)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "validation", "test"), ("train", "validation", "test")),
        (("Training", "validation", "testing"), ("train", "validation", "test")),
        (("test", "train"), ("train", "test")),
        (("train", "dev", "eval"), ("train", "validation", "test")),
    ],
)
def test_folders_of_parts_come_in_the_order_train_valid_test(tmp_path, names, splits):
    manifest = folder(lay_out(tmp_path, *(f"{name}/{c}/1.wav" for name in names for c in "ab")))
    assert manifest.classes == ("a", "b")
    assert [clip.split for clip in manifest.clips] == [split for split in splits for _ in "ab"]
    assert [clip.targets for clip in manifest.clips] == [(0,), (1,)] * len(splits)


def test_a_class_that_only_one_part_has_keeps_its_index_in_the_others(tmp_path):
    manifest = folder(lay_out(tmp_path, "train/a/1.wav", "train/b/1.wav", "test/b/2.wav"))
    assert [(clip.split, clip.targets) for clip in manifest.clips] == [
        ("train", (0,)),
        ("train", (1,)),
        ("test", (1,)),
    ]


def test_train_is_a_class_where_it_holds_audio_beside_other_classes(tmp_path):
    manifest = folder(lay_out(tmp_path, "train/1.wav", "airplane/1.wav"))
    assert manifest.classes == ("airplane", "train")
    assert {clip.split for clip in manifest.clips} == {None}


def test_parts_beside_a_class_are_refused(tmp_path):
    message = refusal(lay_out(tmp_path, "train/a/1.wav", "test/a/1.wav", "extra/1.wav"))
    assert "'test'" in message
    assert "'extra'" in message


def test_two_folders_for_one_split_are_refused(tmp_path):
    message = refusal(lay_out(tmp_path, "train/a/1.wav", "val/a/1.wav", "dev/a/1.wav"))
    assert "'val'" in message
    assert "'dev'" in message


def test_what_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    names = ("a/1.wav", "a/1.txt", "a/2.TXT", "a/cover.jpg", "a/.DS_Store", "a/README", "LICENSE")
    root = lay_out(tmp_path, *names, "a/._1.wav", "a/.trash/2.wav", "table.csv", ".git/HEAD")
    (root / "a" / "link").symlink_to(root)
    assert len(folder(root).clips) == 1
    assert caplog.messages == [
        f"{root}: left out as not audio: 1 '.csv', 1 '.jpg', 2 '.txt', 4 hidden, "
        "1 linked folder, 2 without extension"
    ]


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog):
    folder(lay_out(tmp_path, "a/1.wav"))
    assert not caplog.messages


def test_clips_are_in_the_order_of_their_paths_as_pathlib_has_it(tmp_path):
    lay_out(tmp_path, "a/x-1.wav", "a/x/1.wav", "a/x.wav", "a/y/z/2.wav", "a/y/z-1.wav")
    paths = [clip.path for clip in folder(tmp_path).clips]
    assert paths == sorted(paths)
    assert paths[0].parent.name == "x"


def test_a_class_folder_may_be_a_link(tmp_path):
    lay_out(tmp_path, "elsewhere/1.wav", "root/b/1.wav")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
    assert [clip.targets for clip in folder(tmp_path / "root").clips] == [(0,), (1,)]


def test_a_broken_link_to_audio_is_a_clip_for_the_audit_to_report(tmp_path):
    lay_out(tmp_path, "a/1.wav")
    (tmp_path / "a" / "2.wav").symlink_to("gone.wav")
    assert len(folder(tmp_path).clips) == 2


def test_pipes_and_sockets_are_no_clips_and_links_to_files_are(tmp_path, caplog):
    root = lay_out(tmp_path / "root", "train/1.wav", "b/1.wav")
    os.mkfifo(root / "b" / "pipe.wav")
    (root / "b" / "link to a pipe.wav").symlink_to("pipe.wav")
    (root / "b" / "link.wav").symlink_to("1.wav")
    os.mknod(root / "train" / "socket.wav", S_IFSOCK)
    names = [clip.path.name for clip in folder(root).clips]
    assert names == ["1.wav", "link.wav", "1.wav"]
    assert caplog.messages == [f"{root}: left out as not audio: 3 pipe, socket or device"]
    (root / "train" / "1.wav").unlink()  # no audio is left in it: a split beside a class
    assert "'train', a split of the data, beside 'b'" in refusal(root)


def test_an_empty_class_is_refused_with_its_name(tmp_path):
    message = refusal(lay_out(tmp_path, "a/1.wav", "b/1.m4a", "c/.keep"))
    assert "2 of 3 classes" in message
    assert "'b'" in message


def test_a_class_without_audio_in_one_split_only_is_not_empty(tmp_path):
    assert len(folder(lay_out(tmp_path, "train/a/1.wav", "test/a/.keep")).clips) == 1


@pytest.mark.parametrize(
    "names", [("a/1.wav", "x.wav"), ("train/1.wav",), ("train/a/1.wav", "x.wav")]
)
def test_audio_outside_of_the_classes_is_refused(tmp_path, names):
    assert "1 audio files outside of any class" in refusal(lay_out(tmp_path, *names))


def test_no_class_folders(tmp_path):
    assert "no class folders" in refusal(tmp_path)


def test_no_folder_and_a_file(tmp_path):
    assert "no folder" in refusal(tmp_path / "absent", FileNotFoundError)
    message = refusal(lay_out(tmp_path, "clips.csv") / "clips.csv")
    assert message.endswith("read a table with --corpus table")


def test_another_corpus_in_the_folder_is_named(tmp_path, caplog):
    folder_of_esc50 = lay_out(tmp_path / "esc50", "meta/esc50.csv", "audio/1.wav")
    assert "laid out as ESC-50" in refusal(folder_of_esc50)
    flat = lay_out(tmp_path / "flat", "clips.csv", "1.wav")
    assert f"or give --corpus table --data {flat / 'clips.csv'}" in refusal(flat)
    lists = ("testing_list.txt", "validation_list.txt")
    folder(lay_out(tmp_path / "words", *lists, "yes/1.wav", "no/1.wav"))
    assert "used with --corpus speech_commands" in caplog.text


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    lay_out(tmp_path, "a/1.wav", "a/locked/2.wav")
    scandir = os.scandir

    def deny(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError):
        folder(tmp_path)


def test_the_name_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path / "birds", "a/1.wav"))
    assert folder(".").name == "birds"


def test_ten_spoken_digits(recordings, caplog):
    manifest = folder(recordings / "spoken_digits")
    assert (len(manifest.clips), len(manifest.classes)) == (2000, 10)
    assert "left out as not audio: 2 '.txt'" in caplog.text


def test_folders_in_one_another_without_end_are_refused(tmp_path):
    inner = tmp_path / "class" / "/".join("x" * 150)
    inner.mkdir(parents=True)
    (inner / "a.wav").touch()
    with pytest.raises(ValueError, match="more than 100 folders") as caught:
        folder(tmp_path)
    assert str(tmp_path / "class") in str(caught.value)
