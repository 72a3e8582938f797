"""A folder of recordings without labels."""

import pytest

from data.corpora.recordings import recordings


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root):
    return {
        clip.path.relative_to(root).as_posix(): (clip.targets, clip.split)
        for clip in recordings(root).clips
    }


def test_audio_at_any_depth_is_of_no_class(tmp_path):
    put(tmp_path, "a.wav", "b/c.flac", "b/d/e.ogg", "notes.txt", ".hidden/f.wav", ".g.wav")
    assert found(tmp_path) == dict.fromkeys(["a.wav", "b/c.flac", "b/d/e.ogg"], ((), None))
    assert recordings(tmp_path).classes == ()


def test_folders_named_after_splits_are_splits_where_they_hold_all(tmp_path):
    put(tmp_path, "train/x/a.wav", "Test/b.wav", "val/c.wav")
    splits = {name: split for name, (_, split) in found(tmp_path).items()}
    assert splits == {"train/x/a.wav": "train", "Test/b.wav": "test", "val/c.wav": "validation"}
    put(tmp_path, "elsewhere/d.wav")
    assert {split for _, split in found(tmp_path).values()} == {None}


def test_what_is_no_folder_of_recordings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing: expected a folder of recor"):
        recordings(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no recordings: expected WAV"):
        recordings(tmp_path)
    put(tmp_path, "a.wav")
    with pytest.raises(ValueError, match=r"a\.wav is a file: expected a folder"):
        recordings(tmp_path / "a.wav")
