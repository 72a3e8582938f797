"""Files and folders appear whole or not at all."""

import errno

import pytest

from data.files import (
    atomic_file,
    atomic_folder,
    existing,
    existing_file,
    read_json,
    walk,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_whoever_reads_the_old_file_reads_it_to_its_end(tmp_path):
    """Renamed into place: a reader, or a crash, never meets a file half old and half new."""
    (tmp_path / "a").write_text("old")
    with (tmp_path / "a").open() as reader:
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_replaces_the_old_one(tmp_path):
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / content).touch()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["new"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("bug")])
def test_a_failure_leaves_everything_as_it_was(tmp_path, error):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    for manager, path in ((atomic_file, "file"), (atomic_folder, "folder")):
        with pytest.raises(type(error)), manager(tmp_path / path):
            raise error
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path / "folder") == ["old"]


def test_a_full_disk_says_what_to_do(tmp_path):
    with (
        pytest.raises(OSError, match=r"could not write .*a: No space left on device; free space"),
        atomic_file(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")


def test_what_is_no_full_disk_gets_a_remedy_of_its_own(tmp_path):
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    with (
        pytest.raises(OSError, match="Is a directory; choose another name"),
        atomic_file(tmp_path / "folder") as temporary,
    ):
        temporary.touch()
    with pytest.raises(OSError, match="denied; allow writing there"), atomic_file(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_full_disk_names_the_folder_and_not_the_temporary_one(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space") as caught, atomic_folder(tmp_path / "a") as a:
        write_json(a / "config.json", {})
    assert caught.value.strerror.startswith(f"could not write {tmp_path / 'a'}: No space left on")
    assert caught.value.strerror.count("could not write") == 1


def test_json_comes_back_and_anything_else_is_refused_by_name(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"name": "Bär", "epochs": [1, None]})
    assert read_json(file) == {"name": "Bär", "epochs": [1, None]}
    for content, message in (
        ("{", "is not valid JSON"),
        ("[1]", "is not a JSON object: it holds list"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"a\.json {message}"):
            read_json(file)


@pytest.mark.parametrize(
    ("named", "there", "found"),
    [
        ("a.wav", ["a.wav", "a.flac"], "a.wav"),
        ("a.WAV", ["a.flac"], "a.flac"),
        ("clip.1.wav", ["clip.1.flac", "clip.flac"], "clip.1.flac"),
        ("clip.1", ["clip.flac"], None),
        ("clip", ["clip.flac"], None),
        ("a.wav", ["b.flac"], None),
    ],
)
def test_a_prepared_file_stands_in_for_the_one_of_another_audio_suffix(
    tmp_path, named, there, found
):
    for name in there:
        (tmp_path / name).touch()
    assert existing(tmp_path / named) == (found and tmp_path / found)


def test_a_walk_ends_where_folders_are_in_one_another_without_end(tmp_path):
    (tmp_path / "/".join("x" * 150)).mkdir(parents=True)
    with pytest.raises(ValueError, match="more than 100 folders"):
        list(walk(tmp_path))


@pytest.mark.parametrize("name", ["x" * 5000 + ".wav", "x\0.wav", "\ud800.wav", "", ".", "/"])
def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path, name):
    assert existing_file(str(tmp_path), name) is None
