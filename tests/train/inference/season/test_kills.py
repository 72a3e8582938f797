"""SIGKILL at any moment: the same command goes on, and its table ends with the same bytes.

This file is also the program that does it: python test_kills.py MODEL SOUNDS OUT KILLS SLEEP.
It loads PyTorch once, and every command runs in a fork of it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[4]
SLOWEST = 900.0  # seconds of a command


def command(words, sleep):
    """Run the command in a fork; its process number. It sleeps after each part."""
    process = os.fork()
    if process:
        return process
    from train.cli import main
    from train.inference.season.journal import Journal

    add = Journal.add

    def slow(journal, heard):
        add(journal, heard)
        time.sleep(sleep)

    Journal.add = slow
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(main(words))


def parts_heard(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill_and_go_on(words, journal, kills, step, sleep):
    """(recordings in the journal at each kill, exit code, largest memory of a command in MB)."""
    generator, seen = random.Random(0), []
    for _ in range(kills):
        process, begun = command(words, sleep), parts_heard(journal)
        wanted = begun + generator.randint(1, step)
        deadline = time.monotonic() + SLOWEST
        while parts_heard(journal) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 2 * sleep))  # anywhere in a part
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "it ended before it was killed"
        seen.append(parts_heard(journal))
    _, status, usage = os.wait4(command(words, sleep), 0)
    return seen, os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024


def program(model, sounds, out, kills, step, sleep):
    import torch

    import train.cli.predict  # noqa: F401

    torch.set_num_threads(1)
    words = ["predict", model, sounds, "--format", "csv", "--out", out, "--threshold", "0.3"]
    words += ["--batch-size", "2", "--device", "cpu"]
    journal = Path(f"{out}.journal") / "1-of-1.jsonl"
    if not Path(out).suffix:
        journal = Path(out) / "predict.journal" / "1-of-1.jsonl"
    seen, code, megabytes = kill_and_go_on(words, journal, kills, step, sleep)
    print(json.dumps({"seen": seen, "code": code, "megabytes": megabytes}))


def run(*words):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    whole = [sys.executable, __file__, *map(str, words)]
    result = subprocess.run(
        whole, env=environment, capture_output=True, text=True, check=False, timeout=3_600
    )
    assert result.returncode == 0, result.stderr[-2_000:]
    found = json.loads(result.stdout)
    assert found["code"] == 0
    return found


def linked_season(folder, count):
    """So many recordings, links to a few, in folders of a thousand."""
    folder.mkdir()
    sources = []
    for number in range(7):
        noise = np.random.default_rng(number).normal(0, 0.1, 2_000 + 1_900 * number)
        sources.append(folder.parent / f"source{number}.wav")
        if not sources[-1].exists():
            soundfile.write(sources[-1], noise, 16_000)
    for number in range(count):
        place = folder / f"{number // 1_000:02}"
        place.mkdir(exist_ok=True)
        (place / f"{number:05}.wav").hardlink_to(sources[number % 7])
    return folder


def tables(folder):
    return {file.name: file.read_bytes() for file in folder.rglob("*.csv")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_twice_the_tables_are_those_of_an_undisturbed_run(model_folder, tmp_path):
    season = linked_season(tmp_path / "season", 20)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    found = run(model_folder, season, killed, 2, 6, 0.02)
    assert 0 < found["seen"][0] < found["seen"][1] < 20 + 4
    from train.inference.detections import detect

    detect(model_folder, season, undisturbed, threshold=0.3, batch_size=2, device="cpu")
    assert len(tables(killed)) == 20
    assert tables(killed) == tables(undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_ten_thousand_recordings_killed_five_times(model_folder, tmp_path):
    season = linked_season(tmp_path / "season", 10_000)
    few = run(model_folder, linked_season(tmp_path / "few", 500), tmp_path / "few.csv", 0, 1, 0)
    whole = run(model_folder, season, tmp_path / "whole.csv", 0, 1, 0)
    killed = run(model_folder, season, tmp_path / "killed.csv", 5, 3_000, 0)
    assert len(set(killed["seen"])) == 5
    table = (tmp_path / "whole.csv").read_bytes()
    assert table.count(b"\n") > 10_000
    assert (tmp_path / "killed.csv").read_bytes() == table
    # Of each recording its path, file and place in the journal: 2 kB.
    assert whole["megabytes"] < few["megabytes"] + 40
    assert killed["megabytes"] < few["megabytes"] + 40


if __name__ == "__main__":
    model, sounds, out, kills, step, sleep = sys.argv[1:]
    program(model, sounds, out, int(kills), int(step), float(sleep))
