"""Detections read back are those that were written, in every form; other tables are refused."""

import shutil

import numpy as np
import pytest
import soundfile

from train.inference.detections import DETECTION, FORMATS, Heard, Table
from train.inference.listening.tables import READABLE, Detection, read_detections
from train.run.tables import has_pyarrow

CLASSES = ("owl", 'a;b, "c"', "=wren")


def needs_pyarrow(form):
    if form == "parquet" and not has_pyarrow():
        pytest.skip("needs pyarrow")


@pytest.fixture
def recordings(tmp_path):
    """Two recordings, one in a folder of its own, and what is heard in them."""
    generator = np.random.default_rng(0)
    heard = []
    for name in ("north/dawn.wav", "dusk.wav"):
        path = tmp_path / "season" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(16_000), 1_000)
        starts = np.sort(generator.integers(0, 12, 5)).astype(float)
        rows = zip(
            starts, starts + 1.5, generator.integers(0, 3, 5), generator.random(5), strict=True
        )
        heard.append(Heard(path, 16.0, 1_000, np.array([*rows], DETECTION)))
    return heard


def expected(heard):
    return [
        Detection(one.path, start, end, CLASSES[number], pytest.approx(score, abs=1e-6))
        for one in heard
        for start, end, number, score in (row.item() for row in one.detections)
    ]


@pytest.mark.parametrize("form", READABLE)
def test_a_table_of_all_is_read_back(recordings, tmp_path, form):
    needs_pyarrow(form)
    path = tmp_path / f"all{FORMATS[form].ending}"
    FORMATS[form].write(path, recordings, Table(CLASSES, (0, 8_000), tmp_path / "season", True))
    assert [*read_detections(path)] == expected(recordings)


@pytest.mark.parametrize("form", READABLE)
@pytest.mark.parametrize("beside", [True, False])
def test_a_folder_of_tables_is_read_back(recordings, tmp_path, form, beside):
    needs_pyarrow(form)
    out = tmp_path / ("season" if beside else "tables")
    for one in recordings:
        path = out / one.path.relative_to(tmp_path / "season").with_suffix(FORMATS[form].suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        FORMATS[form].write(path, [one], Table(CLASSES, (0, 8_000), tmp_path / "season"))
    (out / "predict.journal").mkdir()
    (out / "predict.journal" / "run.json").write_text("{}")
    found = [*read_detections(out, None if beside else tmp_path / "season")]
    by_start = lambda each: (str(each.recording), each.start)  # noqa: E731
    assert sorted(found, key=by_start) == sorted(expected(recordings), key=by_start)


def test_relative_names_start_from_the_folder_given(recordings, tmp_path):
    one = Heard(recordings[1].path.relative_to(tmp_path), *list(vars(recordings[1]).values())[1:])
    FORMATS["csv"].write(tmp_path / "all.csv", [one], Table(CLASSES, (0, 1), tmp_path, True))
    assert [*read_detections(tmp_path / "all.csv", tmp_path)] == expected(recordings[1:])


def test_a_table_that_does_not_name_its_recording_needs_one_beside_it(recordings, tmp_path):
    path = tmp_path / "season" / "dusk.csv"
    FORMATS["csv"].write(path, recordings[1:], Table(CLASSES, (0, 1), tmp_path))
    assert [*read_detections(path)] == expected(recordings[1:])
    shutil.copy(recordings[1].path, tmp_path / "season" / "dusk.flac")
    with pytest.raises(FileNotFoundError, match=r"holds several \(dusk.flac, dusk.wav\)"):
        [*read_detections(path)]
    with pytest.raises(FileNotFoundError, match="holds none; say where with --recordings"):
        [*read_detections(path, tmp_path)]


HEADER = "file,start,end,class,probability\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "clip,target\na,b\n", "is no table of detections with probabilities"),
        ("a.txt", "1.0\t2.0\towl\n", "is no table of detections"),  # audacity's
        (
            "a.json",
            '[{"file": "a.wav", "classes": []}]',
            "not as `predict --format json` writes it",
        ),
        ("a.json", "[" * 5_000, "a.json, line 1 is not as"),
        ("a.csv", HEADER + "a.wav,0,1,owl\n", "line 2: 4 cells"),
        ("a.csv", HEADER + "a.wav,0,x,owl,0.5\n", "line 2: end 'x': expected a number"),
        ("a.csv", HEADER + "a.wav,2,1,owl,0.5\n", "line 2: from 2 to 1 s"),
        (
            "a.csv",
            HEADER + "a.wav,0,1,owl,1.5\n",
            r"line 2: probability 1.5: expected one in \[0, 1",
        ),
        ("a.csv", HEADER + "a.wav,0,1,,0.5\n", "line 2: class '': expected a name"),
        ("a.csv", HEADER + ",0,1,owl,0.5\n", "line 2: recording '': expected a name"),
    ],
)
def test_another_table_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        [*read_detections(tmp_path / name)]


def test_a_folder_of_two_formats_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    (tmp_path / "a.selections.txt").write_text("")
    with pytest.raises(ValueError, match=r"tables of several formats \(csv, raven\)"):
        [*read_detections(tmp_path)]


def test_a_path_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no tables"):
        [*read_detections(tmp_path)]
    with pytest.raises(FileNotFoundError, match=r"none.csv does not exist"):
        [*read_detections(tmp_path / "none.csv")]
