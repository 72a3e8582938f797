"""Vectors of a season: resumed and shared, the file ends with the same bytes."""

import numpy as np
import pytest
import soundfile

from train.inference.season.journal import Journal
from train.inference.season.vectors import write_embeddings
from train.shards import Shard

OPTIONS = {"batch_size": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    folder = tmp_path_factory.mktemp("season")
    generator = np.random.default_rng(0)
    for number in range(7):
        noise = generator.normal(0, 0.1, int(generator.integers(3_000, 40_000)))
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    return folder


@pytest.mark.parametrize(("kind", "level"), [("npz", "clip"), ("parquet", "patch")])
def test_stopped_or_shared_the_file_ends_with_the_same_bytes(
    model_folder, season, tmp_path, monkeypatch, kind, level
):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    options = {**OPTIONS, "level": level}
    whole = write_embeddings(model_folder, season, tmp_path / f"whole.{kind}", **options)
    assert (whole.recordings, whole.rows > 7) == (7, True)

    original, left = Journal.add, iter(range(2))

    def add(journal, heard):
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(journal, heard)

    monkeypatch.setattr(Journal, "add", add)
    stopped = tmp_path / f"stopped.{kind}"
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(model_folder, season, stopped, **options)
    assert not stopped.exists()
    monkeypatch.setattr(Journal, "add", original)
    write_embeddings(model_folder, season, stopped, **options)
    assert stopped.read_bytes() == whole.path.read_bytes()

    shared = tmp_path / f"shared.{kind}"
    for number in (1, 2, 3):
        piece = write_embeddings(model_folder, season, shared, shard=Shard(number, 3), **options)
        assert piece.path == tmp_path / f"shared.{number}-of-3.{kind}"
    write_embeddings(model_folder, season, shared, **options)
    assert shared.read_bytes() == whole.path.read_bytes()


def test_a_file_of_something_else_is_left_alone(model_folder, season, tmp_path):
    out = tmp_path / "mine.npz"
    out.write_text("precious")
    with pytest.raises(ValueError, match=r"mine\.npz was not written by this command: it has no "):
        write_embeddings(model_folder, season, out, **OPTIONS)
    assert out.read_text() == "precious"


def test_another_level_on_the_same_file_is_refused(model_folder, season, tmp_path):
    out = tmp_path / "v.npz"
    write_embeddings(model_folder, season, out, **OPTIONS)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="another run: level clip, not frame"):
        write_embeddings(model_folder, season, out, level="frame", **OPTIONS)
    assert out.read_bytes() == before


def test_a_share_without_recordings_has_no_vectors(model_folder, season, tmp_path):
    table = pytest.importorskip("pyarrow.parquet")
    options = {**OPTIONS, "shard": Shard(1, 2)}
    write_embeddings(model_folder, season / "0.wav", tmp_path / "v.parquet", **options)
    assert len(table.read_table(tmp_path / "v.1-of-2.parquet")) == 0
    written = write_embeddings(
        model_folder, season / "0.wav", tmp_path / "v.npz", shard=Shard(1, 2), **OPTIONS
    )
    assert (written.recordings, written.rows) == (0, 0)
    assert len(np.load(written.path)["paths"]) == 0
