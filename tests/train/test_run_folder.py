"""Run folders: recognised, refused, never half-written."""

from dataclasses import replace

import pytest
import torch

from data import Clip
from train.run_folder import (
    load_state,
    open_run,
    read_predictions,
    read_recipe,
    save_state,
    write_predictions,
)


@pytest.fixture
def run(tmp_path, recipe, manifest):
    folder = tmp_path / "run"
    open_run(folder, recipe, manifest, 1)
    return folder


def test_the_same_run_is_recognised(run, recipe, manifest):
    open_run(run, recipe, manifest, 1)
    assert read_recipe(run / "recipe.json") == (recipe, 1)


def test_another_recipe_is_refused_and_named(run, recipe, manifest):
    before = (run / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match=r"different recipe \(epochs 2 -> 3\); give a new --out"):
        open_run(run, replace(recipe, epochs=3), manifest, 1)
    with pytest.raises(ValueError, match="fold 1 -> 2"):
        open_run(run, recipe, manifest, 2)
    with pytest.raises(ValueError, match="the data set's clips"):
        open_run(run, recipe, replace(manifest, clips=manifest.clips[1:]), 1)
    assert (run / "recipe.json").read_bytes() == before


def test_the_data_set_may_have_moved(run, recipe, manifest, tmp_path):
    moved = tuple(replace(clip, path=tmp_path / clip.path.name) for clip in manifest.clips)
    open_run(run, recipe, replace(manifest, clips=moved), 1)


def test_a_folder_of_something_else_is_left_alone(tmp_path, recipe, manifest):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no run folder; give a new --out"):
        open_run(tmp_path, recipe, manifest, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 3}'])
def test_a_damaged_recipe_is_refused(run, recipe, manifest, content):
    (run / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.json is not"):
        open_run(run, recipe, manifest, 1)
    with pytest.raises(ValueError, match=r"recipe\.json is not"):
        read_recipe(run / "recipe.json")


def test_leftovers_of_a_killed_writer_are_removed(run, recipe, manifest):
    (run / "state").mkdir()
    for leftover in (".writing-4242-metrics.csv", "state/.writing-4242-state.pt"):
        (run / leftover).touch()
    (run / ".writing-4242-last").mkdir()
    (run / ".writing-4242-last" / "config.json").touch()
    open_run(run, recipe, manifest, 1)
    assert sorted(path.name for path in run.rglob("*")) == ["recipe.json", "state"]


def test_killed_before_its_recipe_was_written_a_run_can_start(tmp_path, recipe, manifest):
    (tmp_path / ".writing-4242-recipe.json").touch()
    open_run(tmp_path, recipe, manifest, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_full_disk_keeps_the_old_state(run, monkeypatch):
    save_state(run, {"epoch": 1, "config": {}})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"could not write .*state.pt: No space left on device; free"):
        save_state(run, {"epoch": 2})
    assert load_state(run, torch.device("cpu")) == {"epoch": 1, "config": {}}
    assert [path.name for path in (run / "state").iterdir()] == ["state.pt"]


def test_a_state_of_another_version_is_refused(run):
    save_state(run, {"epoch": 1})
    with pytest.raises(ValueError, match=r"of another version of this program; give a new --out"):
        load_state(run, torch.device("cpu"))


def test_a_state_that_would_run_code_is_refused(run):
    class Intruder:
        def __reduce__(self):
            return (print, ("code from a checkpoint ran",))

    save_state(run, {"epoch": Intruder()})
    with pytest.raises(ValueError, match=r"state.pt is damaged"):
        load_state(run, torch.device("cpu"))


def test_predictions_survive_class_names_with_commas_and_columns_names(tmp_path):
    classes = ("clip", 'bells, "church"', "target")
    clips = [Clip(tmp_path / "a.wav", (1,)), Clip(tmp_path / "b.wav", (0, 2))]
    scores = torch.tensor([[0.2, 0.5, 0.3], [0.25, 0.5, 0.25]])
    write_predictions(tmp_path / "predictions.csv", clips, classes, scores)
    assert read_predictions(tmp_path / "predictions.csv") == [
        ('bells, "church"', pytest.approx([0.2, 0.5, 0.3])),
        ("clip|target", pytest.approx([0.25, 0.5, 0.25])),
    ]
