"""Each form of table, read back by a reader that is not ours, or field by field."""

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from train.inference.detections import DETECTION, FORMATS, Heard, Table
from train.inference.detections.formats import require_one_line

CLASSES = ('say "hi", =1+1', "owl")
LARK = Heard(
    Path("/season/a/lark.wav"),
    60.0,
    44_100,
    np.array([(0.0, 1.5, 0, 0.75), (58.5, 60.00001, 1, 0.5)], DETECTION),
)
SILENT = Heard(Path("/season/a/silent.wav"), 30.0, 44_100, np.array([], DETECTION))
WREN = Heard(Path("/season/wren.flac"), 20.0, 8_000, np.array([(2.0, 3.0, 1, 1.0)], DETECTION))
ONE = Table(CLASSES, (20.0, 8_000.0), Path("/season"))
SEVERAL = Table(CLASSES, (20.0, 8_000.0), Path("/season"), combined=True)


def write(tmp_path, form, recordings, table):
    file = tmp_path / f"table{FORMATS[form].suffix}"
    FORMATS[form].write(file, iter(recordings), table)
    return file


def cells(file, separator=","):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened, delimiter=separator))


def test_crowsetta_reads_a_raven_table(tmp_path):
    crowsetta = pytest.importorskip("crowsetta")
    file = write(tmp_path, "raven", [WREN], ONE)
    (box,) = crowsetta.formats.bbox.Raven.from_file(file, annot_col="Class").to_bbox()
    assert (box.onset, box.offset, box.label) == (2.0, 3.0, "owl")
    assert (box.low_freq, box.high_freq) == (20.0, 4_000.0)  # a recording at 8 kHz holds no more


def test_a_raven_table_is_as_published(tmp_path):
    header, *rows = write(tmp_path, "raven", [LARK], ONE).read_text().splitlines()
    assert header.split("\t") == [
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
        "Class",
        "Confidence",
    ]
    first, last = (row.split("\t") for row in rows)
    assert first[:3] == ["1", "Spectrogram 1", "1"]
    assert first[3:] == [
        "0.000000", "1.500000", "20.000000", "8000.000000", 'say "hi", =1+1', "0.750000"
    ]  # fmt: skip
    assert last[4] == "60.000000"  # not beyond the recording


def test_raven_counts_time_through_several_recordings_and_says_which_one_it_is(tmp_path):
    header, *rows = cells(write(tmp_path, "raven", [LARK, SILENT, WREN], SEVERAL), "\t")
    assert header[-2:] == ["Begin Path", "File Offset (s)"]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    assert columns["Selection"] == ("1", "2", "3")
    assert [float(begin) for begin in columns["Begin Time (s)"]] == [0.0, 58.5, 60 + 30 + 2]
    assert [float(offset) for offset in columns["File Offset (s)"]] == [0.0, 58.5, 2.0]
    assert columns["Begin Path"] == (str(LARK.path), str(LARK.path), str(WREN.path))


def test_audacity_labels_are_start_end_label(tmp_path):
    file = write(tmp_path, "audacity", [LARK], ONE)
    assert file.read_text() == ('0.000000\t1.500000\tsay "hi", =1+1\n58.500000\t60.000000\towl\n')


def test_crowsetta_reads_audacity_labels(tmp_path):
    crowsetta = pytest.importorskip("crowsetta")
    file = write(tmp_path, "audacity", [WREN], ONE)
    labels = crowsetta.formats.seq.AudSeq.from_file(file)
    assert labels.start_times.tolist() == [2.0]
    assert labels.end_times.tolist() == [3.0]
    assert labels.labels.tolist() == ["owl"]


