"""`ast-audio runs`: what ran and how it ended, whatever version wrote it."""

import json
from dataclasses import replace

import pytest

from train.experiments.runs import difference, find_runs, history, is_same_recipe, read_run


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_runs_are_listed_with_state_and_score(recipe, fake_run, tmp_path):
    fake_run(tmp_path / "a" / "fold1", 0.75)
    fake_run(tmp_path / "b", recipe=replace(recipe, seed=7), fold=None)
    header, finished, unfinished = cells(history(tmp_path))
    assert header == ["run", "recipe", "corpus", "fold", "seed", "epochs", "state", "score", "when"]
    expected = ["a/fold1", "demo", "synthetic", "1", "0", "2/2", "finished", "accuracy", "0.7500"]
    assert finished[: len(expected)] == expected
    assert unfinished[:6] == ["b", "demo", "synthetic", "7", "0/2", "unfinished"]


def test_an_unfinished_run_shows_its_last_epoch(fake_run, tmp_path):
    (fake_run(tmp_path / "a", 0.75) / "results.json").unlink()
    assert "2/2     unfinished  accuracy 0.7500" in history(tmp_path)


def test_a_run_of_another_version_is_listed_as_such(fake_run, tmp_path):
    file = fake_run(tmp_path / "old", 0.5) / "recipe.json"
    content = json.loads(file.read_text())
    del content["recipe"]["patch"]
    file.write_text(json.dumps(content))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.json").write_text("{")
    fake_run(tmp_path / "strange", 0.5)
    (tmp_path / "strange" / "results.json").write_text('{"held out": "fold 1"}')
    _, broken, old, strange = cells(history(tmp_path))
    assert broken[:3] == ["broken", "another", "version"]
    assert old[:7] == ["old", "demo", "synthetic", "1", "0", "another", "version"]
    assert strange[5:7] == ["another", "version"]
    with pytest.raises(ValueError, match=r"missing fields \['patch'\]"):
        read_run(tmp_path / "old")
    assert "patch: (no such field) -> [128, 4]" in difference(
        tmp_path / "old", tmp_path / "strange"
    )


def test_a_folder_that_is_a_run_lists_itself(fake_run, tmp_path):
    assert find_runs(fake_run(tmp_path / "a", 0.5)) == [tmp_path / "a"]
    assert cells(history(tmp_path / "a"))[1][0] == "a"


def test_no_runs_and_no_folder(tmp_path):
    assert history(tmp_path) == f"no runs in {tmp_path}"
    with pytest.raises(FileNotFoundError, match="does not exist; give one that holds runs"):
        history(tmp_path / "none")


def test_scores_are_of_the_model_to_be_quoted(recipe, fake_run, tmp_path):
    run = fake_run(tmp_path / "a", 0.5)
    assert read_run(run).score == 0.5
    assert read_run(run).score_name == "accuracy on the held-out clips, last epoch"
    rows = {"last": {"accuracy": 0.5}, "averaged": {"accuracy": 0.6}}
    (run / "results.json").write_text(json.dumps(rows))
    assert read_run(run).score == 0.6
    assert read_run(run).score_name.endswith("averaged weights")
    assert read_run(run).held_out_score("last") == 0.5
    rows["test"] = {"best": {"accuracy": 0.7}, "last": {"accuracy": 0.8}}
    (run / "results.json").write_text(json.dumps(rows))
    assert read_run(run).score == 0.7
    assert "test part, epoch chosen on the validation part" in read_run(run).score_name


def test_recipes_are_the_same_up_to_what_the_device_chose(recipe):
    wanted = replace(recipe, precision="auto")
    assert is_same_recipe(replace(wanted, precision="bf16"), wanted)
    assert not is_same_recipe(replace(wanted, precision="bf16"), replace(wanted, precision="fp32"))
    assert not is_same_recipe(replace(wanted, seed=1), wanted)
    assert is_same_recipe(replace(wanted, seed=1), wanted, ignored=("seed",))


def test_the_command_lists_and_compares(recipe, fake_run, run_command, tmp_path):
    one = fake_run(tmp_path / "one", 0.5)
    other = fake_run(tmp_path / "other", 0.5, replace(recipe, epochs=9), fold=2)
    code, output, _ = run_command("runs", tmp_path)
    assert code == 0 and len(output.splitlines()) == 3
    code, output, _ = run_command("runs", "--diff", one, other)
    assert code == 0 and output.splitlines() == ["epochs: 2 -> 9", "fold: 1 -> 2"]
    assert run_command("runs", "--diff", one, one)[1] == "the same recipe, fold and clips\n"
    code, _, error = run_command("runs", "--diff", one, tmp_path)
    assert code == 2 and error.endswith("is no run folder: it has no recipe.json\n")
