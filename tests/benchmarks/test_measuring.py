"""The benchmarks themselves: fair turns, right ratios, a README that shows what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture
def measuring(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import measuring

    return measuring


def benchmark(script, *words, out):
    command = [sys.executable, str(FOLDER / script), *map(str, words), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return json.loads(out.read_text())


def test_contestants_take_turns_and_each_comes_first(measuring):
    import torch

    calls = []
    works = [lambda name=name: calls.append(name) for name in "abc"]
    seconds = measuring.race(works, 2, torch.device("cpu"))
    assert "".join(calls) == "abcbcacab"  # the first round warms up
    assert [len(times) for times in seconds] == [2, 2, 2]


def test_the_filterbanks_ratio_is_that_of_its_medians(tmp_path):
    words = ("--clips", 2, "--seconds", 1, "--rounds", 2, "--only", "KaldiFbank", "torchaudio")
    content = benchmark("bench_frontend.py", *words, out=tmp_path / "frontend.json")
    ours, theirs = content["cases"][0]["rows"]
    assert ours["to"] == theirs["name"]
    assert ours["ratio"] == pytest.approx(ours["clips_per_second"] / theirs["clips_per_second"])
    assert ours["slowest"] <= ours["clips_per_second"] <= ours["fastest"]
    assert content["machine"]["packages"]["torch"]
    assert "--out" not in content["command"]


@pytest.mark.slow
def test_the_gpu_script_runs_through_on_a_cpu(tmp_path):
    pytest.importorskip("transformers")
    words = ["--device", "cpu", "--preset", "tiny224", "--frames", 128, "--batch-size", 2]
    words += ["--largest", 2, "--rounds", 1, "--no-compiled"]
    content = benchmark("gpu.py", *words, out=tmp_path / "gpu.json")
    assert [case["case"].split(",")[0] for case in content["cases"]] == [
        "training step",
        "inference",
        "front end",
        "training step",
        "inference",
    ]
    assert all(row["share"] > 0 for row in content["cases"][0]["rows"])
    assert content["figures"]["esc50_minutes"] > 0
    assert set(content["figures"]["memory"]["plain"]) == {"1", "2"}


def test_the_readme_shows_the_results_that_are_committed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import readme

    text = readme.README.read_text(encoding="utf-8")
    assert readme.rendered(text) == text, "run python tests/benchmarks/readme.py"


def test_a_readme_without_marks_and_a_broken_result_are_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import readme

    with pytest.raises(ValueError, match="lacks <!-- speeds: begin -->"):
        readme.rendered("no marks", tmp_path)
    (tmp_path / "a.json").write_text('{"benchmark": "x"}')
    with pytest.raises(ValueError, match="lacks 'machine'; run its benchmark again"):
        readme.rendered(f"{readme.BEGIN}\n{readme.END}", tmp_path)
