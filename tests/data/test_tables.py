"""Tables of strangers: limits, and messages that name the file and the line."""

import csv
import tracemalloc
from pathlib import Path

import pytest

from data.files import csv_records, csv_rows, parquet_batches, parquet_columns, text_lines
from data.files import tables as module


def refusal(read, path: Path, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        list(read(path, *arguments))
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message.replace(str(path), "TABLE")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n\xe9,3\n", "TABLE, line 3 is not UTF-8"),
        (b"a,b\n1,\0\n", "TABLE, line 2 holds a zero byte"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "TABLE, line 3: no row of a table"),
        (b"a,b\n1,2\n" + b"x" * 2000, "TABLE, line 3 has more than 1,000 bytes"),
        (b"a,b\n" + b"x" * 900 + b",2\n", "TABLE, line 2: no row of a table"),
    ],
    ids=["UTF-8", "zero byte", "quote", "line", "cell"],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path, monkeypatch, content, words):
    before = csv.field_size_limit(800)
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert words in refusal(csv_rows, path)
    csv.field_size_limit(before)


def test_a_line_without_end_takes_no_memory(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.truncate(2**31)
    tracemalloc.start()
    refusal(text_lines, path)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def test_rows_come_with_the_line_in_which_they_end(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"1\n1",2\r3,4\n')
    assert list(csv_rows(path)) == [(1, ["a", "b"]), (4, ["1\n1", "2"]), (5, ["3", "4"])]


def test_records_have_the_columns_and_as_many_cells_as_the_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3\n")
    assert next(csv_records(path, ["b"])) == (2, {"a": "1", "b": "2"})
    assert "lacks the columns c" in refusal(csv_records, path, ["c"])
    assert "TABLE, line 3: 1 cells" in refusal(csv_records, path, ["b"])


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")


def test_a_parquet_cell_that_is_no_value_is_named_with_its_row(tmp_path, parquet):
    import pyarrow

    path = tmp_path / "t.parquet"
    for kind in (pyarrow.timestamp("us"), pyarrow.timestamp("ms")):
        days = pyarrow.array([0, 2**62], pyarrow.int64()).cast(kind)
        parquet.write_table(pyarrow.table({"day": days}), path)
        assert "TABLE, row 2: column 'day'" in refusal(parquet_columns, path, ["day"])
    text = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, *map(pyarrow.py_buffer, (b"\0\0\0\0\1\0\0\0", b"\xff"))]
    )
    parquet.write_table(pyarrow.table({"name": text}), path)
    assert "TABLE" in refusal(parquet_columns, path, ["name"])


def test_parquet_that_unpacks_to_much_more_than_its_size_is_refused(tmp_path, parquet):
    path, number = tmp_path / "t.parquet", 2_000_000
    import pyarrow

    ones = pyarrow.array([1]).take(pyarrow.array([0] * number))
    parquet.write_table(pyarrow.table({"name": ones.cast("string"), "other": ones}), path)
    assert "2,000,000 values" in refusal(parquet_columns, path, ["name"])
    zeros = pyarrow.array(["0" * 100_000_000])
    parquet.write_table(pyarrow.table({"name": zeros}), path, compression="zstd")
    assert "bytes, expected at most" in refusal(parquet_columns, path, ["name"])


def test_equal_texts_of_parquet_are_one_and_nulls_stay(tmp_path, parquet):
    import pyarrow

    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"a": ["x" * 50, None, "x" * 50], "b": [1, None, 3]}), path)
    count, cells = parquet_columns(path, ["a", "b"])
    assert count == 3 and cells == {"a": ["x" * 50, None, "x" * 50], "b": [1, None, 3]}
    assert cells["a"][0] is cells["a"][2]
    first, second = parquet_batches(path, ["b", "a"], 2)
    assert (first, second) == ({"b": [1, None], "a": ["x" * 50, None]}, {"b": [3], "a": ["x" * 50]})


def test_a_text_of_many_rows_is_in_memory_once_in_a_batch(tmp_path, parquet):
    import pyarrow

    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"a": ["x" * 100_000] * 300}), path, compression="zstd")
    (batch,) = parquet_batches(path, ["a"], 2**16)
    assert len({id(text) for text in batch["a"]}) == 1 and len(batch["a"]) == 300
