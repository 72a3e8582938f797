"""What is written lies on the disk before it is named, and nothing is lost or left by a kill."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from data.files import atomic_file, atomic_folder, recover, this_process, writing
from data.files.processes import Process, has_ended


@pytest.fixture(autouse=True)
def new_process():
    """Leftovers are looked for once a process and folder."""
    writing._sweep.cache_clear()


def fill(folder, text):
    with atomic_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a").write_text(text)


def ends(work):
    """Another process that does some work, as a fork of this one; its exit code."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def calls(monkeypatch):
    """What is synced and renamed, in order, as the name of the file at that time."""
    found, real = [], {"fsync": os.fsync, "replace": Path.replace}

    def fsync(descriptor):
        found.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        real["fsync"](descriptor)

    def replace(path, target):
        found.append(("name", Path(target).name))
        return real["replace"](path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc tells names of open files")
def test_a_file_is_on_the_disk_before_it_is_named_and_its_name_after(tmp_path, calls):
    with atomic_file(tmp_path / "new" / "a") as temporary:
        temporary.write_text("x")
    assert calls == [
        ("sync", tmp_path.name),  # that it holds `new`
        ("sync", temporary.name),
        ("name", "a"),
        ("sync", "new"),
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc tells names of open files")
def test_all_of_a_folder_is_on_the_disk_before_it_is_named(tmp_path, calls):
    fill(tmp_path / "model", "x")
    assert calls[:2] == [("sync", "a"), ("sync", "inner")]
    assert calls[2][1].endswith("-model")
    assert calls[3:] == [("name", "model"), ("sync", tmp_path.name)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges names")
def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path):
    fill(tmp_path / "model", "x")
    ended, missing = threading.Event(), []

    def look():
        while not ended.is_set():
            if not (tmp_path / "model").exists():
                missing.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        fill(tmp_path / "model", "y")
    ended.set()
    thread.join()
    assert not missing
    assert (tmp_path / "model" / "inner" / "a").read_text() == "y"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_where_names_cannot_be_exchanged_a_folder_is_replaced_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_renameat2", lambda: None)
    fill(tmp_path / "model", "x")
    fill(tmp_path / "model", "y")
    assert (tmp_path / "model" / "inner" / "a").read_text() == "y"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("finder", ["reader", "writer"])
def test_a_kill_between_the_two_renames_leaves_the_older_folder_to_be_found(tmp_path, finder):
    fill(tmp_path / "model", "older")
    real = Path.replace

    def replace(path, target):
        if target.name == "model":
            os._exit(9)
        real(path, target)

    def write():
        writing._renameat2 = lambda: None
        Path.replace = replace
        fill(tmp_path / "model", "new")

    assert ends(write) == 9
    assert not (tmp_path / "model").exists()
    if finder == "reader":
        recover(tmp_path / "model")
    else:
        writing._sweep.cache_clear()
        with atomic_file(tmp_path / "beside") as temporary:
            temporary.touch()
        (tmp_path / "beside").unlink()
    assert (tmp_path / "model" / "inner" / "a").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path, manager):
    def write():
        with manager(tmp_path / "a") as temporary:
            temporary.touch()
            os._exit(9)

    assert ends(write) == 9
    (left,) = tmp_path.iterdir()
    fill(tmp_path / "b", "x")
    assert not left.exists()


def test_what_others_may_be_writing_stays_unless_it_is_old(tmp_path):
    pid, start, machine = this_process()
    ours = tmp_path / f".writing-{pid}.{start}.{machine}-a"
    elsewhere = tmp_path / f".writing-4194303.{start}.0123abcd-b"  # no such process here
    older = tmp_path / ".writing-4194303-c"  # as an older version names it
    for path in (ours, elsewhere, older):
        path.touch()
    fill(tmp_path / "model", "x")
    assert ours.exists() and elsewhere.exists() and older.exists()
    for path in (elsewhere, older):
        os.utime(path, (0, 0))
    writing._sweep.cache_clear()
    fill(tmp_path / "model", "x")
    assert ours.exists() and not elsewhere.exists() and not older.exists()


def test_a_link_to_a_folder_is_replaced_and_its_target_stays(tmp_path):
    fill(tmp_path / "target", "x")
    (tmp_path / "model").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="could not write"):
        fill(tmp_path / "model", "y")
    assert (tmp_path / "model" / "inner" / "a").read_text() == "x"


def test_only_a_process_of_this_machine_is_known_to_have_ended():
    process = this_process()
    assert not has_ended(process)
    assert has_ended(process._replace(start=process.start + 1)) == (process.start > 0)
    assert not has_ended(Process(4_194_304, 1, "0123abcd"))
    assert has_ended(Process(4_194_304, 1, process.machine))  # beyond what Linux gives
    assert not has_ended(Process(-1, 1, process.machine))
