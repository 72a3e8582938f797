"""The command line: every command on real files, and one line with exit code 2 for bad input."""

import json
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import weights
from data import esc50
from train.cli import SUMMARIES, main
from train.recipes import RECIPES

TINY = [
    "--corpus", "esc50", "--num-frames", "64", "--frequency-mask", "8",
    "--time-mask", "16", "--epochs", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail; its one line on standard error, without the program's name."""

    def check(*words):
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("ast-audio: ")
        assert captured.err.count("\n") == 1, captured.err
        return captured.err.removeprefix("ast-audio: ").strip()

    return check


def test_train_says_where_everything_is(run_folder):
    assert (run_folder / "last" / "model.safetensors").is_file()
    assert (run_folder / "plots" / "confusion.png").is_file()


def test_overrides_reach_the_run(run_folder):
    recipe = json.loads((run_folder / "recipe.json").read_text())["recipe"]
    assert (recipe["corpus"], recipe["epochs"], recipe["num_frames"]) == ("esc50", 1, 64)


def test_evaluate_repeats_the_last_epochs_scores(run_folder, corpus_folder, capsys):
    words = ["--data", str(corpus_folder), "--device", "cpu", "--no-use-cache", "--json"]
    assert main(["evaluate", str(run_folder), *words]) == 0
    scores = json.loads(capsys.readouterr().out)
    header, last = (run_folder / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), map(float, last.split(",")), strict=True))
    assert scores["fold"] == 2
    for name in ("accuracy", "f1", "mAP", "loss"):
        assert scores[name] == pytest.approx(row[name], abs=1e-6)


