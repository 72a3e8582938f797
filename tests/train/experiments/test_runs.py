"""The list of runs, and what two of them differ in, whatever version wrote them."""

import json
import shutil
from dataclasses import replace

import pytest

from train.experiments import runs
from train.experiments.runs import RunSummary, as_text, compare_runs, list_runs


def test_runs_are_listed_with_state_and_score(recipe, fake_run, tmp_path):
    fake_run(tmp_path / "a" / "fold1", 0.75)
    fake_run(tmp_path / "b", recipe=replace(recipe, seed=7), fold=None)
    finished, unfinished = list_runs(tmp_path)
    expected = ("a/fold1", "demo", "synthetic", "1", "0", "2/2", "finished", "accuracy 0.7500")
    assert finished[:-1] == (*expected, "fold 1", "last (epoch 2)")
    expected = ("b", "demo", "synthetic", "", "7", "0/2", "unfinished", "", "", "")
    assert unfinished[:-1] == expected


def test_an_unfinished_run_shows_its_last_epoch(fake_run, tmp_path):
    (fake_run(tmp_path / "a", 0.75) / "results.json").unlink()
    (run,) = list_runs(tmp_path)
    assert (run.epochs, run.state, run.score) == ("2/2", "unfinished", "accuracy 0.7500")
    assert (run.split, run.model) == ("fold 1", "last (epoch 2)")


def test_a_run_with_a_test_split_shows_the_score_to_quote(fake_run, tmp_path):
    folder = fake_run(tmp_path / "a", 0.75, fold=None)
    rows = {"last": {"epoch": 2, "accuracy": 0.7}, "best": {"epoch": 1, "accuracy": 0.8}}
    tested = {"last": {"accuracy": 0.6}, "best": {"accuracy": 0.65}}
    for row in (*rows.values(), *tested.values()):
        row["mAP"] = 0.5
    results = {"validation_split": "validation", "clips": {"validation": 40, "test": 50}}
    results |= {"validation": rows, "test": tested}
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = list_runs(tmp_path)
    shown = (run.score, run.split, run.model)
    assert shown == ("accuracy 0.6500", "test (50)", "best (epoch 1)")


def test_a_run_of_version_0_1_is_listed_as_any_other(fake_run, tmp_path):
    folder = fake_run(tmp_path / "old", 0.5)
    content = json.loads((folder / "recipe.json").read_text())
    content["recipe"]["decay"] = content["recipe"].pop("lr_gamma")
    del content["recipe"]["depth"], content["recipe"]["summary"]
    (folder / "recipe.json").write_text(json.dumps(content))
    results = {"held out": "fold 1", "last": {"accuracy": 0.25, "mAP": 0.5}}
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = list_runs(tmp_path)
    assert (run.recipe, run.state, run.score) == ("demo", "finished", "accuracy 0.2500")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("recipe.json", "{"),
        ("recipe.json", '{"recipe": {"name": "x", "of_the_future": 1}, "fold": 1}'),
        ("results.json", '{"validation_split": "fold 1"}'),
    ],
)
def test_a_run_that_cannot_be_read_is_listed_as_such(fake_run, tmp_path, file, content):
    (fake_run(tmp_path / "broken", 0.5) / file).write_text(content)
    (run,) = list_runs(tmp_path)
    assert run == RunSummary("broken", when=run.when)
    assert (run.state, run.recipe) == ("unreadable", "")


def test_a_folder_that_is_a_run_lists_itself(fake_run, tmp_path):
    (run,) = list_runs(fake_run(tmp_path / "a", 0.5))
    assert run.run == "a"


def test_the_text_has_a_line_a_run_below_the_headings(fake_run, tmp_path):
    fake_run(tmp_path / "a", 0.5)
    fake_run(tmp_path / "longer", 0.5)
    heading, first, second = as_text(list_runs(tmp_path)).splitlines()
    assert heading.split() == list(RunSummary._fields)
    assert first.index("demo") == second.index("demo") == heading.index("recipe")


def test_no_runs_and_no_folder(tmp_path):
    assert list_runs(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="does not exist; give one that holds runs"):
        list_runs(tmp_path / "none")


def test_runs_are_compared_field_by_field(recipe, fake_run, tmp_path):
    one = fake_run(tmp_path / "one", 0.5)
    changed = replace(recipe, epochs=9, precision="bf16")
    other = fake_run(tmp_path / "other", 0.5, changed, fold=2, clips="others")
    assert compare_runs(one, one) == []
    assert sorted(compare_runs(one, other)) == [
        "epochs 2 -> 9",
        "fold 1 -> 2",
        "precision 'fp32' -> 'bf16'",
        "the data set's clips",
    ]
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it has no recipe\.json"):
        compare_runs(one, tmp_path)


def test_the_command_lists_and_compares(recipe, fake_run, run_command, tmp_path):
    one = fake_run(tmp_path / "one", 0.5)
    other = fake_run(tmp_path / "other", 0.5, replace(recipe, epochs=9), fold=2)
    code, output, _ = run_command("runs", tmp_path)
    assert code == 0 and output == as_text(list_runs(tmp_path)) + "\n"
    code, output, _ = run_command("runs", "--diff", one, other)
    assert code == 0 and output.splitlines() == ["epochs 2 -> 9", "fold 1 -> 2"]
    assert run_command("runs", "--diff", one, one)[1] == "the same recipe, fold and clips\n"
    code, _, error = run_command("runs", "--diff", one, tmp_path)
    assert code == 2 and error.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert run_command("runs", tmp_path / "empty")[1] == f"no runs in {tmp_path / 'empty'}\n"


def test_what_another_process_writes_or_removes_meanwhile_is_passed_over(
    fake_run, tmp_path, monkeypatch
):
    fake_run(tmp_path / "a", 0.5)
    fake_run(tmp_path / "b", 0.5)
    fake_run(tmp_path / ".writing-7-c", 0.5)
    original = runs.read_run

    def read_run(folder):
        if folder.name == "b":
            shutil.rmtree(folder)
        return original(folder)

    monkeypatch.setattr(runs, "read_run", read_run)
    assert [(run.run, run.state) for run in list_runs(tmp_path)] == [
        ("a", "finished"),
        ("b", "unreadable"),
    ]
