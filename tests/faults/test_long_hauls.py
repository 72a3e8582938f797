"""Hours of work end with the memory, files, threads and handles of their beginning.

Each command runs in a process of its own, of which a row a second is logged; the log is asserted.
"""

import csv
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
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


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    model = AST(ASTConfig(num_classes=3, num_frames=512, width=8, depth=1, heads=1)).eval()
    frontend = Frontend(FrontendConfig(num_frames=512))
    weights.save(folder, AudioClassifier(model, frontend, ("a", "b", "c")))


def write_noise(path: Path, hours: int) -> None:
    noise = np.random.default_rng(0).integers(-4, 5, 60 * 16_000, np.int16)
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for _ in range(60 * hours):
            file.write(noise)


def test_a_day_of_sound(tmp_path):
    write_model(tmp_path / "model")
    write_noise(tmp_path / "day.flac", HOURS)
    out = tmp_path / "out"
    out.mkdir()
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "day.flac"), "--timeline"]
    rows = watch(
        [*words, "--csv", str(out / "windows.csv"), "--device", "cpu"], out, tmp_path / "log.csv"
    )
    assert (out / "windows.csv").stat().st_size > 0
    assert_flat(rows, megabytes=60)


def test_a_page_that_stays_open_for_a_day_of_requests(tmp_path):
    """A person's: 3,000 tiles, 1,000 spans of sound, 500 clips to score, 200 uploads."""
    write_model(tmp_path / "model")
    (tmp_path / "sounds").mkdir()
    (tmp_path / "temporary").mkdir()
    write_noise(tmp_path / "sounds" / "hour.flac", 1)
    clip = io.BytesIO()
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000, format="WAV")
    words = ["serve", tmp_path / "model", "--port", "0", "--folder", tmp_path / "sounds"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words), "--device", "cpu"],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        hour = json.loads(request(address, "api/recordings/open?path=hour.flac", b""))["id"]
        page = urllib.request.urlopen(f"{address}api/events?shown={hour}")
        following = threading.Thread(target=follow, args=(page,), daemon=True)
        following.start()
        random = np.random.default_rng(0)
        rows = []
        for _ in range(100):
            for number in random.integers(0, 350, 30):
                request(address, f"api/recordings/{hour}/tiles/2/{number}.png")
            for start in random.integers(0, 3_590, 10):
                request(address, f"api/recordings/{hour}/audio.wav?start={start}&end={start + 5}")
            for _ in range(5):
                request(address, "api/predict", clip.getvalue())
            for _ in range(2):
                upload = request(address, "api/recordings?name=a.wav", clip.getvalue())
                request(address, f"api/recordings/{json.loads(upload)['id']}", method="DELETE")
            files = sum(1 for path in (tmp_path / "temporary").rglob("*") if path.is_file())
            rows.append({**look(process.pid), "files": files})
        assert following.is_alive()
    finally:
        process.terminate()
        process.wait()
    assert_flat(rows, megabytes=30)


def follow(page: http.client.HTTPResponse) -> None:
    """Read what happens until the server ends, as a page does."""
    with suppress(http.client.HTTPException, OSError):
        for _ in page:
            pass


def request(address: str, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
    asked = urllib.request.Request(address + path, body, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.read()
