"""A run folder with one file damaged: every command that reads it says so in a line, makes nothing
and leaves the folder as it was."""

import json
import os
import random
import shutil

import pytest

from train.experiments.runs import list_runs

NOISE = random.Random(0).randbytes(3000)


def cut(share):
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def put(content):
    return lambda file: file.write_bytes(content)


def instead(make):
    def replace(file):
        file.unlink()
        make(file)

    return replace


DAMAGES = {
    "cut in the middle": cut(0.5),
    "cut near the end": cut(0.97),
    "empty": put(b""),
    "noise": put(NOISE),
    "null": put(b"null\n"),
    "nested": put(b"[" * 100_000),
    "a folder": instead(lambda file: file.mkdir()),
    "a pipe": instead(os.mkfifo),
}
READERS = {
    "recipe.json": ("evaluate", "train", "again"),
    "results.json": ("convert", "train"),
    "predictions.csv": ("convert",),
    "state/state.pt": ("train",),
    "last/config.json": ("predict",),
    "last/model.safetensors": ("evaluate", "predict"),
}
CASES = [
    (file, damage, command)
    for file, commands in READERS.items()
    for command in commands
    for damage in DAMAGES
    if not (command == "convert" and damage in ("a folder", "a pipe"))  # taken as not there
    and (command, damage) != ("again", "a folder")  # taken as no recipe
]


@pytest.fixture
def command(corpus_folder, sounds, tiny, tmp_path):
    """The words of a command on a run folder."""

    def words(name, run):
        data = ("--data", corpus_folder, "--no-use-cache")
        return {
            "evaluate": ("evaluate", run, *data, "--device", "cpu", "--out", tmp_path / "new"),
            "train": ("train", "demo", *data, "--fold", "2", "--out", run, *tiny),
            "again": ("train", run / "recipe.json", *data, "--out", tmp_path / "new"),
            "convert": ("convert", run, tmp_path / "new"),
            "predict": ("predict", run, sounds / "a.wav", "--csv", tmp_path / "new"),
        }[name]

    return words


@pytest.fixture
def refused(run_command):
    """Runs a command that must fail; its one line, which notes on the data may come before."""

    def check(*words):
        code, _, err = run_command(*words)
        *notes, line = err.splitlines()
        assert code == 2
        assert line.startswith("ast-audio: ")
        assert all(note.startswith("note: ") for note in notes), err
        return line

    return check


def content(folder):
    """All files of a run, but for TensorBoard's log of each start."""
    files = sorted(file for file in folder.rglob("*") if "tensorboard" not in file.parts)
    return {file: file.read_bytes() if file.is_file() else None for file in files}


@pytest.mark.parametrize(("file", "damage", "name"), CASES)
def test_a_damaged_file_is_one_line(run_folder, command, refused, tmp_path, file, damage, name):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    DAMAGES[damage](run / file)
    before = content(run)
    assert str(run) in refused(*command(name, run))
    assert content(run) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["cut in the middle", "empty", "noise", "null"])
def test_damaged_metrics_of_a_run_under_way(run_folder, command, fails, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    (run / "results.json").unlink()
    DAMAGES[damage](run / "metrics.csv")
    assert "metrics.csv" in fails(*command("convert", run))
    assert [found.state for found in list_runs(run)] == ["unreadable"]


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a\0b", "CON", "x" * 300, "."])
@pytest.mark.parametrize("verb", ["train", "crossval"])
def test_a_recipe_of_a_stranger_names_no_folder_elsewhere(
    run_folder, corpus_folder, fails, tmp_path, monkeypatch, name, verb
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe["recipe"]["name"] = name
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    words = (verb, tmp_path / "recipe.json", "--data", corpus_folder, "--no-use-cache")
    assert "cannot name a folder" in fails(*words) or not name.isprintable()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "recipe.json"]


def test_what_a_strangers_file_says_is_shown_and_not_obeyed(
    run_folder, corpus_folder, run_command, tmp_path
):
    shutil.copytree(run_folder, tmp_path / "run")
    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe["recipe"]["corpus"] = "\x1b[2J" + "x" * 100_000
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    words = ("train", tmp_path / "run" / "recipe.json", "--data", corpus_folder)
    code, _, err = run_command(*words)
    assert code == 2
    assert "\x1b" not in err and len(err) < 1100
