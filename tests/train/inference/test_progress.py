"""Progress over recordings: what is said before and after, and what the bar counts."""

import io
import logging
from itertools import chain, repeat

import torch

from train.inference.progress import Progress


def test_the_lines_say_how_many_how_long_and_how_fast(caplog, monkeypatch):
    times = chain([0.0], repeat(2.0))
    monkeypatch.setattr("train.inference.progress.time.perf_counter", lambda: next(times))
    with caplog.at_level(logging.INFO), Progress("x", {"a": 1.0, "b": 60.0}, 100) as progress:
        progress.hear(torch.zeros(100))
        assert [len(block) for block in progress.through([torch.zeros(5_900)])] == [5_900]
        progress.end_recording()
        progress.end_recording()
        progress.finish()
    assert caplog.messages == [
        "2 recordings, 61 s of sound",
        "2 recordings, 60 s of sound in 2.0 s: 30 times real time",
    ]


def test_the_bar_is_over_seconds_of_sound(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("predict", {"a": 600.0}, 100) as progress:
        progress.hear(torch.zeros(30_000))
        progress.bar.refresh()
    line = next(line for line in terminal.getvalue().split("\r") if "50%" in line)
    assert line.startswith("predict:  50%|")
    assert "| 0 of 1 files, 5 min of 10 min [" in line
    assert "times real time]" in line


def test_where_there_is_no_terminal_a_line_a_minute_says_what_the_bar_would(caplog, monkeypatch):
    times = chain([0.0], map(float, range(30, 1000, 30)))
    monkeypatch.setattr("train.inference.progress.time.perf_counter", lambda: next(times))
    seconds = {"a": 60.0, "b": 60.0, "c": 120.0}
    with caplog.at_level(logging.INFO), Progress("x", seconds, 100, before=["a"]) as progress:
        progress.hear(torch.zeros(3_000))
        progress.hear(torch.zeros(3_000))
        progress.end_recording()
    assert caplog.messages == [
        "3 recordings, 4 min of sound; 1 of them heard before",
        "1 of 3 recordings, 2 min of 4 min of sound, 1.0 times real time, about 2 min left",
    ]
