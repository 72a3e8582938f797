"""`ast-audio bench`: which scripts it runs, with which words."""

from typing import get_args

import pytest

from train.cli import bench

SCRIPT = """
import sys
from pathlib import Path
Path(__file__).with_suffix(".txt").write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder of benchmarks that write down what they are given."""
    for name in (
        "bench_frontend",
        "bench_files",
        "bench_manifest",
        "bench_profile",
        "bench_process",
        "gpu",
    ):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    return tmp_path


def test_every_benchmark_gets_what_it_takes(scripts, run_command, tmp_path):
    words = ("--data", "clips", "--rounds", "2", "--threads", "1", "--no-compiled", "--out", "new")
    names = ("frontend", "files", "manifest", "profile", "process", "gpu")
    code, _, err = run_command("bench", *names, *words)
    assert code == 0, err
    common = "--rounds 2 --no-compiled --threads 1"
    assert {file.stem: file.read_text() for file in scripts.glob("*.txt")} == {
        "bench_frontend": f"--out new/frontend.json {common}",
        "bench_files": f"--out new/files.json --data clips {common}",
        "bench_manifest": "--out new/manifest.json",
        "bench_profile": "--out new/profile.json --rounds 2 --threads 1",
        "bench_process": "--out new/process.json --rounds 2",
        "gpu": f"--out new/gpu.json {common}",
    }


def test_without_recordings_it_says_what_is_left_out(scripts, run_command):
    out = run_command("bench", "files")[1]
    assert "without --data FOLDER, ESC-10's recordings are left out" in out


def test_a_benchmark_that_fails_is_named(scripts, fails):
    (scripts / "bench_files.py").write_text("raise SystemExit(1)")
    assert fails("bench", "files", "--data", "clips").startswith("benchmark files failed")
    assert "give ESC-10 with --data" in fails("bench", "finetuning")


def test_without_the_repository_it_says_where_the_benchmarks_are(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "none")
    assert "the benchmarks are in the repository" in fails("bench")


def test_the_benchmarks_that_can_be_named_are_there():
    for name in get_args(bench.Benchmark):
        script = "gpu.py" if name == "gpu" else f"bench_{name}.py"
        assert (bench.FOLDER / script).is_file(), name
