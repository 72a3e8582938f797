"""The time an epoch and to the end: told once, when it is known, and in words."""

from datetime import datetime

import pytest

from train.run.pace import Pace, clock_time, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_slow_steps_are_timed_after_a_few_of_them_and_once():
    clock = Clock()
    pace = Pace(epochs=10, steps_per_epoch=100, clock=clock)
    pace.begin_epoch(0)
    told = []
    for step, seconds in ((1, 60), (3, 64), (10, 78), (20, 98)):  # the first step compiles
        clock.now = seconds
        told.append(pace.look(step))
        if told[-1]:
            line = pace.announce(told[-1], 10 - step / 100, evaluated=False)
    assert told == [None, None, 200, None]  # 2 s a step; 4 s are too short to tell
    assert line.startswith("about 3 min an epoch without its evaluation, 33 min to the end, done ")


def test_an_epoch_counts_training_evaluation_and_saving():
    clock = Clock()
    pace = Pace(epochs=10, steps_per_epoch=10, clock=clock)
    pace.begin_epoch(5)  # goes on in the middle
    clock.now = 10
    pace.end_steps()
    clock.now = 14
    assert pace.end_epoch() == 2 * 10 + 4
    clock.now = 15  # saved
    pace.begin_epoch(0)
    clock.now = 25
    pace.end_steps()
    clock.now = 29
    assert pace.end_epoch() == pytest.approx((24 + (1 + 10 + 4)) / 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.04 s"),
        (1.26, "1.3 s"),
        (52.2, "52 s"),
        (360, "6 min"),
        (7500, "2 h 5 min"),
        (76 * 3600, "3 days 4 h"),
    ],
)
def test_durations_are_in_two_units_at_most(seconds, words):
    assert duration(seconds) == words


def test_another_day_is_named():
    now = datetime(2026, 11, 28, 23, 0)
    assert clock_time(now, 600) == "at 23:10"
    assert clock_time(now, 7200) == "on Sun 29 Nov at 01:00"
