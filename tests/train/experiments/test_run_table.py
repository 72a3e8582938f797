"""A table's runs: each trained once, by whichever process, and resumed where one was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from train.experiments import run_table as ablate
from train.experiments.cost import Cost
from train.experiments.run_table import check_folders, planned_runs, run_table
from train.experiments.table import Row, Table
from train.lock import claimed
from train.run_folder import write_json
from train.tables import write_csv

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
    return planned_runs(recipes, tmp_path / "out", folds=[1], seeds=[0, 1])


@pytest.fixture
def words(corpus_folder, tmp_path):
    """The command of the same table, with costs that need not be measured."""
    file = tmp_path / "rate.py"
    file.write_text(TABLE)
    for name in ("low", "high"):
        write_json(tmp_path / "out" / name / "cost.json", asdict(COST))
    return [
        "ablate", str(file), "demo", "--data", str(corpus_folder), "--corpus", "esc50",
        "--num-frames", "64", "--frequency-mask", "8", "--time-mask", "16", "--device", "cpu",
        "--precision", "fp32", "--no-use-cache", "--seeds", "0", "1",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def started(words, epochs):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "train", *words, "--epochs", str(epochs)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert path.exists(), process.communicate()[0]


def trained(text):
    return [line for line in text.splitlines() if line in NAMES]


def test_all_rows_of_a_seed_come_before_the_next_seed(recipes, tmp_path):
    runs = planned_runs(recipes, tmp_path, [1, 2], [0, 1, 0])
    assert [run.name for run in runs[:3]] == [
        "low/seed0/fold1",
        "high/seed0/fold1",
        "low/seed0/fold2",
    ]
    assert len(runs) == 8
    assert runs[-1].recipe == replace(recipes["high"], seed=1)
    assert planned_runs(recipes, tmp_path, [None], [0])[0].name == "low/seed0/run"


def test_the_command_trains_reports_and_trains_nothing_twice(words, run_command, tmp_path):
    code, output, error = run_command(*words, "--epochs", "1")
    assert (code, error) == (0, "")
    assert trained(output) == NAMES
    assert "against low:" in output and (tmp_path / "out" / "table.png").is_file()
    row = json.loads((tmp_path / "out" / "high" / "row.json").read_text())
    assert (row["recipe"]["learning_rate"], row["fold"]) == (1e-3, None)
    table = (tmp_path / "out" / "table.md").read_text()
    (tmp_path / "out" / "table.md").unlink()

    code, output, _ = run_command(*words, "--epochs", "1", "--seeds", "0", "1", "2")
    assert code == 0 and trained(output) == []  # NAMES are of seeds 0 and 1
    assert "high/seed2/fold1" in output.splitlines()
    (tmp_path / "out" / "low" / "seed2" / "fold1" / "results.json").unlink()
    (tmp_path / "out" / "high" / "seed2" / "fold1" / "results.json").unlink()
    code, output, _ = run_command(*words, "--epochs", "1", "--report")
    assert code == 0 and "epoch" not in output.partition("###")[0]
    accuracies = [line.split("|")[9:11] for line in table.splitlines() if line.startswith("| low")]
    assert accuracies == [
        line.split("|")[9:11] for line in output.splitlines() if line.startswith("| low")
    ]


def test_two_processes_share_a_table(words, recipes, manifest, tmp_path, capsys):
    process = started(words, epochs=3)
    wait_for(tmp_path / "out" / "low" / "seed0" / "fold1.lock.0", process)
    stored = tmp_path / "out" / "low" / "seed0" / "fold1" / "recipe.json"
    wait_for(stored, process)
    recipe = ablate.read_run(stored.parent).recipe
    recipes = {"low": recipe, "high": replace(recipe, learning_rate=1e-3)}
    runs = planned_runs(recipes, tmp_path / "out", [1], [0, 1])
    complete = run_table(runs, _as_esc50(words), "cpu")
    theirs, ours = process.communicate(timeout=120)[0], capsys.readouterr().out
    assert process.returncode == 0, theirs
    assert all(run.finished for run in runs)
    assert sorted(trained(theirs) + trained(ours)) == sorted(NAMES)  # each by one of them
    assert trained(theirs) and trained(ours)
    assert complete or "### Learning rate" in theirs  # who finishes last, reports
    assert list((tmp_path / "out").rglob("*.lock.*")) == []


def _as_esc50(words):
    from data import esc50

    return esc50(words[words.index("--data") + 1])


def test_the_run_of_a_killed_process_is_taken_over_and_resumed(words, tmp_path, run_command):
    process = started(words, epochs=6)
    first = tmp_path / "out" / "low" / "seed0"
    wait_for(first / "fold1" / "state" / "state.pt", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (first / "fold1.lock.0").is_file() and not (first / "fold1" / "results.json").exists()
    code, output, _ = run_command(*words, "--epochs", "6", "--seeds", "0")
    assert code == 0
    assert "resuming after epoch" in output
    assert (first / "fold1" / "results.json").is_file()


def test_a_run_that_another_process_holds_is_left_to_it(runs, manifest, capsys, monkeypatch):
    monkeypatch.setattr(ablate, "train", fake_train([]))
    with claimed(runs[1].folder):
        assert not run_table(runs, manifest)
    assert [run.finished for run in runs] == [True, False, True, True]
    assert (
        f"high/seed0/fold1 is being trained by process {os.getpid()} on" in capsys.readouterr().out
    )
    assert run_table(runs, manifest)


def test_a_run_that_fails_does_not_stop_the_others(runs, manifest, monkeypatch):
    monkeypatch.setattr(ablate, "train", fake_train([runs[0].folder]))
    with pytest.raises(
        ValueError, match=r"^1 of 4 runs failed, first low/seed0/fold1: no weights; "
    ):
        run_table(runs, manifest)
    assert [run.finished for run in runs] == [False, True, True, True]


def fake_train(failing):
    def train(recipe, manifest, fold, folder, *_):
        if folder in failing:
            raise ValueError("no weights")
        write_csv(folder / "results.json", [], [])

    return train


def test_a_resumed_run_keeps_the_precision_that_it_began_in(runs, manifest, fake_run, monkeypatch):
    run = replace(runs[0], recipe=replace(runs[0].recipe, precision="auto"))
    fake_run(run.folder, recipe=replace(runs[0].recipe, precision="bf16"))
    given = []
    monkeypatch.setattr(ablate, "train", lambda recipe, *_: given.append(recipe.precision))
    run_table([run], manifest)
    assert given == ["bf16"]


def test_folders_of_other_runs_are_refused_before_any_is_trained(
    recipes, runs, manifest, fake_run, tmp_path
):
    folder = runs[-1].folder
    fake_run(folder, 0.5, replace(runs[-1].recipe, epochs=9))
    with pytest.raises(ValueError, match=r"another recipe \(epochs 9 -> 2\); give a new --out"):
        check_folders(runs, recipes, tmp_path / "out", manifest)
    fake_run(folder, 0.5, runs[-1].recipe)
    with pytest.raises(ValueError, match="was trained on other data; give a new --out"):
        check_folders(runs, recipes, tmp_path / "out", manifest)
    (folder / "recipe.json").write_text('{"recipe": {"name": "old"}, "fold": 1}')
    with pytest.raises(ValueError, match="is not a recipe of this version: missing fields"):
        check_folders(runs, recipes, tmp_path / "out", manifest)


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


def test_a_fold_that_does_not_exist_fails_before_training(words, run_command, tmp_path):
    code, _, error = run_command(*words, "--epochs", "1", "--folds", "7")
    assert code == 2 and "fold 7 does not exist" in error
    assert not (tmp_path / "out" / "low" / "row.json").exists()
