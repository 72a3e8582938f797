"""Hours of work end with the memory, files, threads and handles of their beginning.

Each command runs in a process of its own, of which a row a second is logged; the log is asserted.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import synthetic
from tests.faults.commands import MICRO

EPOCHS, HOURS = 1000, 24
PROGRAM = """
import sys
from ast_model.config import PRESETS
from train.cli import main
PRESETS["tiny224"] = {"width": 8, "heads": 1}
sys.exit(main(sys.argv[1:]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux' /proc"),
]


def watch(words: list[str], folder: Path, log: Path) -> list[dict[str, float]]:
    """Run a command of `ast-audio`; a row a second of its process and of the files in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    rows, begin = [], time.monotonic()
    while process.poll() is None:
        if row := look(process.pid):
            files = sum(1 for path in folder.rglob("*") if path.is_file())
            rows.append({"second": time.monotonic() - begin, **row, "files": files})
        time.sleep(1)
    assert process.returncode == 0, process.stderr.read().decode()
    with log.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    return rows


def look(pid: int) -> dict[str, float]:
    """Memory in MB, threads and handles of a process; empty where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        memory, threads = int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])
        handles = len([*Path(f"/proc/{pid}/fd").iterdir()])
    except (OSError, KeyError):
        return {}
    return {"memory": memory, "threads": threads, "handles": handles}


def assert_flat(rows: list[dict[str, float]], megabytes: float) -> None:
    """The last quarter has no more than the second one; memory, no more than so much more."""
    quarter = len(rows) // 4
    assert quarter >= 3, "too short to tell"
    early, late = rows[quarter : 2 * quarter], rows[-quarter:]
    for name, more in (("memory", megabytes), ("threads", 0), ("handles", 1), ("files", 2)):
        before, after = (max(row[name] for row in part) for part in (early, late))
        assert after <= before + more, f"{name} grew from {before} to {after}"


def test_a_thousand_epochs_of_training(tmp_path):
    synthetic(tmp_path / "corpus", clips_per_class=5)
    words = ["train", "demo", "--data", str(tmp_path / "corpus"), *MICRO, "--fold", "1"]
    words += ["--cache", str(tmp_path / "cache"), "--epochs", str(EPOCHS)]
    rows = watch([*words, "--out", str(tmp_path / "run")], tmp_path / "run", tmp_path / "log.csv")
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + EPOCHS
    assert_flat(rows, megabytes=30)


def test_a_day_of_sound(tmp_path):
    torch.manual_seed(0)
    model = AST(ASTConfig(num_classes=3, num_frames=512, width=8, depth=1, heads=1)).eval()
    frontend = Frontend(FrontendConfig(num_frames=512))
    weights.save(tmp_path / "model", AudioClassifier(model, frontend, ("a", "b", "c")))
    noise = np.random.default_rng(0).integers(-4, 5, 60 * 16_000, np.int16)
    with soundfile.SoundFile(tmp_path / "day.flac", "w", 16_000, 1, "PCM_16") as file:
        for _ in range(60 * HOURS):
            file.write(noise)
    out = tmp_path / "out"
    out.mkdir()
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "day.flac"), "--timeline"]
    rows = watch(
        [*words, "--csv", str(out / "windows.csv"), "--device", "cpu"], out, tmp_path / "log.csv"
    )
    assert (out / "windows.csv").stat().st_size > 0
    assert_flat(rows, megabytes=60)