def test_predict_names_classes_of_any_file(run_folder, tmp_path, capsys):
    file = tmp_path / "stereo 44100.flac"
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, (20_000, 2)), 44_100)
    words = ["predict", str(run_folder), str(file), "--top-k", "3", "--device", "cpu"]
    assert main(words) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == str(file)
    assert len(table) == 4
    assert main([*words, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    probabilities = [entry["probability"] for entry in result["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {entry["class"] for entry in result["classes"]} < set(
        weights.load(run_folder / "last").classes
    )


def test_a_run_is_repeated_from_its_recipe_file(run_folder, corpus_folder, tmp_path, capsys):
    words = ["train", str(run_folder / "recipe.json"), "--data", str(corpus_folder)]
    words += ["--out", str(tmp_path / "again"), "--device", "cpu", "--no-use-cache"]
    assert main(words) == 0
    assert "on fold 2" in capsys.readouterr().out
    for name in ("metrics.csv", "predictions.csv", "last/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run_folder / name).read_bytes()


def test_crossval_prints_the_table(corpus_folder, tmp_path, capsys):
    words = ["crossval", "demo", "--data", str(corpus_folder), "--out", str(tmp_path / "cv")]
    assert main([*words, *TINY, "--folds", "1", "2", "--no-use-cache"]) == 0
    assert "| fold | last epoch (1) | best mean epoch (1) |" in capsys.readouterr().out


def test_stats_are_those_of_the_normalised_input(corpus_folder, capsys):
    words = ["stats", "demo", "--data", str(corpus_folder), "--corpus", "esc50"]
    words += ["--device", "cpu", "--no-use-cache"]
    assert main(words) == 0
    mean, std = (
        float(word) for word in capsys.readouterr().out.split("--mean ")[1].split(" --std ")
    )
    from ast_model import Frontend
    from data import load_audio, synthetic

    frontend = Frontend(RECIPES["demo"].frontend_config())
    clips = synthetic(corpus_folder, clips_per_class=5).clips
    fbanks = torch.cat([frontend.filterbank(load_audio(clip.path)[None]) for clip in clips])
    assert mean == pytest.approx(fbanks.mean().item(), abs=1e-3)
    assert std == pytest.approx(fbanks.std(correction=0).item(), abs=1e-3)


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_lists_every_command(words, capsys):
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(f"  {command}" in text for command in SUMMARIES)


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: ast-audio {command}" in capsys.readouterr().out


def test_audit_finds_what_would_spoil_a_run(fails, corpus_folder, tmp_path, capsys):
    words = ["audit", "demo", "--data", str(corpus_folder), "--corpus", "esc50", "--no-use-cache"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "32 training and 8 held-out clips, 8 classes" in out
    assert out.endswith("nothing stands in the way of training demo on these data\n")
    copy = tmp_path / "copy"
    shutil.copytree(corpus_folder, copy)
    missing = min((copy / "audio").iterdir())
    missing.unlink()
    capsys.readouterr()
    assert main(["audit", "demo", "--data", str(copy), *words[4:]]) == 2
    assert missing.name in capsys.readouterr().err


def test_prepare_makes_flac_that_the_corpus_reads(corpus_folder, tmp_path, capsys):
    words = ["prepare", str(corpus_folder), str(tmp_path / "flac"), "--processes", "1"]
    assert main(words) == 0
    clips = esc50(tmp_path / "flac").clips
    assert len(clips) == 40
    assert {clip.path.suffix for clip in clips} == {".flac"}


def test_download_knows_its_data_sets(fails, tmp_path, monkeypatch):
    asked = []
    for name in ("esc50", "speech_commands"):
        target = f"train.cli.commands.download_{name}"
        monkeypatch.setattr(target, lambda *words, name=name: asked.append((name, *words)))
    assert main(["download", "esc50", str(tmp_path)]) == 0
    assert main(["download", "speech_commands", str(tmp_path), "--version", "v1"]) == 0
    assert asked == [("esc50", tmp_path), ("speech_commands", tmp_path, "v1")]
    assert "speech_commands" in fails("download", "imagenet", tmp_path)


def test_a_recipes_help_explains_every_field(capsys):
    with pytest.raises(SystemExit):
        main(["train", "esc50", "--help"])
    text = capsys.readouterr().out
    assert "--learning-rate" in text
    assert "1e-05" in text


def test_bad_words_are_named(fails, corpus_folder):
    assert "command 'trian' is unknown; use one of download" in fails("trian")
    assert "recipe 'esc51' is unknown; use one of demo" in fails("train", "esc51", "--data", "x")
    assert "the recipe comes first" in fails("train", "--data", "x")
    assert "--learning-rat" in fails("train", "demo", "--data", "x", "--learning-rat", "1")
    assert "--data" in fails("train", "demo")
    message = fails("train", "demo", "--data", corpus_folder, "--epochs", "many")
    assert "--epochs" in message
    assert "'many'" in message
    assert "epochs is 0, must be above 0" in fails("train", "demo", "--data", "x", "--epochs", "0")
    assert "preset 'huge' is unknown" in fails("train", "demo", "--data", "x", "--preset", "huge")


def test_bad_data_are_named(fails, corpus_folder, tmp_path):
    assert "nowhere" in fails("train", "esc10_scratch", "--data", tmp_path / "nowhere")
    message = fails(
        "train", "demo", "--data", corpus_folder, "--corpus", "esc50", "--fold", "9",
        "--out", tmp_path / "r",
    )  # fmt: skip
    assert "fold 9 does not exist" in message
    assert not (tmp_path / "r").exists()


def test_a_run_folder_of_another_recipe_is_refused(fails, run_folder, corpus_folder):
    words = ["train", "demo", "--data", corpus_folder, "--fold", "2", "--out", run_folder]
    assert "different recipe" in fails(*words, "--corpus", "esc50", "--device", "cpu")


def test_bad_models_and_files_are_named(fails, run_folder, corpus_folder, tmp_path):
    assert "no file or folder" in fails("predict", tmp_path / "none", __file__)
    assert "none.wav does not exist" in fails("predict", run_folder, tmp_path / "none.wav")
    assert "holds no audio files" in fails("predict", run_folder, tmp_path)
    assert "no recording was given" in fails("predict", run_folder)
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert "empty.wav" in fails("predict", run_folder, empty)
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 16_000)
    assert "short.wav lasts 6.2 ms; a model needs at least 25 ms" in fails(
        "predict", run_folder, short
    )
    words = ("evaluate", run_folder / "last", "--data", corpus_folder, "--fold", "9")
    assert "fold 9 does not exist" in fails(*words)


@pytest.mark.parametrize("megabytes", [0.001, pytest.param(10, marks=pytest.mark.slow), 30])
def test_a_full_disk_stops_in_one_line_and_the_same_command_goes_on(
    corpus_folder, tmp_path, megabytes
):
    """A limit on the size of files stands for the full disk: recipe, model or state fail."""
    words = [sys.executable, "-m", "train", "train", "demo", "--data", str(corpus_folder), *TINY]
    words += ["--no-use-cache", "--out", str(tmp_path / "run")]
    limit = int(megabytes * 2**20)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(**options):
        return subprocess.run(words, capture_output=True, text=True, env=environment, **options)

    stopped = command(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert stopped.returncode == 2, stopped.stderr
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert "File too large; free space there" in stopped.stderr
    assert not list(tmp_path.glob("run/**/.*"))
    assert not (tmp_path / "run" / "state" / "state.pt").exists()
    assert command().returncode == 0


def test_evaluate_refuses_data_of_other_classes(fails, run_folder, tmp_path):
    for name in ("meta", "audio"):
        (tmp_path / name).mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(16_000), 16_000)
    table = "filename,fold,target,category,esc10\na.wav,2,0,dog,True\n"
    (tmp_path / "meta" / "esc50.csv").write_text(table)
    message = fails("evaluate", run_folder, "--data", tmp_path, "--corpus", "esc50")
    assert message.endswith(f"{tmp_path} has dog; give the data it was trained for")


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["predict", str(tmp_path / "none"), "a.wav", "--debug"])


def test_python_minus_m_train_is_the_program():
    result = subprocess.run(
        [sys.executable, "-m", "train", "predict", "nowhere", "a.wav"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr == ("ast-audio: a.wav does not exist; name audio files or folders\n")
