"""A table's runs: each trained once, by whichever process, and resumed where one was killed."""

import itertools
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data import esc50
from data.corpora import open_corpus
from data.files import temporary_path, this_process, write_json
from train.experiments import run_table as module
from train.experiments.cost import Cost
from train.experiments.run_table import (
    check_folders,
    choose_rows,
    plan_runs,
    rows_chosen_before,
    run_table,
)
from train.experiments.table import Row, Table
from train.experiments.tables import TABLES
from train.recipes import RECIPES
from train.run.folder import fingerprint, load_state, read_metrics, read_run, save_state
from train.run.lock import claim

COST = Cost(12, 5_000_000, 2_500_000_000, "a chip", "fp32", 8, 10.0, 10**9, 30.0, 5 * 10**8)
TABLE = """
from train.experiments.table import Row, Table
rows = [Row("low", {"learning_rate": 1e-4}), Row("high", {"learning_rate": 1e-3})]
TABLE = Table("rate", "Learning rate", rows, "low")
"""
NAMES = [f"{row}/seed{seed}/fold1" for seed in (0, 1) for row in ("low", "high")]


@pytest.fixture
def recipes(recipe):
    rows = (Row("low", {"learning_rate": 1e-4}), Row("high", {"learning_rate": 1e-3}))
    return Table("rate", "Learning rate", rows, "low").recipes(recipe)


@pytest.fixture
def runs(recipes, tmp_path):
    """Two rows of two seeds."""
    return plan_runs(recipes, tmp_path / "out", folds=[1], seeds=[0, 1])


