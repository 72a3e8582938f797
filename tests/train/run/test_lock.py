"""The lock of a run folder: one holder, and a dead one's run is taken over once."""

import errno
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data.files import this_process
from train.run import lock
from train.run.lock import RunInUse, claim, is_lock


@pytest.fixture
def run(tmp_path):
    return tmp_path / "fold1"


def write_lock(run, pid, host=None, age=0.0, machine=None, start=1):
    """The lock of another process, last renewed `age` seconds ago; None: of this machine."""
    run.mkdir(exist_ok=True)
    file = run / "lock.0"
    holder = {"host": host or socket.gethostname(), "pid": pid, "since": "then", "start": start}
    file.write_text(json.dumps({**holder, "machine": machine or this_process().machine}))
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture(scope="module")
def dead_pid():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_held_run_is_not_given_twice_and_a_released_one_is(run):
    with claim(run):
        with pytest.raises(RunInUse) as refused, claim(run):
            pass
        assert [file.name for file in run.iterdir()] == ["lock.0"]  # still held
        assert all(map(is_lock, run.iterdir()))
    holder = f"process {os.getpid()} on {socket.gethostname()} since"
    assert refused.value.holder.startswith(holder)
    assert str(refused.value).startswith(f"{run} is in use by {holder}")
    with claim(run):
        pass


def test_the_error_travels_between_processes(run):
    error = pickle.loads(pickle.dumps(RunInUse(run, "process 3")))
    assert (error.folder, error.holder) == (run, "process 3")


def test_a_lock_is_released_when_training_fails(run):
    with pytest.raises(KeyboardInterrupt), claim(run):
        raise KeyboardInterrupt
    assert not run.exists()  # nothing was begun


def test_what_was_begun_stays(run):
    with claim(run):
        (run / "recipe.json").touch()
    assert [file.name for file in run.iterdir()] == ["recipe.json"]


def test_a_folder_that_was_there_stays(run):
    run.mkdir()
    with claim(run):
        pass
    assert list(run.iterdir()) == []


def test_a_dead_process_of_this_machine_is_taken_over_at_once(run, dead_pid):
    write_lock(run, dead_pid)
    with claim(run):
        assert sorted(file.name for file in run.iterdir()) == ["lock.0", "lock.1"]
    assert list(run.iterdir()) == []


def test_a_process_of_another_machine_is_taken_over_after_long_silence(run, dead_pid):
    write_lock(run, dead_pid, "elsewhere", lock.STALE_SECONDS - 30, "0123abcd")
    with pytest.raises(RunInUse, match=f"process {dead_pid} on elsewhere since then"), claim(run):
        pass
    write_lock(run, dead_pid, "elsewhere", lock.STALE_SECONDS + 30, "0123abcd")
    with claim(run):
        pass


def test_a_host_name_alone_proves_no_death(run, dead_pid):
    write_lock(run, dead_pid, machine="0123abcd")  # another container, its process alive
    with pytest.raises(RunInUse), claim(run):
        pass


def test_a_process_number_that_was_given_anew_is_not_the_holder(run):
    write_lock(run, os.getpid(), start=this_process().start + 1)
    with claim(run):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM])
def test_a_lock_that_cannot_be_written_is_not_left(run, monkeypatch, number):
    """EPERM: a file system without hard links, where it is written all the same."""

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.hardlink_to", refused)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="No space"), claim(run):
            pass
        assert not any(run.iterdir())
    else:
        with claim(run):
            assert [file.name for file in run.iterdir()] == ["lock.0"]
            assert json.loads((run / "lock.0").read_text())["pid"] == os.getpid()


def test_a_lock_that_is_not_written_yet_counts_as_held(run):
    run.mkdir()
    (run / "lock.0").touch()
    with pytest.raises(RunInUse, match="in use by another process"), claim(run):
        pass


def test_a_heartbeat_renews_the_lock(run, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    with claim(run):
        (file,) = run.iterdir()
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 5
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_come_at_once_one_gets_the_run(run, dead_pid, stale):
    if stale:
        write_lock(run, dead_pid)
    start, end, refusals = threading.Barrier(8), threading.Barrier(8), []

    def come():
        start.wait()
        try:
            with claim(run):
                end.wait()  # all have asked before the one releases
        except RunInUse as error:
            refusals.append(error)
            end.wait()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 7


def test_of_processes_that_train_together_the_main_one_holds_the_run(run, monkeypatch):
    monkeypatch.setattr(lock, "on_main_process", lambda work: None)  # as another one sees it
    with claim(run):
        assert not run.exists()


REPOSITORY = Path(__file__).resolve().parents[3]
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


def test_a_container_of_the_same_host_name_takes_nothing_from_a_living_process(run):
    """It numbers its processes anew, so that the holder's number is nobody's there."""
    if shutil.which("unshare") is None or subprocess.run([*CONTAINER, "true"]).returncode:
        pytest.skip("this system lets nobody make a namespace of processes")
    script = (
        f"from pathlib import Path; from train.run.lock import _take; _take(Path({str(run)!r}))"
    )
    command = [*CONTAINER, sys.executable, "-c", script]
    with claim(run):
        refused = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert refused.stderr.strip().endswith("; wait for it, or give another --out"), refused.stderr
    assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in refused.stderr