def test_a_kaleidoscope_table_is_as_published(tmp_path):
    header, *rows = cells(write(tmp_path, "kaleidoscope", [LARK, WREN], SEVERAL))
    assert header == [
        "INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "label", "confidence"
    ]  # fmt: skip
    assert rows[0] == [
        "/season", "a", "lark.wav", "0.000000", "1.500000", 'say "hi", =1+1', "0.750000"
    ]  # fmt: skip
    assert rows[2][:5] == ["/season", "", "wren.flac", "2.000000", "1.000000"]


def test_pandas_reads_csv_with_any_class_name(tmp_path):
    pandas = pytest.importorskip("pandas")
    one = pandas.read_csv(write(tmp_path, "csv", [LARK], ONE))
    assert one.columns.tolist() == ["start", "end", "class", "probability"]
    assert one["class"].tolist() == list(CLASSES)
    several = pandas.read_csv(write(tmp_path, "csv", [LARK, SILENT, WREN], SEVERAL))
    assert several["file"].tolist() == [str(LARK.path), str(LARK.path), str(WREN.path)]
    assert several["start"].tolist() == [0.0, 58.5, 2.0]


def test_pyarrow_reads_parquet_and_its_types_also_without_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    several = parquet.read_table(write(tmp_path, "parquet", [LARK, SILENT, WREN], SEVERAL))
    assert several.to_pylist()[2] == {
        "file": str(WREN.path), "start": 2.0, "end": 3.0, "class": "owl", "probability": 1.0
    }  # fmt: skip
    empty = parquet.read_table(write(tmp_path, "parquet", [SILENT], ONE))
    assert len(empty) == 0
    assert empty.schema.equals(several.schema)


def test_json_is_an_object_or_a_list_of_them(tmp_path):
    one = json.loads(write(tmp_path, "json", [WREN], ONE).read_text())
    row = {"start": 2.0, "end": 3.0, "class": "owl", "probability": 1.0}
    assert one == {"file": str(WREN.path), "timeline": [row]}
    several = json.loads(write(tmp_path, "json", [LARK, SILENT, WREN], SEVERAL).read_text())
    assert [len(each["timeline"]) for each in several] == [2, 0, 1]
    assert json.loads(write(tmp_path, "json", [], SEVERAL).read_text()) == []


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "parquet"])
def test_a_file_name_that_is_no_utf_8_is_written_as_it_is(tmp_path, form):
    odd = Heard(Path("/season/caf\udce9.wav"), 20.0, 16_000, WREN.detections)
    content = write(tmp_path, form, [odd], SEVERAL).read_bytes()
    assert form == "audacity" or b"caf\xe9.wav" in content or b"caf\\udce9.wav" in content


@pytest.mark.parametrize("name", ["a\tb.wav", "a\nb.wav", "caf\udce9.wav"])
def test_a_name_that_is_no_cell_of_a_table_without_quotes_is_refused(name):
    with pytest.raises(ValueError, match="rename it, or choose the format csv"):
        require_one_line(Path(name))
    require_one_line(Path("ähre und 雀.wav"))


def a_day_of(seconds):
    """A detection every four seconds."""
    found = np.empty(seconds // 4, DETECTION)
    found["start"] = np.arange(seconds // 4) * 4
    found["end"], found["class"], found["probability"] = found["start"] + 1, 1, 0.5
    return Heard(Path("/season/day.wav"), float(seconds), 16_000, found)


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "parquet"])
def test_memory_of_writing_does_not_grow_with_the_length_of_a_recording(tmp_path, form):
    """Up to 24 hours; what the recording itself takes is made before."""
    peaks = []
    for hours in (1, 24):
        heard = a_day_of(hours * 3_600)
        tracemalloc.start()
        write(tmp_path, form, [heard], ONE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_parquet_is_written_in_groups_of_rows(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("train.inference.detections.formats.ROWS_AT_ONCE", 1_000)
    file = write(tmp_path, "parquet", [a_day_of(14_000), WREN], SEVERAL)
    groups = parquet.ParquetFile(file).metadata
    assert groups.num_rows == 3_501
    assert groups.num_row_groups == 4
