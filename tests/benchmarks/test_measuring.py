"""The benchmarks: fair turns, right ratios, and each of them on a tiny case."""

import asyncio
import csv
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import data
import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import Clip
from train.cli import main
from train.inference import evaluate

FOLDER = Path(__file__).parent


@pytest.fixture
def module(monkeypatch):
    """Imports a benchmark by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def run_script(module, monkeypatch, tmp_path):
    """Runs a benchmark's command line in this process; what it wrote."""

    def run(name, *words):
        out = tmp_path / f"{name}.json"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words), "--out", str(out)])
        threads = torch.get_num_threads()
        module(name).main()
        torch.set_num_threads(threads)
        return json.loads(out.read_text())

    return run


def test_contestants_take_turns_and_each_comes_first(module):
    calls = []
    works = [lambda name=name: calls.append(name) for name in "abc"]
    seconds = module("measuring").race(works, 2, torch.device("cpu"))
    assert "".join(calls) == "abcbcacab"  # the first round warms up
    assert [len(times) for times in seconds] == [2, 2, 2]


def test_the_filterbanks_ratio_is_that_of_its_medians(module, run_script, monkeypatch):
    monkeypatch.setattr(module("measuring"), "memory", lambda *_: 0)  # no process of its own
    words = ("--clips", 2, "--seconds", 1, "--rounds", 2, "--only", "KaldiFbank", "torchaudio")
    content = run_script("bench_frontend", *words)
    ours, theirs = content["cases"][0]["rows"]
    assert ours["to"] == theirs["name"]
    assert ours["ratio"] == pytest.approx(ours["clips_per_second"] / theirs["clips_per_second"])
    assert ours["slowest"] <= ours["clips_per_second"] <= ours["fastest"]
    assert content["machine"]["packages"]["torch"]
    assert content["command"] == "bench_frontend.py " + " ".join(map(str, words))


