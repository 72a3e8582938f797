"""Data sets of Hugging Face, written here and read without a network."""

import builtins
import io
import logging
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

datasets = pytest.importorskip("datasets", reason="data.hugging_face needs the package datasets")

import huggingface_hub  # noqa: E402  (a dependency of datasets)
import pyarrow  # noqa: E402
import pyarrow.parquet  # noqa: E402

from data.audio import load_audio  # noqa: E402
from data.corpora.hugging_face import hugging_face  # noqa: E402

AUDIO = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a local data set needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    datasets.disable_progress_bars()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def sound(number: int, format: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(800, number / 100), 16_000, format=format)
    return buffer.getvalue()


def clips(count: int, paths: list | None = None) -> pyarrow.Array:
    paths = paths or [f"{n}.wav" for n in range(count)]
    return pyarrow.array([{"bytes": sound(n), "path": p} for n, p in enumerate(paths)], AUDIO)


def write(path: Path, features: dict | None = None, **columns) -> Path:
    """One Parquet file; with the types of `features` as the package writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = pyarrow.table(columns)
    if features is None:
        pyarrow.parquet.write_table(columns, path)
    else:
        datasets.Dataset(columns).cast(datasets.Features(features)).to_parquet(str(path))
    return path


def labelled(folder: Path) -> Path:
    """Two splits with a ClassLabel whose names are not in alphabetical order."""
    features = {"audio": datasets.Audio(), "label": datasets.ClassLabel(names=["owl", "cow"])}
    for split, labels in (("train", [0, 1]), ("test", [1])):
        name = folder / "data" / f"{split}-00000-of-00001.parquet"
        write(name, features, audio=clips(len(labels)), label=labels)
    return folder


def refusal(source, cache, error: type[Exception] = ValueError, **arguments) -> str:
    with pytest.raises(error) as caught:
        hugging_face(source, cache=cache, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def summary(manifest) -> list[tuple]:
    return [(clip.split, clip.targets) for clip in manifest.clips]


def test_embedded_clips_become_files_with_the_classes_of_the_class_label(tmp_path, cache):
    manifest = hugging_face(labelled(tmp_path / "farm"), cache=cache)
    assert (manifest.name, manifest.classes) == ("farm", ("owl", "cow"))
    assert not manifest.multi_label
    assert summary(manifest) == [("train", (0,)), ("train", (1,)), ("test", (1,))]
    assert [clip.path.read_bytes() for clip in manifest.clips] == [sound(0), sound(1), sound(0)]
    assert load_audio(manifest.clips[1].path).shape == (800,)


def test_labels_may_be_left_out_and_have_blanks_around_them(tmp_path, cache):
    features = {"audio": datasets.Audio(), "label": datasets.ClassLabel(names=[" owl", "cow"])}
    file = write(tmp_path / "a.parquet", features, audio=clips(2), label=[0, 1])
    assert hugging_face(file, cache=cache).classes == ("owl", "cow")
    manifest = hugging_face(file, cache=cache, label_column="none")
    assert (manifest.classes, manifest.multi_label) == ((), True)
    assert [clip.targets for clip in manifest.clips] == [(), ()]
    file = write(tmp_path / "b.parquet", None, audio=clips(2))
    assert len(hugging_face(file, cache=cache, label_column="none").clips) == 2


def test_a_clip_is_written_once_and_nothing_half_written_stays(tmp_path, cache):
    source = labelled(tmp_path / "farm")
    before = hugging_face(source, cache=cache)
    files = [path for path in cache.rglob("*") if path.is_file()]
    times = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 2  # equal clips share a file
    assert hugging_face(source, cache=cache) == before
    assert [path.stat().st_mtime_ns for path in files] == times


def test_a_file_of_another_size_in_the_cache_is_written_anew(tmp_path, cache):
    source = labelled(tmp_path / "farm")
    path = hugging_face(source, cache=cache).clips[0].path
    path.write_bytes(b"RIFF")
    hugging_face(source, cache=cache)
    assert path.read_bytes() == sound(0)


def test_a_failed_write_leaves_no_file(tmp_path, cache, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        hugging_face(labelled(tmp_path / "farm"), cache=cache)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_paths_in_the_data_set_name_no_file(tmp_path, cache):
    paths = ["../../../escape.wav", str(tmp_path / "absolute.wav")]
    source = write(tmp_path / "evil.parquet", audio=clips(2, paths), label=["x", "y"])
    manifest = hugging_face(source, cache=cache)
    assert all(cache in clip.path.parents for clip in manifest.clips)
    assert not list(tmp_path.rglob("escape.wav"))
    assert not (tmp_path / "absolute.wav").exists()


@pytest.mark.parametrize("path", ["../secret.wav", "{root}/secret.wav", "gone.wav", "http://x/y"])
def test_a_clip_outside_of_the_data_set_is_refused(tmp_path, cache, path):
    (tmp_path / "secret.wav").write_bytes(sound(0))
    path = path.format(root=tmp_path)
    audio = pyarrow.array([{"bytes": None, "path": path}], AUDIO)
    write(tmp_path / "evil" / "a.parquet", audio=audio, label=["x"])
    message = refusal(tmp_path / "evil", cache)
    assert "example 1" in message
    assert "no file of this data set" in message


def test_a_clip_without_audio_is_refused(tmp_path, cache):
    audio = pyarrow.array([{"bytes": sound(0), "path": None}, None], AUDIO)
    source = write(tmp_path / "a.parquet", audio=audio, label=["x", "y"])
    assert "example 2 has no audio" in refusal(source, cache)


def test_the_suffix_follows_the_content(tmp_path, cache):
    sounds = [sound(0, "FLAC"), sound(0, "OGG"), sound(0, "AIFF"), b"\0"]
    audio = pyarrow.array([{"bytes": s, "path": "a.wav"} for s in sounds], AUDIO)
    manifest = hugging_face(write(tmp_path / "a.parquet", audio=audio, label=[0] * 4), cache=cache)
    assert [clip.path.suffix for clip in manifest.clips] == [".flac", ".ogg", ".aiff", ".audio"]


def test_one_split_named_train_is_not_divided_and_may_have_folds_and_groups(tmp_path, cache):
    source = write(
        tmp_path / "a.parquet", audio=clips(2), species=[10, 9], fold=[1, 2], speaker=["u", "v"]
    )
    manifest = hugging_face(source, cache=cache)
    assert manifest.classes == ("9", "10")
    assert [(clip.split, clip.fold, clip.group) for clip in manifest.clips] == [
        (None, 1, "u"),
        (None, 2, "v"),
    ]


@pytest.mark.parametrize("as_class_label", [True, False])
def test_lists_of_labels_are_multi_label(tmp_path, cache, as_class_label):
    if as_class_label:
        label = datasets.ClassLabel(names=["cow", "owl"])
        features, labels = {"audio": datasets.Audio(), "labels": datasets.List(label)}, [[1, 0], []]
    else:
        features, labels = None, [["owl", "cow"], []]
    source = write(tmp_path / "a.parquet", features, audio=clips(2), labels=labels)
    manifest = hugging_face(source, cache=cache)
    assert (manifest.classes, manifest.multi_label) == (("cow", "owl"), True)
    assert [clip.targets for clip in manifest.clips] == [(0, 1), ()]


def test_folds_and_several_splits_are_refused(tmp_path, cache):
    for split in ("train", "test"):
        name = tmp_path / "farm" / "data" / f"{split}-00000-of-00001.parquet"
        write(name, audio=clips(1), label=["x"], fold=[1])
    assert "expected no fold_column" in refusal(tmp_path / "farm", cache, fold_column="fold")
    assert [clip.fold for clip in hugging_face(tmp_path / "farm", cache=cache).clips] == [None] * 2


def test_no_clips(cache, monkeypatch):
    features = datasets.Features({"audio": datasets.Audio(), "label": datasets.Value("string")})
    nothing = datasets.IterableDataset.from_generator(lambda: iter(()), features=features)
    builder = SimpleNamespace(
        info=SimpleNamespace(download_size=None), as_streaming_dataset=lambda: {"train": nothing}
    )
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: builder)
    assert "has no clips" in refusal("someone/farm", cache, streaming=True)


@pytest.mark.parametrize("label", [-1, 2])
def test_an_unlabelled_clip_of_a_class_label_is_refused(tmp_path, cache, label):
    features = {"audio": datasets.Audio(), "label": datasets.ClassLabel(names=["owl", "cow"])}
    source = write(tmp_path / "a.parquet", features, audio=clips(2), label=[0, label])
    assert "example 2 has no label" in refusal(source, cache)


@pytest.mark.parametrize("divided", [False, True])
def test_what_save_to_disk_wrote(tmp_path, cache, divided):
    features = datasets.Features({"audio": datasets.Audio(), "label": datasets.Value("string")})
    data = pyarrow.table({"audio": clips(2), "label": ["b", "a"]})
    data = datasets.Dataset(data).cast(features)
    data = datasets.DatasetDict(train=data, validation=data) if divided else data
    data.save_to_disk(str(tmp_path / "saved"))
    manifest = hugging_face(tmp_path / "saved", cache=cache)
    expected = [("train", (1,)), ("train", (0,)), ("validation", (1,)), ("validation", (0,))]
    assert summary(manifest) == (expected if divided else [(None, (1,)), (None, (0,))])


def test_the_files_of_an_audiofolder_are_used_where_they_lie(tmp_path, cache):
    for name in ("train/owl/1.wav", "train/cow/2.wav", "test/owl/3.wav"):
        path = tmp_path / "farm" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(sound(1))
    manifest = hugging_face(tmp_path / "farm", cache=cache)
    assert manifest.classes == ("cow", "owl")
    assert sorted((clip.path.name, clip.split, clip.targets) for clip in manifest.clips) == [
        ("1.wav", "train", (1,)),
        ("2.wav", "train", (0,)),
        ("3.wav", "test", (1,)),
    ]
    assert not cache.exists()


def test_an_audiofolder_with_a_metadata_table(tmp_path, cache):
    for name in "ab":
        (tmp_path / "farm").mkdir(exist_ok=True)
        (tmp_path / "farm" / f"{name}.wav").write_bytes(sound(1))
    (tmp_path / "farm" / "metadata.csv").write_text("file_name,species\na.wav,owl\nb.wav,cow\n")
    assert hugging_face(tmp_path / "farm", cache=cache).classes == ("cow", "owl")


def test_splits_of_other_names_are_refused_until_they_are_assigned(tmp_path, cache):
    for split in ("train", "extra"):
        name = tmp_path / "farm" / "data" / f"{split}-00000-of-00001.parquet"
        write(name, audio=clips(1), label=["x"])
    assert "split 'extra'" in refusal(tmp_path / "farm", cache)
    assert "split 'no'" in refusal(tmp_path / "farm", cache, splits={"no": "train"})
    assert "as 'training'" in refusal(tmp_path / "farm", cache, splits={"train": "training"})
    splits = {"train": "train", "extra": "validation"}
    manifest = hugging_face(tmp_path / "farm", cache=cache, splits=splits)
    assert summary(manifest) == [("train", (0,)), ("validation", (0,))]
    assert len(hugging_face(tmp_path / "farm", cache=cache, splits={"extra": "test"}).clips) == 1


def test_two_columns_of_audio_are_refused_until_one_is_named(tmp_path, cache):
    source = write(tmp_path / "a.parquet", audio=clips(1), noise=clips(1), label=["x"])
    assert "2 columns" in refusal(source, cache)
    assert len(hugging_face(source, cache=cache, audio_column="noise").clips) == 1
    assert "0 columns" in refusal(source, cache, audio_column="sound")


def test_splits_that_differ_in_their_classes_are_refused(tmp_path, cache):
    for split, names in (("train", ["x", "y"]), ("test", ["y", "x"])):
        features = {"audio": datasets.Audio(), "label": datasets.ClassLabel(names=names)}
        data = datasets.Dataset(pyarrow.table({"audio": clips(1), "label": [0]}))
        data.cast(datasets.Features(features)).save_to_disk(str(tmp_path / "saved" / split))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "differ" in refusal(tmp_path / "saved", cache)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub_says_what_it_fetches(
    tmp_path, cache, monkeypatch, caplog, streaming
):
    caplog.set_level(logging.INFO)
    arrow = tmp_path / "arrow"
    local = datasets.load_dataset_builder(str(labelled(tmp_path / "farm")), cache_dir=str(arrow))
    local.info.download_size = 12_300_000
    asked = []

    def load_dataset_builder(*arguments, **keywords):
        asked.append((arguments, keywords))
        return local

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    manifest = hugging_face(
        "someone/farm", "small", revision="v1", cache=cache, streaming=streaming
    )
    assert asked == [(("someone/farm", "small"), {"revision": "v1"})]
    assert (manifest.name, len(manifest.clips)) == ("farm", 3)
    target = "without keeping it" if streaming else f"to {arrow}"
    assert f"someone/farm: fetching 12 MB from huggingface.co {target}" in caplog.text
    assert bool(list(arrow.rglob("*.arrow"))) is not streaming


def test_files_on_the_hub_are_fetched_from_the_data_set_alone(tmp_path, cache, monkeypatch):
    class FileSystem:
        def read_bytes(self, path):
            fetched.append(path)
            return sound(3)

    fetched = []
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", FileSystem)
    paths = ["hf://datasets/someone/farm@main/a.wav", "hf://datasets/other/farm@main/a.wav"]
    audio = pyarrow.array([{"bytes": None, "path": path} for path in paths], AUDIO)
    write(tmp_path / "farm" / "a.parquet", audio=audio, label=["x", "y"])
    local = datasets.load_dataset_builder(str(tmp_path / "farm"))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: local)
    message = refusal("someone/farm", cache, streaming=True)
    assert "example 2: 'hf://datasets/other/farm@main/a.wav' is no file" in message
    assert fetched == paths[:1]


def test_what_the_package_cannot_open_is_refused_in_one_line(tmp_path, cache, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "a.parquet is not a Parquet file" in refusal(tmp_path / "a.parquet", cache)
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder", cache)

    def fail(*_, **__):
        raise ConnectionError("no such\n  data set")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    assert "(no such data set)" in refusal("nobody/nothing", cache)


def test_parquet_that_unpacks_to_much_more_than_its_size_is_not_read(tmp_path, cache, monkeypatch):
    rows = pyarrow.array([0] * 300_000)
    audio = pyarrow.array([{"bytes": b"RIFF", "path": "a.wav"}], AUDIO).take(rows)
    label = pyarrow.array(["owl"]).take(rows)
    path = write(tmp_path / "farm" / "train.parquet", audio=audio, label=label)
    monkeypatch.setattr(datasets.IterableDataset, "__iter__", lambda _: pytest.fail("it is read"))
    for source in (path.parent, path):
        message = refusal(source, cache)
        assert message.startswith(f"{path} has 900,000 values") and "expected at most" in message


def test_no_file_and_no_id_of_the_hub(tmp_path, cache):
    assert "expected a file, a folder, or an id" in refusal("absent", cache, FileNotFoundError)
    assert "expected a file" in refusal(tmp_path / "absent", cache, FileNotFoundError)


def test_without_the_package_the_error_says_what_to_install(tmp_path, cache, monkeypatch):
    real_import = builtins.__import__

    def no_datasets(name, *arguments, **keywords):
        if name.startswith("datasets"):
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_datasets)
    assert "pip install 'ast-audio[hf]'" in refusal(tmp_path, cache)
