"""`embed` and its command: the vectors are the classifier's, and each row says of what."""

from importlib import import_module

import numpy as np
import pytest
import soundfile
import torch

from data import load_audio
from train.inference import embed, predict
from train.inference.recordings import find_recordings
from train.inference.season.vectors import embeddings_writer, write_npz


@pytest.mark.precision
@pytest.mark.parametrize(("level", "shape"), [("clip", ()), ("frame", (5,)), ("patch", (12, 5))])
def test_vectors_are_those_of_the_classifier(model_folder, classifier, sounds, level, shape):
    files = [sounds / "a.wav", sounds / "short.wav"]
    found = list(embed(model_folder, files, level=level, device="cpu"))
    assert [each.path for each in found] == files
    assert [(each.starts.tolist(), each.ends.tolist()) for each in found] == [
        ([0.0], [0.625]),
        ([0.0], [0.3]),
    ]
    for each in found:
        assert each.vectors.shape == (1, *shape, 16)
        expected = classifier.embed(load_audio(each.path)[None], level=level)
        assert np.allclose(each.vectors, expected, atol=1e-5)


def test_a_long_recording_is_a_row_a_window(model_folder, classifier, sounds):
    (found,) = embed(model_folder, [sounds / "long.wav"], device="cpu")
    size = classifier.window_size
    starts = [*range(0, 80_000 - size, size), 80_000 - size]
    assert found.starts.tolist() == [start / 16_000 for start in starts]
    assert found.ends[-1] == 5.0
    window = load_audio(sounds / "long.wav")[starts[2] : starts[2] + size]
    assert np.allclose(found.vectors[2], classifier.embed(window[None])[0], atol=1e-5)
    (denser,) = embed(model_folder, [sounds / "long.wav"], hop=0.25, device="cpu")
    assert np.diff(denser.starts)[:-1] == pytest.approx(0.25)


def test_what_the_classifier_cuts_is_one_row(model_folder, classifier, tmp_path):
    for extra, rows in ((0, 1), (1, 2)):
        noise = np.random.default_rng(0).normal(0, 0.1, classifier.longest_clip + extra)
        soundfile.write(tmp_path / "a.wav", noise, 16_000)
        (found,) = embed(model_folder, tmp_path / "a.wav", device="cpu")
        (heard,) = predict(model_folder, tmp_path / "a.wav", device="cpu")
        assert len(found.starts) == rows
        assert (len(heard.timeline.starts) > 1) == (rows > 1)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_recording_that_breaks_off_leaves_no_rows_behind(
    model_folder, sounds, monkeypatch, caplog, batch_size
):
    """Windows of it went through the model, alone or together with those of others."""

    def breaking(path, rate):
        yield torch.randn(40_000)
        raise ValueError(f"{path} is truncated")

    monkeypatch.setattr("train.inference.recordings.stream_audio", breaking)
    found = embed(model_folder, [sounds], skip_unreadable=True, batch_size=batch_size, device="cpu")
    assert [each.path.name for each in found] == ["a.wav", "short.wav", "a.flac"]
    assert "1 of 4 recordings left out" in caplog.text
    assert "long.wav is truncated" in caplog.text


def test_the_command_writes_what_the_function_gives(run_command, model_folder, sounds, tmp_path):
    words = ("embed", model_folder, sounds, "--level", "frame", "--device", "cpu")
    code, out, err = run_command(*words, "--out", tmp_path / "v.npz")
    assert code == 0, err
    assert out.endswith(f"wrote {tmp_path / 'v.npz'}: 11 rows at frame level, of 4 recordings\n")
    arrays = np.load(tmp_path / "v.npz")  # refuses pickles
    paths = sorted(find_recordings([sounds]))
    expected = list(embed(model_folder, paths, level="frame", device="cpu"))
    assert arrays["paths"].tolist() == [str(e.path) for e in expected for _ in e.starts]
    assert np.allclose(arrays["vectors"], np.concatenate([e.vectors for e in expected]), atol=1e-5)
    assert arrays["ends"].tolist() == [end for e in expected for end in e.ends.tolist()]


@pytest.mark.parametrize("level", ["clip", "patch"])
def test_parquet_holds_the_same(model_folder, sounds, tmp_path, level, monkeypatch):
    """In several tables, one after the other."""
    parquet = pytest.importorskip("pyarrow.parquet")
    embeddings = list(embed(model_folder, [sounds], level=level, device="cpu"))
    write_npz(tmp_path / "v.npz", embeddings)
    monkeypatch.setattr(import_module("train.inference.season.vectors"), "TABLE_BYTES", 1)
    embeddings_writer(tmp_path / "v.parquet")(tmp_path / "v.parquet", embeddings)
    arrays, table = np.load(tmp_path / "v.npz"), parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["path", "start", "end", "vector"]
    assert table["path"].to_pylist() == arrays["paths"].tolist()
    assert table["start"].to_pylist() == arrays["starts"].tolist()
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), arrays["vectors"])


def test_without_padding_frames_are_the_recordings_own(
    run_command, model_folder, classifier, sounds, tmp_path
):
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "v.parquet"
    words = ("embed", model_folder, sounds, "--no-pad", "--level", "frame", "--device", "cpu")
    code, _, err = run_command(*words, "--out", file)
    assert code == 0, err
    table = parquet.read_table(file)
    for path, vector in zip(table["path"].to_pylist(), table["vector"].to_pylist(), strict=True):
        if not path.endswith("long.wav"):
            expected = classifier.embed(load_audio(path)[None], level="frame", pad=False)[0]
            assert np.allclose(vector, expected, atol=1e-5)
    lengths = {
        path.rpartition("/")[2]: len(vector)
        for path, vector in zip(table["path"].to_pylist(), table["vector"].to_pylist(), strict=True)
    }
    assert lengths == {"a.wav": 5, "short.wav": 3, "a.flac": 5, "long.wav": 5}


def test_without_pyarrow_parquet_is_refused_in_one_line(
    run_command, model_folder, sounds, tmp_path, monkeypatch
):
    monkeypatch.setattr("train.run.tables.has_pyarrow", lambda: False)
    words = ("embed", model_folder, sounds, "--out", tmp_path / "v.parquet")
    code, _, err = run_command(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "needs pyarrow; install it with `pip install pyarrow`" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "vectors.csv"], "is to end in .npz or .parquet"),
        (["--out", "v.npz", "--batch-size", "0"], "--batch-size: 0 is too small"),
        (["--out", "v.npz", "--hop", "9"], "hop 9.0 s is not in (0, 0.655] s"),
        (["--out", "v.npz", "--level", "word"], "--level"),
        (["--out", "v.npz", "--level", "frame", "--no-pad"], "a name that ends in .parquet"),
    ],
)
def test_bad_options_are_one_line(
    run_command, model_folder, sounds, words, expected, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("embed", model_folder, sounds, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err
    assert not list(tmp_path.iterdir())
