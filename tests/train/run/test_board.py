"""What TensorBoard reads of a run."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from train.run.board import Board


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_tensorboard_reads_the_scalars_while_the_run_goes_on(tmp_path):
    board = Board(tmp_path, purge_step=1)
    board.add({"loss": 0.5, "accuracy": 1.0}, 1)
    board.add({"loss": 0.25, "accuracy": 1.0}, 2)
    assert read(tmp_path) == [(1, 0.5), (2, 0.25)]
    board.close()


def test_what_an_interrupted_run_wrote_from_there_on_goes(tmp_path):
    for steps, value in (((1, 2, 3), 0.5), ((2, 3), 0.25)):
        board = Board(tmp_path, purge_step=steps[0])
        for step in steps:
            board.add({"loss": value}, step)
        board.close()
    assert read(tmp_path) == [(1, 0.5), (2, 0.25), (3, 0.25)]


def test_a_full_disk_names_the_file_in_the_thread_that_trains(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    board = Board(tmp_path, purge_step=1)
    monkeypatch.setattr(RecordWriter, "flush", full)
    with pytest.raises(OSError, match=r"could not write .*tfevents.*: No space left on device; "):
        board.add({"loss": 0.5}, 1)
    with pytest.raises(OSError, match=r"could not write .*tfevents.*: No space left on device; "):
        Board(tmp_path, purge_step=1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"could not write .*tfevents.*: Not a directory; "):
        Board(tmp_path / "file" / "tensorboard", purge_step=1)
