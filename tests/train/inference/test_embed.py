"""`ast-audio embed`: the vectors are the classifier's, and each row says of what."""

import numpy as np
import pytest

from data import load_audio


@pytest.fixture
def embed(run_command, model_folder):
    def run(*words):
        code, out, err = run_command("embed", model_folder, *words, "--device", "cpu")
        assert code == 0, err
        return out

    return run


@pytest.mark.parametrize(("level", "shape"), [("clip", ()), ("frame", (5,)), ("patch", (12, 5))])
def test_vectors_are_those_of_the_classifier(embed, classifier, sounds, tmp_path, level, shape):
    file = tmp_path / "vectors.npz"
    out = embed(sounds / "a.wav", sounds / "short.wav", "--out", file, "--level", level)
    assert out == f"wrote {file}: 2 rows at {level} level, of 2 recordings\n"
    arrays = np.load(file)  # refuses pickles
    assert arrays["vectors"].shape == (2, *shape, 16)
    assert arrays["paths"].tolist() == [str(sounds / "a.wav"), str(sounds / "short.wav")]
    assert arrays["ends"].tolist() == [0.625, 0.3]
    for path, vectors in zip(arrays["paths"], arrays["vectors"], strict=True):
        expected = classifier.embed(load_audio(path)[None], level=level)[0]
        assert np.allclose(vectors, expected, atol=1e-5)


def test_a_long_recording_is_a_row_a_window(embed, classifier, sounds, tmp_path):
    embed(sounds / "long.wav", "--out", tmp_path / "v.npz")
    arrays = np.load(tmp_path / "v.npz")
    size = classifier.window_size
    starts = [*range(0, 80_000 - size, size), 80_000 - size]
    assert arrays["starts"].tolist() == [start / 16_000 for start in starts]
    assert arrays["ends"][-1] == 5.0
    waveform = load_audio(sounds / "long.wav")
    window = waveform[starts[2] : starts[2] + size]
    assert np.allclose(arrays["vectors"][2], classifier.embed(window[None])[0], atol=1e-5)
    embed(sounds / "long.wav", "--out", tmp_path / "v.npz", "--hop", "0.25")
    assert np.diff(np.load(tmp_path / "v.npz")["starts"])[:-1] == pytest.approx(0.25)


@pytest.mark.parametrize("level", ["clip", "patch"])
def test_parquet_holds_the_same(embed, sounds, tmp_path, level):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("v.npz", "v.parquet"):
        embed(sounds, "--out", tmp_path / name, "--level", level, "--batch-size", "3")
    arrays, table = np.load(tmp_path / "v.npz"), parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["path", "start", "end", "vector"]
    assert table["path"].to_pylist() == arrays["paths"].tolist()
    assert table["start"].to_pylist() == arrays["starts"].tolist()
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), arrays["vectors"])


def test_without_pyarrow_parquet_is_refused_in_one_line(
    run_command, model_folder, sounds, tmp_path, monkeypatch
):
    monkeypatch.setattr("train.tables.has_pyarrow", lambda: False)
    words = ("embed", model_folder, sounds, "--out", tmp_path / "v.parquet")
    code, _, err = run_command(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "needs pyarrow; install it with `pip install pyarrow`" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "vectors.csv"], "is to end in .npz or .parquet"),
        (["--out", "v.npz", "--batch-size", "0"], "batch_size 0 is not positive"),
        (["--out", "v.npz", "--hop", "9"], "hop 9.0 s is not in (0, 0.655] s"),
        (["--out", "v.npz", "--level", "word"], "--level"),
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