@pytest.mark.parametrize(("bf16", "left"), [(19.0, ["fp32"]), (21.0, ["fp32", "bf16"])])
def test_a_precision_that_the_cpu_is_slow_in_is_left_out(
    module, run_script, monkeypatch, bf16, left
):
    """Where bf16 has a hundredth of the rate of fp32, a benchmark would not end."""
    measuring, rates = module("measuring"), {"fp32": 100.0, "bf16": bf16, "int8": 100.0}
    monkeypatch.setattr(measuring, "matrix_rate", lambda dtype, *_: rates[dtype])
    monkeypatch.setattr(measuring, "memory", lambda *_: 0)  # no process of its own
    monkeypatch.setattr(module("bench_inference"), "CASES", (("tiny224", 64, 1),))
    words = ("--rounds", 1, "--threads", 1, "--no-compiled", "--only", "ours fp32", "ours bf16")
    content = run_script("bench_inference", *words)
    assert [row["name"] for row in content["cases"][0]["rows"]] == [f"ours {name}" for name in left]
    said = any("Left out" in line for line in module("speed_page").section(content))
    assert said == ("bf16" not in left) == bool(content["left_out"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_inference_gives_logits(module, precision):
    work = module("networks").our_inference("tiny224", 64, 2, "cpu", precision)
    assert work().shape == (2, 50)


@pytest.mark.parametrize("name", ["gradient checkpointing", "patchout 4 rows, 15 columns"])
def test_a_training_step_runs_with_every_saving(module, name):
    changes = module("bench_training").SAVINGS[name]
    module("networks").our_training("tiny224", 512, 1, "cpu", "fp32", changes=changes)()


@pytest.mark.parametrize("name", ["bench_inference", "bench_training"])
def test_every_contestant_is_compared_with_one_of_the_same_precision(module, name, monkeypatch):
    benchmark = module(name)
    monkeypatch.setattr(module("networks"), "flops", lambda *_: 1)
    for size in benchmark.CASES:
        contestants = benchmark.contestants(*size, "cpu")
        precisions = {each.name: each.dtype for each in contestants}
        for each in contestants:
            for rival in each.against:
                expected = "fp32" if each.dtype == "int8" else each.dtype
                assert expected is None or precisions[rival] == expected


@pytest.fixture
def model(tmp_path):
    """A model folder of one block and three classes."""
    network = AST(ASTConfig(num_classes=3, num_frames=1024, width=16, depth=1, heads=2)).eval()
    classifier = AudioClassifier(network, Frontend(FrontendConfig(num_frames=1024)), tuple("abc"))
    weights.save(tmp_path / "model", classifier)
    return tmp_path / "model"


@pytest.mark.parametrize("pad", [True, False])
def test_files_are_classified(module, model, tmp_path, pad):
    bench = module("bench_files")
    paths = bench.write_clips(tmp_path, 2)
    results = bench.our_clips(model, paths, pad)()
    assert [sorted(name for name, _ in result) for result in results] == [["a", "b", "c"]] * 2


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_files_are_scored(module, model, tmp_path, cached, precision):
    bench = module("bench_files")
    clips = [data.Clip(path, (0,)) for path in bench.write_clips(tmp_path, 2)]
    logits, _ = bench.our_evaluation(model, clips, cached, precision)()
    assert logits.shape == (2, 10)


@pytest.mark.slow
def test_many_files_and_mixed_lengths_run_through(module, run_script, monkeypatch):
    monkeypatch.setattr(module("measuring"), "memory", lambda *_: 0)  # no process of its own
    monkeypatch.setattr(module("bench_recordings"), "LONGEST", 1.0)
    monkeypatch.setattr(module("bench_recordings"), "MINUTE", 1.0)
    words = ("--files", 2, "--clips", 2, "--minutes", 2, "--rounds", 1, "--threads", 1)
    first, *rest, season = run_script("bench_recordings", *words)["cases"]
    rates = {row["name"]: row for row in first["rows"]}
    assert [*rates][:2] == ["decoding alone", "model alone"]
    assert rates["predict"]["to"] == "decoding, then model, by turns"
    assert [case["case"].partition("spread ")[2] for case in rest] == [
        "evenly", "evenly in their logarithm",
    ]  # fmt: skip
    for case in rest:
        assert len([row for row in case["rows"] if row.get("to", "").endswith(", padded")]) == 4
    assert [row.get("to") for row in season["rows"]] == [None, "one file", "one file"]


@pytest.mark.parametrize("spread", ["evenly", "evenly in their logarithm"])
def test_mixed_lengths_reach_from_the_shortest_to_the_longest(module, spread):
    found = module("bench_recordings").lengths(spread, 50)
    assert (found.min(), found.max()) == (pytest.approx(0.2), pytest.approx(10))


@pytest.mark.parametrize("form", ["columns", "tuple"])
def test_a_segments_table_is_read(module, tmp_path, form):
    bench = module("bench_manifest")
    bench.write_table(tmp_path / "segments.csv", 20)
    (row,) = bench.measure_reading(form, 20, tmp_path / "segments.csv")
    assert (row["what"], sorted(row)) == ("read", ["bytes", "peak", "seconds", "what"])


def test_fewer_tokens_are_scored_and_timed(run_script, tmp_path):
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    data.synthetic(corpus, clips_per_class=5)
    words = ["--data", corpus, "--fold", 1, "--cache", tmp_path / "cache"]
    small = ["--depth", 1, "--num-frames", 64, "--epochs", 1, "--device", "cpu", "--out", run]
    words_of_run = ["train", "demo", "--corpus", "esc50", *words, *small]
    assert main([str(word) for word in words_of_run]) == 0
    words += ["--preset", "tiny224", "--frames", 32, "--rounds", 1, "--shares", 1, 0.25]
    full, fewer = run_script("bench_tokens", run, *words)["rows"]
    assert [full["tokens kept"], fewer["tokens kept"]] == [1, 0.25]
    expected = evaluate(run, corpus, fold=1, device="cpu", keep_tokens=0.25).scores["accuracy"]
    assert fewer["accuracy of 8 clips"] == expected
    speeds = [row["tiny224 at 32 frames, clips/s"] for row in (full, fewer)]
    assert fewer["tiny224, times as fast"] == pytest.approx(speeds[1] / speeds[0])


@pytest.mark.slow
def test_an_epoch_of_finetuning_is_trained_on_both_sides(module, recordings, capsys):
    pytest.importorskip("accelerate")
    bench = module("bench_finetuning")
    manifest = data.esc50(recordings / "esc10", "esc10")
    by_class = manifest.clips.targets()[0].argsort(kind="stable")
    manifest = replace(manifest, clips=manifest.clips[by_class[::8]])
    (row,) = bench.our_epoch(manifest, "tiny224", 64, "fp32")()
    assert row["epoch"] == 1 and 0 <= row["accuracy"] <= 1
    result = bench.their_epoch(manifest, "tiny224", 64, "fp32")()
    assert result.metrics["epoch"] == 1
    assert result.global_step == -(-len(manifest.split(1)[0]) // bench.BATCH)
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_the_manifests_script_runs_through(run_script):
    rows = run_script("bench_manifest", "--clips", 100, "--reads", 10)["rows"]
    assert [(row["form"], row["what"]) for row in rows] == [
        (form, what) for form in ("columns", "tuple") for what in ("built", "fork", "spawn", "read")
    ]


@pytest.mark.slow
def test_the_server_is_asked_by_one_client_and_by_many(module, run_script, monkeypatch):
    bench = module("bench_serve")
    monkeypatch.setattr(bench, "NETWORKS", {"one": {"depth": 1}})
    words = ("--precisions", "fp32", "--clients", 3, "--times", 2, "--rounds", 1, "--threads", 1)
    content = run_script("bench_serve", *words, "--minutes", 0.01)
    one, many = content["rows"]
    assert many["ratio"] == pytest.approx(many["clips/s"] / one["clips/s"])
    assert len(content["figures"]) == 2


def test_an_answer_of_another_clip_ends_the_benchmark(module):
    bench = module("bench_serve")
    with bench.serving({"depth": 1}, "fp32", 1) as port:
        clips = bench.clips_with_answers(port, 2)
        clips[0].answer = clips[1].answer
        with pytest.raises(ValueError, match="off its own"):
            asyncio.run(bench.ask(port, clips))


def test_soundscapes_hold_known_sounds_at_known_times(module, tmp_path):
    bench = module("bench_soundscapes")
    random, rate = np.random.default_rng(0), bench.RATE
    clips = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        sound = np.zeros(5 * rate)
        sound[rate : 3 * rate] = random.normal(0, 0.05 * (1 + number), 2 * rate)
        soundfile.write(path, sound, rate)
        clips.append(Clip(path, (number,)))
    sound, rows = bench.mixed(clips, ("a", "b", "c"), random)
    heard = np.abs(sound).reshape(-1, bench.ROW * rate) > 0
    assert [len(names) > 0 for names in rows] == (heard.sum(1) >= bench.PRESENT * rate).tolist()
    assert np.mean(sound[sound != 0] ** 2) == pytest.approx(1, abs=0.01)
    noise = bench.pink(len(sound), random)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**n : 2 ** (n + 1)].sum() for n in range(10, 19)]
    assert max(octaves) < 1.2 * min(octaves) and np.mean(noise**2) == pytest.approx(1)


@pytest.mark.slow
def test_networks_are_trained_and_scored_on_soundscapes(module, monkeypatch, tmp_path, recordings):
    pytest.importorskip("audiomentations")
    bench = module("bench_soundscapes")
    micro = ["--preset", "tiny224", "--depth", "1", "--patch", "128", "50", "--stride", "128", "50"]
    monkeypatch.setattr(bench, "NETWORKS", {"micro": (1, ["birdclef", *micro, "--workers", "0"])})
    words = ["--data", str(recordings / "esc10"), "--out", str(tmp_path), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_soundscapes.py", *words])
    bench.main()
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scored on"] for row in rows] == ["clean clips", "20 dB", "10 dB", "0 dB"]
    assert all(0 < float(row["mAP"]) < 1 for row in rows)


def test_onnx_files_and_pytorch_are_raced_and_scored(module, model, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
    bench = module("bench_onnx")
    classifier = weights.load(model)
    heard = [*bench.noise(classifier, 2)]
    forms = bench.written("small", classifier, heard, tmp_path)
    size = {"folder": forms.folder, "clips": 2, "threads": 1}
    for int8, file in ((False, forms.in_float), (True, forms.in_integers)):
        assert bench.in_pytorch(**size, int8=int8)().shape == (2, 3)
        assert bench.in_onnxruntime(file, **size)()[0].shape == (2, 3)
    (path,) = module("bench_files").write_clips(tmp_path, 1)
    found = bench.accuracies(forms, [data.Clip(path, (0,))])
    table = {row["form"]: row for row in bench.rows(forms, found)}
    assert len({row["accuracy"] for row in table.values()}) == 1
    assert table["ONNX int8"]["bytes"] < table["ONNX fp32"]["bytes"]
    assert [each.against for each in bench.speed(forms, 2, 1).contestants] == [
        (),
        *[("PyTorch fp32",)] * 3,
    ]


def test_a_profile_shares_out_all_time_of_every_case(module, run_script, monkeypatch):
    monkeypatch.setattr(module("bench_profile"), "CASES", (("tiny224", 64, 2, 1),))
    monkeypatch.setattr(module("measuring"), "WIDTH", 64)
    monkeypatch.setattr(module("bench_profile"), "slow_precisions", lambda device: [])
    rows = run_script("bench_profile", "--rounds", 1, "--threads", 1)["rows"]
    assert [row["work"] for row in rows] == [
        f"{kind}, tiny224, 64 frames, {clips} clips, {precision}"
        for kind, clips in (("inference", 2), ("training", 1))
        for precision in ("fp32", "bf16")
    ]
    for row in rows:
        share = {kind: row[kind] for kind in module("bench_profile").COLUMNS}
        assert sum(share.values()) == pytest.approx(100)
        everywhere = ("products", "bias", "attention", "copies, layout", "GELU", "norms")
        assert all(share[kind] > 0 for kind in everywhere)
        assert (share["optimiser"] > 0) == row["work"].startswith("training")
        assert share["casts"] > 0 or row["work"].endswith("fp32")
        assert row["reached, %"] > 0 and row["alone, %"] > 0


def test_a_profile_counts_the_products_of_the_network(module):
    networks = module("networks")
    work = networks.our_inference("tiny224", 64, 2, "cpu", "fp32")
    with module("bench_profile").Products() as products:
        work()
    assert products.total_flops() == 2 * networks.flops(networks.ours, "tiny224", 64)


def test_whoever_is_compared_with_is_not_set_up_as_the_program_is():
    """Importing what the benchmarks share sets nothing of the process."""
    code = f"import os, sys; sys.path.insert(0, {str(FOLDER)!r}); import measuring; "
    code += "print('GOMP_SPINCOUNT' in os.environ)"
    environment = {name: v for name, v in os.environ.items() if name != "GOMP_SPINCOUNT"}
    words = [sys.executable, "-c", code]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.slow
def test_the_gpu_script_runs_through_on_a_cpu(run_script, module, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(module("gpu"), "ESC50_FRAMES", 128)
    words = ["--device", "cpu", "--preset", "tiny224", "--frames", 128, "--batch-size", 2]
    words += ["--largest", 2, "--rounds", 1, "--no-compiled", "--fold-clips", 250]
    content = run_script("gpu", *words)
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
    assert set(content["figures"]["epoch_seconds"]) == {"bf16, files decoded", "bf16", "fp32"}
    assert content["figures"]["resumed_loss_differs_by"] == 0
    assert "skipped" in content["figures"]["gpu_tests"] or torch.cuda.is_available()


def test_the_page_of_speeds_shows_the_results_that_are_committed(module):
    page = module("speed_page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.rendered(text) == text, "run python tests/benchmarks/speed_page.py"


def test_a_page_without_marks_and_a_broken_result_are_told(module, tmp_path):
    page = module("speed_page")
    with pytest.raises(ValueError, match="lacks <!-- speeds: begin -->"):
        page.rendered("no marks", tmp_path)
    (tmp_path / "amx").mkdir()
    (tmp_path / "amx" / "a.json").write_text('{"benchmark": "x"}')
    with pytest.raises(ValueError, match="lacks 'machine'; run its benchmark again"):
        page.rendered(f"{page.BEGIN}\n{page.END}", tmp_path)
