"""What was found out about a file is kept as long as the file stays as it is, and no longer."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clips import Clip, Clips
from data.file_table import FileTable, key_of, look_at, salted

FIELDS = [("number", "<i4"), ("share", "<f8")]


def clips_of(*paths) -> Clips:
    return Clips.of(Clip(Path(path), (0,)) for path in paths)


class Finder:
    """Finds out twice the key's last digits, and counts how often it is asked."""

    def __init__(self, keys):
        self.keys, self.asked = np.asarray(keys, np.uint64), 0

    def __call__(self, row: int):
        self.asked += 1
        key = int(self.keys[row])
        return None if key % 7 == 3 else (key % 1000, key / 2)

    def look_up(self, table: FileTable) -> list:
        return table.values(self.keys, self, "test")[["number", "share"]].tolist()


def ask(table: FileTable, keys) -> tuple[list, int]:
    finder = Finder(keys)
    return finder.look_up(table), finder.asked


def expected(keys) -> list:
    return [(0, 0.0) if key % 7 == 3 else (key % 1000, key / 2) for key in keys]


KEYS = st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 12), max_size=20)


@given(st.lists(KEYS, min_size=1, max_size=5))
def test_a_table_gives_what_finding_out_anew_gives(tmp_path_factory, rounds):
    path = tmp_path_factory.mktemp("table") / "table"
    known = set()
    for keys in rounds:
        values, asked = ask(FileTable(path, FIELDS), keys)
        assert values == expected(keys)
        assert asked == sum(key not in known for key in keys)
        known |= {key for key in keys if key % 7 != 3}


def test_nothing_is_kept_without_a_path_or_of_a_file_that_is_not_there(tmp_path):
    for path, key in ((None, 5), (tmp_path / "table", 0)):
        for _ in range(2):
            assert ask(FileTable(path, FIELDS), [key]) == (expected([key]), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "a folder", "other fields"])
def test_a_damaged_table_costs_finding_out_alone(tmp_path, damage):
    path = tmp_path / "table"
    ask(FileTable(path, FIELDS), [1, 2])
    content = bytearray(path.read_bytes())
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "other fields":
        path.unlink()
        FileTable(path, [("size", "<f4")]).values(np.array([1], "<u8"), lambda _: (1,), "test")
    else:
        content[-3] ^= 1
        kinds = {"cut": content[:-8], "flipped": content, "text": b"no table", "empty": b""}
        path.write_bytes(kinds[damage])
    assert ask(FileTable(path, FIELDS), [1, 2]) == (expected([1, 2]), 2)


def test_a_table_of_another_version_is_not_read(tmp_path, monkeypatch):
    table = FileTable(tmp_path / "table", FIELDS)
    ask(table, [1])
    monkeypatch.setattr("data.file_table.VERSION", -1)
    assert ask(table, [1])[1] == 1


