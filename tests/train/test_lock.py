"""The lock of a run: one holder, and a dead one's run is taken over once."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from train import lock
from train.lock import claimed


def write_lock(run, pid, host=None, age=0.0):
    """The lock of another process, last renewed `age` seconds ago."""
    file = run.with_name(f"{run.name}.lock.0")
    file.write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid, "since": "then"}))
    os.utime(file, (time.time() - age,) * 2)
    return file


@pytest.fixture(scope="module")
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_held_run_is_not_given_twice_and_a_released_one_is(tmp_path):
    run = tmp_path / "fold1"
    with claimed(run) as holder:
        assert holder == ""
        with claimed(run) as other:
            assert f"process {os.getpid()} on {socket.gethostname()} since" in other
        assert len(list(tmp_path.iterdir())) == 1  # who found it held released nothing
    assert list(tmp_path.iterdir()) == []
    with claimed(run) as holder:
        assert holder == ""


def test_runs_whose_names_begin_alike_are_apart(tmp_path):
    with claimed(tmp_path / "fold1"), claimed(tmp_path / "fold1.lock") as holder:
        assert holder == ""


def test_a_lock_is_released_when_training_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "fold1"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path, dead_pid):
    write_lock(tmp_path / "fold1", dead_pid)
    with claimed(tmp_path / "fold1") as holder:
        assert holder == ""
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_machine_is_taken_over_after_long_silence(tmp_path, dead_pid):
    write_lock(tmp_path / "fold1", dead_pid, "elsewhere", age=lock.STALE_SECONDS - 30)
    with claimed(tmp_path / "fold1") as holder:
        assert holder == f"process {dead_pid} on elsewhere since then"
    write_lock(tmp_path / "fold1", dead_pid, "elsewhere", age=lock.STALE_SECONDS + 30)
    with claimed(tmp_path / "fold1") as holder:
        assert holder == ""


def test_a_lock_that_is_not_written_yet_counts_as_held(tmp_path):
    (tmp_path / "fold1.lock.0").touch()
    with claimed(tmp_path / "fold1") as holder:
        assert holder == "another process"


def test_a_heartbeat_renews_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    with claimed(tmp_path / "fold1"):
        (file,) = tmp_path.iterdir()
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 5
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_come_at_once_one_gets_the_run(tmp_path, dead_pid, stale):
    if stale:
        write_lock(tmp_path / "fold1", dead_pid)
    start, end, got = threading.Barrier(8), threading.Barrier(8), []

    def come():
        start.wait()
        with claimed(tmp_path / "fold1") as holder:
            got.append(holder)
            end.wait()  # all have asked before the one releases

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count("") == 1
