"""A part of the campaign with fixed seeds, and what it would catch."""

import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaign.campaign import CLASSES, valid_inputs
from tests.campaign.case import FAILED, OK, InputClass, run_case

QUICK = ("audio", "tables", "layouts", "archives", "models", "checkpoints")


@pytest.fixture(scope="module")
def base():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR"):
            patch.setenv(name, os.environ.get(name, ""))  # as it is now, afterwards
        with valid_inputs([CLASSES[name] for name in QUICK]) as folder:
            yield folder


@pytest.mark.parametrize("name", QUICK)
def test_valid_inputs_are_read(base, name):
    the_only = sys.modules[CLASSES[name].make.__module__].the_only
    inputs = replace(CLASSES[name], mutators=(the_only,))
    for seed in range(4):
        verdict = run_case(inputs, seed, base)
        assert verdict.outcome == OK, verdict.reason


@pytest.mark.parametrize("name", QUICK)
def test_mutated_inputs_are_read_or_refused(base, name):
    for seed in range(8):
        verdict = run_case(CLASSES[name], seed, base)
        assert verdict.outcome != FAILED, verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_many_mutated_inputs_are_read_or_refused(name):
    with valid_inputs([CLASSES[name]]) as folder:
        for seed in range(1000, 1100):
            verdict = run_case(CLASSES[name], seed, folder)
            assert verdict.outcome != FAILED, verdict


def of_another_kind(folder: Path):
    raise KeyError(str(folder))


def without_a_name(folder: Path):
    raise ValueError("something is wrong")


def on_two_lines(folder: Path):
    raise ValueError(f"{folder}\nis wrong")


def not_finite(folder: Path):
    return [{"score": float("nan")}]


def writing_elsewhere(folder: Path):
    (folder.parent / "elsewhere").write_text("x")


def removing_elsewhere(folder: Path):
    opened = os.open(folder.parent, os.O_RDONLY)
    os.rmdir("nothing", dir_fd=opened)


def asking_the_network(folder: Path):
    socket.create_connection(("127.0.0.1", 9))


def starting_a_program(folder: Path):
    os.system("true")


def filling_memory(folder: Path):
    return len(bytearray(2**33))


def crashing(folder: Path):
    os.kill(os.getpid(), 11)


@pytest.mark.parametrize(
    "read",
    [
        of_another_kind,
        without_a_name,
        on_two_lines,
        not_finite,
        writing_elsewhere,
        removing_elsewhere,
        asking_the_network,
        starting_a_program,
        filling_memory,
        crashing,
    ],
)
def test_what_breaks_the_contract_fails(tmp_path, read):
    (tmp_path / "x").mkdir()
    inputs = InputClass("x", Path.mkdir, (lambda folder, random: None,), read)
    assert run_case(inputs, 0, tmp_path).outcome == FAILED


def waiting(folder: Path):
    time.sleep(60)


def computing(folder: Path):
    while True:
        pass


@pytest.mark.parametrize(("limit", "read"), [("PATIENCE", waiting), ("SECONDS", computing)])
def test_a_case_that_takes_too_long_is_killed_and_its_input_kept(
    tmp_path, monkeypatch, limit, read
):
    monkeypatch.setattr(f"tests.campaign.case.{limit}", 1)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "input").write_text("valid")
    inputs = InputClass("x", Path.mkdir, (lambda folder, random: None,), read)
    verdict = run_case(inputs, 3, tmp_path, tmp_path / "kept")
    assert verdict.outcome == FAILED
    assert "no answer in time" in verdict.reason
    assert (tmp_path / "kept" / "x-3" / "input").read_text() == "valid"
    assert not (tmp_path / "x-3").exists()