def test_a_table_that_cannot_be_written_is_told_and_does_without(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert ask(FileTable(tmp_path / "file" / "table", FIELDS), [1])[0] == expected([1])
    assert "read anew the next time" in caplog.text


def test_a_failed_write_leaves_the_entries_of_before(tmp_path, monkeypatch):
    table = FileTable(tmp_path / "table", FIELDS)
    ask(table, [1])
    before = table.path.read_bytes()

    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    ask(table, [2])
    assert table.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [table.path]


def test_what_was_found_out_before_an_error_is_kept(tmp_path):
    table, keys = FileTable(tmp_path / "table", FIELDS), np.array([1, 2, 4], "<u8")

    def interrupted(row: int):
        if row == 2:
            raise KeyboardInterrupt
        return Finder(keys)(row)

    with pytest.raises(KeyboardInterrupt):
        table.values(keys, interrupted, "test")
    assert ask(table, keys)[1] == 1


def test_the_table_is_bounded_and_drops_what_was_added_first(tmp_path):
    path = tmp_path / "table"
    for key in (30, 20, 11, 40, 50, 60):
        ask(FileTable(path, FIELDS, max_entries=4), [key])
    assert path.stat().st_size < 4 * 20 + 50
    assert ask(FileTable(path, FIELDS), [30, 20])[1] == 2
    ask(FileTable(path, FIELDS, max_entries=3), [70, 61])
    assert ask(FileTable(path, FIELDS), [70, 61, 20])[1] == 0


def add_each(path: Path, first: int) -> None:
    for key in range(first, first + 20):
        ask(FileTable(path, FIELDS), [key * 7])


def test_two_processes_that_write_at_once_lose_no_entry(tmp_path):
    path = tmp_path / "table"
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        list(pool.map(add_each, [path, path], [1, 101]))
    keys = [key * 7 for key in (*range(1, 21), *range(101, 121))]
    assert ask(FileTable(path, FIELDS), keys) == (expected(keys), 0)
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_waits_while_another_has_read_and_not_yet_written(tmp_path):
    path, others = tmp_path / "table", []
    ask(FileTable(path, FIELDS), [1])

    def begin_another(entries: np.ndarray) -> np.ndarray:
        reads.append(entries)
        if len(reads) == 2:  # the first looks the keys up, the second is that of the write
            others.append(Thread(target=ask, args=(FileTable(path, FIELDS), [2])))
            others[0].start()
            others[0].join(0.3)
        return np.ones(len(entries), bool)

    reads: list[np.ndarray] = []
    ask(FileTable(path, FIELDS, is_sound=begin_another), [4])
    others[0].join()
    assert ask(FileTable(path, FIELDS), [1, 2, 4])[1] == 0


def test_a_write_adds_to_what_another_process_wrote_meanwhile(tmp_path):
    table, keys = FileTable(tmp_path / "table", FIELDS), np.array([1], "<u8")

    def slow(row: int):
        ask(FileTable(table.path, FIELDS), [1, 2])
        return Finder(keys)(row)

    table.values(keys, slow, "test")
    assert ask(table, [1, 2])[1] == 0


def test_a_key_changes_with_path_size_and_time(tmp_path):
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"123")
    os.utime(file, ns=(0, 5))
    (before,) = look_at(clips_of(file))
    assert before["size"] == 3
    assert look_at(clips_of(file))[0] == before
    file.write_bytes(b"1234")
    os.utime(file, ns=(0, 5))
    (longer,) = look_at(clips_of(file))
    os.utime(file, ns=(0, 6))
    (later,) = look_at(clips_of(file))
    file.rename(other)
    (moved,) = look_at(clips_of(other))
    assert len({found["key"] for found in (before, longer, later, moved)}) == 4


def test_a_relative_path_is_the_file_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.chdir(tmp_path)
    assert look_at(clips_of("a")) == look_at(clips_of(tmp_path / "a"))
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").rename(tmp_path / "inner" / "a")
    monkeypatch.chdir(tmp_path / "inner")
    assert look_at(clips_of("a")) != look_at(clips_of(tmp_path / "a"))


def test_what_is_not_there_has_no_key(tmp_path):
    files = look_at(clips_of(tmp_path / "a", "\0"))
    assert files.tolist() == [(0, 0)] * 2
    assert salted(files["key"], 16_000).tolist() == [0, 0]


def test_keys_are_those_of_the_conditions():
    keys = np.array([5, 6], "<u8")
    other = salted(keys, 16_000)
    assert other.tolist() == salted(keys, 16_000).tolist() != salted(keys, 8_000).tolist()
    assert not set(other.tolist()) & {5, 6}
    assert key_of(keys, "a") == key_of(keys, "a")
    assert len({*map(int, (*key_of(keys, "a"), *key_of(keys, "b"), *key_of(keys[::-1], "a")))}) == 3


def test_a_pipe_or_a_file_too_large_is_no_table(tmp_path):
    path = tmp_path / "table"
    os.mkfifo(path)
    assert ask(FileTable(path, FIELDS), [1])[0] == expected([1])
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    assert ask(FileTable(tmp_path / "large", FIELDS), [1])[0] == expected([1])
