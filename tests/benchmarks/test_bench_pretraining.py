"""The benchmark of pretraining: each contestant runs, beside a supervised step."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("bench_pretraining")


def test_every_method_is_compared_with_a_supervised_step(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["measuring"], "memory", lambda *_: 0)  # no process of its own
    monkeypatch.setattr(bench, "CASES", (("words", 20, 1, (128, 4), (128, 2)),))
    out = tmp_path / "pretraining.json"
    monkeypatch.setattr(
        sys, "argv", ["b", "--rounds", "1", "--threads", "1", "--only", "fp32", "--out", str(out)]
    )
    threads = torch.get_num_threads()
    bench.main()
    torch.set_num_threads(threads)
    rows = {row["name"]: row for row in json.loads(out.read_text())["cases"][0]["rows"]}
    supervised = rows["supervised fp32"]
    for method in ("ssast, contrastive", "ssast, joint", "mae"):
        row = rows[f"{method}, fp32"]
        speeds = row["clips_per_second"], supervised["clips_per_second"]
        assert row["ratio"] == pytest.approx(speeds[0] / speeds[1])


@pytest.mark.parametrize("method", ["ssast", "mae"])
def test_a_step_changes_the_encoder(bench, monkeypatch, method):
    made = []
    make = bench.pretraining_model
    monkeypatch.setattr(
        bench, "pretraining_model", lambda config: made.append(make(config)) or made[-1]
    )
    loss = "joint" if method == "ssast" else "reconstruction"
    step = bench.pretraining(method, loss, 20, 2, (128, 4), "fp32", "cpu")
    before = made[0].encoder.positions.detach().clone()
    step()
    assert not torch.equal(made[0].encoder.positions, before)
