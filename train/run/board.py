"""Scalars for TensorBoard, written by the thread that trains, so that it hears of a full disk."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from data.files import could_not_write


class Board:
    """A file of events in a folder.

    PyTorch's SummaryWriter writes in a thread, which prints a traceback where the disk is full, and
    hands on an error that names no file.

    Args:
        folder: made if need be.
        purge_step: what earlier files say from this step on no longer counts.

    Raises:
        OSError: as `add`.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.records = RecordWriter(self.path.open("xb"))
        except OSError as error:
            raise could_not_write(error, self.path) from error
        start = SessionLog(status=SessionLog.START)
        self._write(Event(file_version="brain.Event:2"), Event(step=purge_step, session_log=start))

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the scalars of a step.

        Raises:
            OSError: the file cannot be written.
        """
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Let go of the file."""
        self.records.close()

    def _write(self, *events: Event) -> None:
        try:
            for event in events:
                event.wall_time = time.time()
                self.records.write(event.SerializeToString())
            self.records.flush()
        except OSError as error:
            raise could_not_write(error, self.path) from error
