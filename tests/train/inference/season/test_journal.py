"""The journal: what a crash leaves of it is sound, and what is not sound is refused."""

import json
import shutil

import numpy as np
import pytest

from train.inference.season import has_journal, open_journal
from train.inference.season.journal import Stamp
from train.shards import WHOLE, Shard

RUN = {"command": "predict", "model": "abc", "hop": None, "classes": ["a", "b"]}
STAMP = Stamp(100, 1_700_000_000_123_456_789)
ARRAY = np.arange(6, dtype=np.float32).reshape(3, 2)


def heard(*names):
    return [(name, STAMP, 1.5, 16_000, ARRAY + len(name)) for name in names]


@pytest.fixture
def folder(tmp_path):
    """A journal of three recordings, the last two added together."""
    with open_journal(tmp_path / "journal", RUN, WHOLE) as journal:
        journal.add(heard("a"))
        journal.add(heard("bb", "ccc"))
    return tmp_path / "journal"


def known(folder, shard=WHOLE):
    """The names in a journal and the sum of each one's array."""
    with open_journal(folder, RUN, shard) as journal:
        entries = [journal.entry(name, STAMP) for name in ("a", "bb", "ccc", "dddd")]
        entries = [entry for entry in entries if entry]
        arrays = journal.arrays(entries)
        return {entry.name: array.sum() for entry, array in zip(entries, arrays, strict=True)}


def test_what_was_added_is_there_again(folder):
    assert has_journal(folder)
    assert known(folder) == {"a": 21.0, "bb": 27.0, "ccc": 33.0}
    with open_journal(folder, RUN, WHOLE) as journal:
        entry = journal.entry("bb", STAMP)
        assert (entry.seconds, entry.sample_rate, entry.rows) == (1.5, 16_000, 3)


def test_a_recording_that_has_changed_was_not_heard(folder):
    with open_journal(folder, RUN, WHOLE) as journal:
        for other in (Stamp(101, STAMP.mtime_ns), Stamp(100, STAMP.mtime_ns + 1), None):
            assert ("a", other) not in journal
        assert ("a", STAMP) in journal


def test_cut_off_anywhere_it_has_what_was_whole_and_goes_on(folder, tmp_path):
    """Both files, at every length that a crash can leave."""
    lines, arrays = (folder / f"1-of-1.{kind}" for kind in ("jsonl", "npy"))
    whole = {kind.name: kind.read_bytes() for kind in (lines, arrays)}
    first = len(whole[lines.name].split(b"\n")[0]) + 1
    for length in [*range(first - 3, first + 3), *range(first, len(whole[lines.name]), 37)]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        (copy / lines.name).write_bytes(whole[lines.name][:length])
        names = ["a", "bb", "ccc"][: whole[lines.name][:length].count(b"\n")]
        assert [*known(copy)] == names
        with open_journal(copy, RUN, WHOLE) as journal:
            journal.add(heard("dddd"))
        assert [*known(copy)] == [*names, "dddd"]
        assert known(copy)["dddd"] == 39.0


def test_a_line_whose_array_is_not_on_the_disk_counts_for_nothing(folder):
    arrays = folder / "1-of-1.npy"
    content = arrays.read_bytes()
    arrays.write_bytes(content[: len(content) * 2 // 3 - 1])
    assert [*known(folder)] == ["a"]
    with open_journal(folder, RUN, WHOLE) as journal:
        journal.add(heard("dddd", "ccc"))
    assert known(folder) == {"a": 21.0, "ccc": 33.0, "dddd": 39.0}


def test_shards_see_what_others_wrote_but_write_their_own(folder):
    with open_journal(folder, RUN, Shard(2, 8)) as journal:
        assert ("a", STAMP) in journal
        journal.add(heard("dddd"))
    assert [*known(folder)] == ["a", "bb", "ccc", "dddd"]
    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) == [
        "1-of-1.jsonl", "1-of-1.npy", "2-of-8.jsonl", "2-of-8.npy", "run.json"
    ]  # fmt: skip


def test_what_another_shard_is_writing_is_left_alone(folder):
    other = folder / "2-of-8.jsonl"
    (folder / "2-of-8.npy").write_bytes(b"")
    other.write_bytes(b'{"name": "half')
    assert [*known(folder)] == ["a", "bb", "ccc"]
    assert other.read_bytes() == b'{"name": "half'


def test_the_journal_of_another_run_is_refused_with_what_differs(folder):
    other = {**RUN, "model": "xyz", "hop": 0.5, "precision": "bf16"}
    with pytest.raises(ValueError, match="the journal of another run") as caught:
        open_journal(folder, other, WHOLE).__enter__()
    assert "model abc, not xyz; hop none, not 0.5; precision none, not bf16" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert known(folder)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"name": 3}',
        json.dumps(
            {"name": "a", "size": -1, "mtime_ns": 0, "seconds": 1.0, "sample_rate": 1, "rows": 0}
            | {"begins": 0, "length": 0, "checksum": 0}
        ),
    ],
)
def test_a_damaged_line_is_named(folder, line):
    with (folder / "1-of-1.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"1-of-1.jsonl is damaged \(line 4\); remove") as caught:
        known(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_array_is_named(folder):
    arrays = folder / "1-of-1.npy"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(ValueError, match="what was found in ccc has changed"):
        known(folder)
