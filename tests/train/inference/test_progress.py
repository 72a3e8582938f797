"""Progress over recordings: what is said before and after, and what the bar counts."""

import io
import logging

import torch

from train.inference.progress import Progress


def test_the_lines_say_how_many_how_long_and_how_fast(caplog, monkeypatch):
    times = iter([0.0, 2.0])
    monkeypatch.setattr("train.inference.progress.time.perf_counter", lambda: next(times))
    with caplog.at_level(logging.INFO), Progress("x", {"a": 1.0, "b": 60.0}, 100) as progress:
        progress.hear(torch.zeros(100))
        assert [len(block) for block in progress.through([torch.zeros(5_900)])] == [5_900]
        progress.finish(2)
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
    assert "| 5 min of 10 min [" in line
    assert "times real time]" in line
