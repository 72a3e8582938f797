"""Of several processes that write one thing, one is at work and the others wait."""

import os
import threading

import pytest

from data.files import alone

pytest.importorskip("fcntl")


def fork(work):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_nothing_is_lost_where_processes_read_and_write_one_file(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")

    def count():
        for _ in range(50):
            with alone(path):
                path.write_text(str(int(path.read_text()) + 1))

    assert [code(child) for child in [fork(count) for _ in range(3)]] == [0, 0, 0]
    assert path.read_text() == "150"
    assert [file.name for file in tmp_path.iterdir()] == ["count"]


def test_who_waits_says_for_whom(tmp_path, caplog):
    entered = threading.Event()

    def second():
        with alone(tmp_path / "a"):
            entered.set()

    thread = threading.Thread(target=second)
    with alone(tmp_path / "a"):
        thread.start()
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()
    (message,) = caplog.messages
    assert message.startswith("waiting for process ") and message.endswith(f"writes {tmp_path}/a")


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    def die():
        with alone(tmp_path / "a"):
            os._exit(9)

    assert code(fork(die)) == 9
    assert [file.name for file in tmp_path.iterdir()] == [".a.lock"]
    with alone(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
