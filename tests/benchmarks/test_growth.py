"""Growth: slopes are those of the figures, and every figure is measured at tiny sizes."""

import csv
import importlib
import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("bench_growth")


def run(growth, monkeypatch, out: Path, *words) -> dict:
    monkeypatch.setattr(sys, "argv", ["bench_growth.py", *map(str, words), "--out", str(out)])
    growth.main()
    return json.loads(out.read_text())


def test_slopes_are_named(growth):
    sizes = [1, 10, 100, 1000]
    assert growth.slope(sizes, [5, 1, 10, 100], 0.01) == pytest.approx(1)  # of the largest ones
    assert growth.slope(sizes, [1, 0.2, 0.1, 0.4], 1.0) == pytest.approx(0)
    named = {0.0: "flat", 0.5: "less than linear", 1.0: "linear", 1.3: "a little more", 2.0: "more"}
    for slope, word in named.items():
        assert growth.in_words(slope).startswith(word)
    rows = [
        {"what": "x", "against": "clips", "size": size, "seconds": size**2, "peak MB": 7}
        for size in sizes
    ]
    assert growth.growth(rows) == {
        "x against clips": "time more than linear (slope 2.00), memory flat (slope 0.00)"
    }


def test_clips_and_recordings_are_measured(growth, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(growth, "fresh", lambda work, *arguments: work(*arguments))
    words = ("--clips", 150, 300, "--minutes", 1, "--processes")
    content = run(growth, monkeypatch, tmp_path / "growth.json", *words)
    rows = {(row["what"], row["size"]): row for row in content["rows"]}
    works = ("open folder", "open table", "split", "first start", "later start")
    clips = [(what, size) for size in (150, 300) for what in works]
    assert list(rows) == [*clips, ("stream", 1), ("timeline", 1)]
    assert rows["first start", 300]["audio files read"] >= 600  # headers and blocks
    assert rows["later start", 300]["audio files read"] == 0
    assert "later start against clips" in content["figures"]
    with (tmp_path / "growth.csv").open() as file:
        assert [row["what"] for row in csv.DictReader(file)] == [what for what, _ in rows]
    plots = sorted(path.name for path in tmp_path.glob("*.png"))
    assert plots == ["growth-clips.png", "growth-minutes.png"]
    assert "0 audio files read before the first batch" in capsys.readouterr().out


@pytest.mark.slow
def test_processes_are_measured(growth, monkeypatch, tmp_path):
    words = ("--clips", "--minutes", "--processes", 1, 2, "--clips-of-a-run", 500)
    content = run(growth, monkeypatch, tmp_path / "growth.json", *words)
    assert [(row["what"], row["size"]) for row in content["rows"]] == [("run", 1), ("run", 2)]
