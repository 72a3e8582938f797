"""Every write can fail: one line and exit 2, older versions readable, the same bits after a rerun.

`python -m tests.faults` interrupts at every operation, and writes what came of it.
"""

import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.commands import make_commands, make_inputs, serving
from tests.faults.faults import Trials, delays, faulty_disk

QUICK = {"train": 4, "convert": 8, "prepare": 8, "predict": 6, "embed": 4, "download": 8}
SLOW = [*QUICK, "predict --timeline", "predict --format", "convert to ONNX", "crossval", "ablate"]

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD is Linux'"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc"),
]


@pytest.fixture(scope="module")
def scratch():
    """In memory where the system has such a folder: what is tried is the order, not the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def trials(scratch):
    """Of a command by its name."""
    make_inputs(scratch)
    with serving(scratch / "served") as address, faulty_disk(scratch) as disk:
        commands = make_commands(scratch, address, plots=False)
        yield lambda name: Trials(disk, commands[name], scratch / "work")


@pytest.mark.parametrize(("name", "count"), QUICK.items())
def test_a_command_survives_what_a_disk_can_do(trials, name, count):
    command = trials(name)
    problems = [command.interrupt(*point) for point in command.points(count)]
    assert not any(problems), problems


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_command_survives_all_that_a_disk_can_do(trials, name):
    command = trials(name)
    problems = [command.interrupt(*point) for point in command.points()]
    assert not any(problems), problems


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_command_is_killed_at_any_moment(trials, name):
    command, seed = trials(name), random.randrange(2**32)
    problems = [command.kill(moment) for moment in delays(command, 20, seed)]
    assert not any(problems), (seed, problems)


def test_the_disk_fails_where_it_is_asked_to(trials):
    """So that the tests above try what they say."""
    command = trials("predict")
    opened, written = (
        next(number for number, (name, _) in enumerate(command.operations, 1) if name == wanted)
        for wanted in ("open", "write")
    )
    for at, kind, code, said in (
        (opened, "ENOSPC", 2, "No space left on device"),
        (written, "EIO", 2, "Input/output error"),
        (written, "short", 2, "No space left on device"),
        (written, "kill", -9, ""),
    ):
        command.reset()
        outcome = command.disk.run(command.command, command.folder, at, kind)
        assert (outcome.code, said in outcome.text) == (code, True), (kind, outcome.text)


def test_before_its_first_operation_a_command_owes_nothing(trials):
    command = trials("prepare")
    command.reset()
    assert command.unreadable(0) is None
    assert "is missing" in command.unreadable(len(command.operations))


@pytest.mark.parametrize("damage", ["missing", "damaged", "new"])
def test_what_is_lost_is_found_out(trials, damage):
    """The check itself: an older version that is gone, or neither the older nor the new one."""
    command = trials("predict")
    command.reset()
    assert command.unreadable(1) is None
    file = command.folder / "scores.csv"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("half")
    found = command.unreadable(1)
    assert found == ("scores.csv is missing" if damage == "missing" else found) and found