@pytest.fixture
def words(corpus_folder, tmp_path):
    """The command of the same table, with costs that need not be measured."""
    file = tmp_path / "rate.py"
    file.write_text(TABLE)
    for name in ("low", "high"):
        write_json(tmp_path / "out" / name / "cost.json", asdict(COST))
    return [
        "ablate", str(file), "demo", "--data", str(corpus_folder), "--corpus", "esc50",
        "--depth", "1", "--num-frames", "64", "--frequency-mask", "8", "--time-mask", "16",
        "--device", "cpu", "--precision", "fp32", "--no-use-cache", "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def trained(text):
    """The runs that were announced and not left to another process."""
    lines = [line for line in text.splitlines() if line.strip()]
    followed = zip(lines, [*lines[1:], ""], strict=True)
    return [line for line, next in followed if line in NAMES and not next.startswith("left to")]


def finish(recipe, manifest, folder, **_):
    """Stands for `train`."""
    with claim(folder):
        write_json(folder / "results.json", {})


def test_all_rows_of_a_seed_come_before_the_next_seed(recipes, tmp_path):
    runs = plan_runs(recipes, tmp_path, [1, 2], [0, 1, 0])
    assert [run.name for run in runs[:3]] == [
        "low/seed0/fold1",
        "high/seed0/fold1",
        "low/seed0/fold2",
    ]
    assert len(runs) == 8
    assert runs[-1].recipe == replace(recipes["high"], seed=1)
    assert plan_runs(recipes, tmp_path, [None], [0])[0].name == "low/seed0/run"


def test_the_command_trains_reports_and_trains_nothing_twice(words, run_command, tmp_path):
    out, words = tmp_path / "out", [*words, "--epochs", "1"]
    code, output, error = run_command(*words, "--seeds", "0")
    assert code == 0
    assert all(line.startswith("note: ") for line in error.splitlines()), error  # few steps
    assert trained(output) == NAMES[:2]
    assert "against low:" in output and (out / "table.png").is_file()
    row = json.loads((out / "high" / "row.json").read_text())
    assert (row["recipe"]["learning_rate"], row["fold"]) == (1e-3, None)
    table = (out / "table.md").read_text()

    code, output, _ = run_command(*words, "--seeds", "0", "1")
    assert code == 0 and trained(output) == NAMES[2:]
    for name in ("low", "high"):
        (out / name / "seed1" / "fold1" / "results.json").unlink()
    code, output, _ = run_command(*words, "--report")
    assert code == 0 and trained(output) == []
    cells = [line.split("|")[9:11] for line in table.splitlines() if line.startswith("| low")]
    assert cells == [
        line.split("|")[9:11] for line in output.splitlines() if line.startswith("| low")
    ]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A table of two words by four speakers, of whom two validate; clips of a second."""
    folder, noise = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0)
    lines = ["path,label,split,speaker"]
    for word, speaker, take in itertools.product(("left", "right"), range(4), range(3)):
        name, split = f"{word}-{speaker}-{take}.wav", "validation" if speaker > 1 else "train"
        soundfile.write(folder / name, noise.normal(0, 0.1, 16_000), 16_000)
        lines.append(f"{name},{word},{split},speaker {speaker}")
    (folder / "clips.csv").write_text("\n".join(lines))
    return folder / "clips.csv"


@pytest.mark.parametrize("name", ["overlap", "patch-shape", "positions", "pretraining"])
def test_the_papers_tables_take_words_of_a_second(name, spoken, run_folder):
    recipe = RECIPES["from_scratch"].given(corpus="table", epochs=2)
    if name == "positions":
        recipe = recipe.given(init_from=str(run_folder), preset="tiny224")
    if name == "pretraining":
        recipe = recipe.given(preset="tiny224", patch=(128, 4), stride=(128, 4), pooling="patches")
    table = TABLES[name].with_checkpoints(
        {"ssast": str(run_folder), "mae": "elsewhere"} if name == "pretraining" else {}
    )
    rows = [row.name for row in table.rows if row.changes.get("init_from") != "imagenet"]
    recipes = choose_rows(table.select(rows, None).recipes(recipe), open_corpus("table", spoken))
    for each in recipes.values():
        patch, stride, frames = each.patch[1], each.stride[1], each.num_frames
        assert each.preset == "tiny224" and (frames - patch) % stride == 0  # whole patches
        assert 98 <= frames < 98 + stride
        assert each.model_config(2).num_tokens > 2


def test_a_table_from_named_models_with_few_labels_is_judged_by_speaker(
    spoken, run_folder, run_command, tmp_path
):
    out = tmp_path / "out"
    for name in ("none", "digits"):
        write_json(out / name / "cost.json", asdict(COST))
    words = [
        "ablate", "pretraining", "demo", "--corpus", "table", "--data", spoken, "--out", out,
        "--checkpoint", f"digits={run_folder / 'last'}", f"other={run_folder}", "--rows", "none",
        "digits", "--clips-per-class", "2", "--depth", "1", "--num-frames", "64", "--epochs", "1",
        "--frequency-mask", "8", "--time-mask", "16", "--device", "cpu", "--precision", "fp32",
        "--no-use-cache", "--seeds", "0", "1",
    ]  # fmt: skip
    code, output, error = run_command(*words)
    assert code == 0, error
    assert "4 training clips, 12 validation" in output
    assert "- digits against none: " in output
    assert (out / "groups.csv").read_text().count("speaker") == 24
    assert read_run(out / "digits/seed1/run").recipe.init_from == str(run_folder / "last")
    (out / "groups.csv").unlink()
    code, output, error = run_command(*words, "--report")
    assert code == 0 and (out / "groups.csv").is_file() and "2 groups" in output


def test_two_processes_share_a_table(words, corpus_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "train")
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *words, "--epochs", "3", "--seeds", "0", "1"],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    begun, deadline = tmp_path / "out" / "low" / "seed0" / "fold1", time.monotonic() + 60
    while not (begun / "recipe.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[0]
    recipe = read_run(begun).recipe
    recipes = {"low": recipe, "high": replace(recipe, learning_rate=1e-3)}
    runs = plan_runs(recipes, tmp_path / "out", [1], [0, 1])
    left = run_table(runs, esc50(corpus_folder), device="cpu")
    theirs, ours = process.communicate(timeout=120)[0], "\n".join(caplog.messages)
    assert process.returncode == 0, theirs
    assert all(run.finished for run in runs)
    assert trained(theirs) and trained(ours)
    assert sorted(trained(theirs) + trained(ours)) == sorted(NAMES)  # each by one of them
    assert ("### Learning rate" in theirs) or not left  # who finishes last knows that all are done
    assert list((tmp_path / "out").rglob("lock.*")) == []


def test_the_run_of_a_killed_process_is_taken_over_and_resumed(runs, manifest, monkeypatch, caplog):
    folder, process = runs[0].folder, subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    with monkeypatch.context() as patch:
        patch.setattr("train.run.log.Run.save_models", killed_in_epoch_2)
        with pytest.raises(KeyboardInterrupt):
            run_table(runs[:1], manifest, device="cpu")
    holder = {"host": socket.gethostname(), "pid": process.pid, "since": "then"}
    holder |= {"start": 1, "machine": this_process().machine}
    write_json(folder / "lock.0", holder)
    assert not runs[0].finished
    caplog.set_level(logging.INFO, "train")
    assert run_table(runs[:1], manifest, device="cpu") == {}
    assert [row["epoch"] for row in read_metrics(folder)] == [1, 2]
    assert not list(folder.glob("lock.*"))
    assert any("resum" in message for message in caplog.messages)


def killed_in_epoch_2(run, state):
    if state.epoch == 2:
        raise KeyboardInterrupt


def test_a_run_that_was_killed_before_its_last_checkpoint_writes_it(runs, manifest, monkeypatch):
    straight = replace(runs[0], folder=runs[0].folder.with_name("straight"))
    run_table([straight], manifest, device="cpu")

    def killed_at_the_end(folder, state):
        if state["epoch"] == 2:
            raise KeyboardInterrupt
        save_state(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr("train.run.log.save_state", killed_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            run_table(runs[:1], manifest, device="cpu")
    assert runs[0].finished and not runs[0].settled
    assert load_state(runs[0].folder)["epoch"] == 1
    results = (runs[0].folder / "results.json").read_text()
    run_table(runs[:1], manifest, device="cpu")
    assert runs[0].settled and (runs[0].folder / "results.json").read_text() == results
    state, expected = (load_state(run.folder) for run in (runs[0], straight))
    assert state["epoch"] == 2
    assert all(torch.equal(state["model"][n], tensor) for n, tensor in expected["model"].items())


def test_what_a_killed_process_left_of_a_finished_run_is_cleared(
    runs, manifest, fake_run, monkeypatch
):
    folder = fake_run(runs[0].folder, 0.5, runs[0].recipe, clips=fingerprint(manifest))
    assert runs[0].settled  # also where its state was removed, to save space
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    ended = this_process()._replace(pid=process.pid, start=1)
    (folder / "lock.0").write_text(json.dumps(ended._asdict()))
    with monkeypatch.context() as patch:
        patch.setattr("data.files.writing.this_process", lambda: ended)
        leftover = temporary_path(folder / "metrics.csv")
    leftover.write_text("half")
    monkeypatch.setattr(module, "train", None)  # nothing is trained
    assert not runs[0].settled
    assert run_table(runs[:1], manifest) == {}
    assert runs[0].settled and not leftover.exists() and not list(folder.glob("lock.*"))


def test_a_run_of_one_epoch_that_was_killed_before_its_only_checkpoint_is_cut_off(
    runs, manifest, monkeypatch
):
    one = replace(runs[0], recipe=replace(runs[0].recipe, epochs=1))

    def killed(folder, state):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train.run.log.save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            run_table([one], manifest, device="cpu")
    assert one.finished and one.cut_off
    run_table([one], manifest, device="cpu")
    assert one.settled and load_state(one.folder)["epoch"] == 1
    shutil.rmtree(one.folder / "state")  # to save space
    assert one.settled


def test_a_run_that_another_process_holds_is_left_to_it(runs, manifest, monkeypatch):
    monkeypatch.setattr(module, "train", finish)
    with claim(runs[1].folder):
        in_use = run_table(runs, manifest)
    assert [run.finished for run in runs] == [True, False, True, True]
    assert list(in_use) == ["high/seed0/fold1"]
    assert in_use["high/seed0/fold1"].startswith(f"process {os.getpid()} on")
    assert run_table(runs, manifest) == {}
    assert runs[1].finished


def test_a_run_that_fails_does_not_stop_the_others(runs, manifest, monkeypatch, caplog):
    def train(recipe, manifest, folder, **options):
        if folder == runs[0].folder:
            raise ValueError("no weights")
        finish(recipe, manifest, folder)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(
        ValueError, match=r"^1 of 4 runs failed, first low/seed0/fold1: no weights; "
    ):
        run_table(runs, manifest)
    assert [run.finished for run in runs] == [False, True, True, True]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message == "low/seed0/fold1 failed: no weights"


def test_a_run_that_does_not_fit_in_memory_does_not_stop_the_others(
    runs, manifest, monkeypatch, caplog
):
    def train(recipe, manifest, folder, **options):
        if folder == runs[0].folder:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. See …")
        finish(recipe, manifest, folder)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(ValueError, match="first low/seed0/fold1: CUDA out of memory; give a small"):
        run_table(runs, manifest)
    assert all(run.finished for run in runs[1:])


def test_every_run_is_trained_as_planned(runs, manifest, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "train", lambda *given, **options: calls.append((given, options)))
    run_table(runs, manifest, device="cpu", workers=3, compile=True)
    options = {"fold": 1, "device": "cpu", "cache": None, "workers": 3, "compile": True}
    assert calls == [((run.recipe, manifest, run.folder), options) for run in runs]


def test_a_table_begun_in_another_precision_goes_on(recipes, runs, manifest, fake_run, tmp_path):
    begun = replace(runs[0].recipe, precision="bf16")
    fake_run(runs[0].folder, recipe=begun, clips=fingerprint(manifest))
    auto = {name: replace(recipe, precision="auto") for name, recipe in recipes.items()}
    check_folders([1], auto, tmp_path / "out", manifest)
    with pytest.raises(ValueError, match=r"another recipe \(precision 'bf16' -> 'fp32'\)"):
        check_folders([1], recipes, tmp_path / "out", manifest)


def test_folders_of_other_runs_are_refused_before_any_is_trained(
    recipes, runs, manifest, fake_run, tmp_path
):
    folder = runs[-1].folder
    fake_run(folder, 0.5, replace(runs[-1].recipe, epochs=9))
    with pytest.raises(ValueError, match=r"another recipe \(epochs 9 -> 2\); give a new --out"):
        check_folders([1], recipes, tmp_path / "out", manifest)
    fake_run(folder, 0.5, runs[-1].recipe)
    with pytest.raises(ValueError, match="was trained on other data; give those, or a new --out"):
        check_folders([1], recipes, tmp_path / "out", manifest)
    (folder / "recipe.json").write_text('{"recipe": {"epochs": 3}, "fold": 1}')
    with pytest.raises(ValueError, match=r"recipe\.json is not a recipe"):
        check_folders([1], recipes, tmp_path / "out", manifest)


def test_runs_of_other_seeds_are_checked_too_and_what_was_chosen_for_them_stays(
    recipes, runs, manifest, fake_run, tmp_path
):
    out = tmp_path / "out"
    fake_run(runs[0].folder, 0.5, runs[0].recipe, clips=fingerprint(manifest))
    check_folders([1], recipes, out, manifest)
    before = (out / "low" / "row.json").read_bytes()
    others = {name: replace(recipe, batch_size=3) for name, recipe in recipes.items()}
    with pytest.raises(ValueError, match=r"low/seed0/fold1 holds a run of another recipe"):
        check_folders([2], others, out, manifest)
    assert (out / "low" / "row.json").read_bytes() == before


def test_groups_of_other_data_are_refused(spoken, run_folder, fake_run, run_command, tmp_path):
    recipe = RECIPES["demo"].given(corpus="table", learning_rate=1e-4)
    fake_run(tmp_path / "out" / "low" / "seed0" / "run", 0.5, recipe)  # of clips called "clips"
    (tmp_path / "rate.py").write_text(TABLE)
    words = ["ablate", tmp_path / "rate.py", "demo", "--data", spoken, "--corpus", "table"]
    code, _, error = run_command(*words, "--out", tmp_path / "out", "--report")
    assert code == 2 and "was trained on other data; give those" in error
    assert not (tmp_path / "out" / "groups.csv").exists()


OPEN = Table(
    "open",
    "Rows of a recipe that chooses",
    [
        Row("as-chosen", {"weight_decay": 0.1}),
        Row("given", {"num_frames": 60}),
        Row("shorter", {"epochs": 1}),
    ],
    "as-chosen",
)


def test_rows_of_a_recipe_for_own_data_choose_once_with_what_they_give(manifest, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    open_rows = OPEN.recipes(RECIPES["from_scratch"])
    recipes = choose_rows(open_rows, manifest)
    assert not any(recipe.from_data for recipe in recipes.values())
    first, given, shorter = recipes.values()
    assert first.num_frames != given.num_frames == 60
    assert (first.weight_decay, shorter.epochs) == (0.1, 1)
    follow = ("weight_decay", "epochs", "warmup_epochs", "mixup_rate")
    assert replace(shorter, **{name: getattr(first, name) for name in follow}) == first
    assert shorter.warmup_epochs == 0.1  # what goes with a row's own fields follows them
    said = [each.message for each in caplog.records if "stride" in each.message]
    assert len(said) == 1  # lines that are equal in all rows
    assert "row given: trained with the same, but " in caplog.text

    out = tmp_path / "out"
    runs = plan_runs(recipes, out, [1], [0])
    check_folders([1], recipes, out, manifest)
    assert rows_chosen_before(open_rows, out) == open_rows  # nothing was trained: chosen anew
    changed = replace(recipes["as-chosen"], mean=-3.25)  # other than the data would say
    write_json(out / "as-chosen" / "row.json", {"recipe": changed.to_json(), "fold": None})
    write_json(runs[0].folder / "recipe.json", {"recipe": changed.to_json(), "fold": 1})
    begun = rows_chosen_before(open_rows, out)
    assert begun == recipes | {"as-chosen": changed}
    assert choose_rows(begun, manifest) == begun
    later = OPEN.recipes(RECIPES["from_scratch"].given(epochs=3))
    # what is given stays, so that it is refused as another recipe
    assert rows_chosen_before(later, out)["as-chosen"].epochs == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["ablate", "overlp", "demo"], "table 'overlp' is unknown"),
        (["ablate", "overlap", "dmo"], "recipe 'dmo' is unknown"),
        (["ablate", "overlap", "demo"], "training needs --data FOLDER"),
        (["ablate", "overlap", "demo", "--seed", "3"], "--seed 3 is one run's seed"),
        (["ablate", "size", "demo", "--rows", "tiny", "small", "--report"], "no row 'base'"),
        (["ablate", "size", "demo", "--report", "--out", "nowhere"], "has no finished run"),
        (["ablate", "positions", "demo", "--data", "x"], "are the same recipe"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run_command, change, message):
    code, _, error = run_command(*change)
    assert code == 2 and error.count("\n") == 1
    assert message in error


def test_a_fold_that_does_not_exist_fails_before_training(recipes, manifest, tmp_path):
    with pytest.raises(ValueError, match="fold 7 does not exist"):
        check_folders([7], recipes, tmp_path / "out", manifest)
    assert not (tmp_path / "out").exists()
