"""Run folders: recognised, refused, never half-written, of earlier versions too."""

import json
from dataclasses import replace

import pytest
import torch

from data import Clip, Manifest
from data.files import write_json
from train.recipes import RECIPES
from train.run.folder import (
    fingerprint,
    load_state,
    read_predictions,
    read_recipe,
    read_results,
    read_run,
    recipe_differences,
    save_state,
    write_predictions,
)
from train.run.log import check_folder
from train.run.schema import OF_AN_EPOCH


@pytest.fixture
def run(tmp_path, recipe, manifest):
    """A run folder that began in bf16."""
    content = {"recipe": recipe.to_json(), "fold": 1, "clips": fingerprint(manifest)}
    write_json(tmp_path / "run" / "recipe.json", {**content, "precision": recipe.precision})
    return tmp_path / "run"


def test_the_same_run_is_recognised(run, recipe, manifest):
    assert check_folder(run, recipe, manifest, 1).recipe == recipe
    assert read_recipe(run / "recipe.json") == (recipe, 1)


def test_another_recipe_is_refused_and_named(run, recipe, manifest):
    before = (run / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match=r"different recipe \(epochs 2 -> 3\); give a new --out"):
        check_folder(run, replace(recipe, epochs=3), manifest, 1)
    with pytest.raises(ValueError, match="fold 1 -> 2"):
        check_folder(run, recipe, manifest, 2)
    with pytest.raises(ValueError, match="the data set's clips"):
        check_folder(run, recipe, replace(manifest, clips=manifest.clips[1:]), 1)
    assert (run / "recipe.json").read_bytes() == before


def test_the_data_set_may_have_moved(run, recipe, manifest, tmp_path):
    moved = tuple(replace(clip, path=tmp_path / clip.path.name) for clip in manifest.clips)
    check_folder(run, recipe, replace(manifest, clips=moved), 1)


def test_groups_are_part_of_what_a_random_split_follows_from(manifest):
    """Where the data set has folds or splits of its own, they are not."""
    clips = [replace(clip, fold=None) for clip in manifest.clips]
    grouped = [replace(clip, group=f"site {index % 3}") for index, clip in enumerate(clips)]
    prints = [fingerprint(replace(manifest, clips=some)) for some in (clips, grouped)]
    assert prints[0] != prints[1]
    folds = [replace(clip, group="site") for clip in manifest.clips]
    assert fingerprint(replace(manifest, clips=folds)) == fingerprint(manifest)


def test_a_precision_of_auto_is_whatever_the_run_began_in(run, recipe, manifest):
    auto = replace(recipe, precision="auto")
    assert check_folder(run, auto, manifest, 1).precision == "fp32"
    content = json.loads((run / "recipe.json").read_text())
    content["recipe"]["precision"], content["precision"] = "auto", "bf16"
    write_json(run / "recipe.json", content)
    check_folder(run, auto, manifest, 1)
    check_folder(run, replace(recipe, precision="bf16"), manifest, 1)
    with pytest.raises(ValueError, match=r"precision 'bf16' -> 'fp32'"):
        check_folder(run, recipe, manifest, 1)


def test_a_folder_of_something_else_is_left_alone(tmp_path, recipe, manifest):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no run folder; give a new --out"):
        check_folder(tmp_path, recipe, manifest, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 3}'])
def test_a_damaged_recipe_is_refused(run, recipe, manifest, content):
    (run / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.json is not"):
        check_folder(run, recipe, manifest, 1)
    with pytest.raises(ValueError, match=r"recipe\.json is not"):
        read_recipe(run / "recipe.json")


def test_leftovers_of_a_killed_writer_are_removed(run, recipe, manifest):
    (run / "state").mkdir()
    for leftover in (".writing-4242-metrics.csv", "state/.writing-4242-state.pt"):
        (run / leftover).touch()
    (run / ".writing-4242-last").mkdir()
    (run / ".writing-4242-last" / "config.json").touch()
    check_folder(run, recipe, manifest, 1)
    assert sorted(path.name for path in run.rglob("*")) == ["recipe.json", "state"]


def test_killed_before_its_recipe_was_written_a_run_can_start(tmp_path, recipe, manifest):
    (tmp_path / ".writing-4242-recipe.json").touch()
    assert check_folder(tmp_path, recipe, manifest, 1) is None
    assert not list(tmp_path.iterdir())


def test_full_disk_keeps_the_old_state(run, monkeypatch):
    state = {name: {} for name in ("config", "model", "optimizer", "scaler")}
    state |= {"epoch": 0, "batch": 1, "clips": 8, "loss_sum": 0.5, "rows": [], "skipped": []}
    state["ensemble"] = None
    save_state(run, state)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"could not write .*state.pt: No space left on device; free"):
        save_state(run, {"epoch": 2})
    assert load_state(run) == state  # of the version before, without a number
    assert [path.name for path in (run / "state").iterdir()] == ["state.pt"]


def test_a_state_whose_epochs_have_other_scores_is_refused(run):
    first = {"epoch": 1, **dict.fromkeys(OF_AN_EPOCH, 0.5)}
    second = first | {"epoch": 2, "ensemble_accuracy": 0.5}
    state = {name: {} for name in ("config", "model", "optimizer", "scaler")}
    state |= {"epoch": 2, "batch": 0, "clips": 0, "loss_sum": 0.0, "rows": [first, second]}
    save_state(run, state | {"skipped": [], "ensemble": None})
    with pytest.raises(ValueError, match=r"state.pt, epoch 2: it has other scores than epoch 1"):
        load_state(run)
    del first["train_loss"]
    save_state(run, state | {"skipped": [], "ensemble": None})
    with pytest.raises(ValueError, match=r"state.pt, epoch 1: train_loss is None"):
        load_state(run)


def test_a_state_of_another_version_is_refused(run):
    save_state(run, {"epoch": 1})
    with pytest.raises(
        ValueError, match=r"of another version of this program; delete .* give a new --out"
    ):
        load_state(run)


def test_a_state_that_would_run_code_is_refused(run):
    class Intruder:
        def __reduce__(self):
            return (print, ("code from a checkpoint ran",))

    save_state(run, {"epoch": Intruder()})
    with pytest.raises(ValueError, match=r"state.pt is refused: opening it would run code"):
        load_state(run)


def test_predictions_survive_class_names_with_commas_and_columns_names(tmp_path):
    classes = ("clip", 'bells, "church"', "target")
    clips = [Clip(tmp_path / "a.wav", (1,)), Clip(tmp_path / "b.wav", (0, 2))]
    scores = torch.tensor([[0.2, 0.5, 0.3], [0.25, 0.5, 0.25]])
    file, manifest = tmp_path / "predictions.csv", Manifest("clips", clips, classes, True)
    write_predictions(file, manifest, clips, scores)
    assert read_predictions(file) == [
        ('bells, "church"', pytest.approx([0.2, 0.5, 0.3])),
        ("clip|target", pytest.approx([0.25, 0.5, 0.25])),
    ]


def test_predictions_tell_files_of_one_name_in_two_folders_apart(tmp_path):
    clips = [Clip(tmp_path / name / "1.wav", (index,)) for index, name in enumerate(("dog", "Ö"))]
    file, manifest = tmp_path / "predictions.csv", Manifest("clips", clips, ("dog", "Ö"))
    write_predictions(file, manifest, clips, torch.eye(2))
    lines = file.read_bytes().decode("utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["clip", "dog/1.wav", "Ö/1.wav"]


OLD_RECIPE = {
    "name": "esc10_scratch",
    "corpus": "esc10",
    "preset": "tiny224",
    "start_from": "scratch",
    "accumulation": 2,
    "clip_gradient": 1.0,
    "decay": 0.5,
    "roll_frames": 256,
    "gain": 0.25,
    "patch": [128, 8],
    "stride": [128, 8],
    "precision": "bf16",
}


def test_a_run_of_an_earlier_version_is_read(tmp_path):
    """Fields under their old names; those that it lacks do what that version did."""
    content = {"recipe": OLD_RECIPE, "fold": 2, "clips": "those"}
    write_json(tmp_path / "recipe.json", content)
    row = {"accuracy": 0.8, "mAP": 0.9}
    write_json(tmp_path / "results.json", {"held out": "fold 2", "last": row, "best": row})
    record = read_run(tmp_path)
    recipe = record.recipe
    assert (recipe.init_from, recipe.grad_accumulation_steps) == ("scratch", 2)
    assert (recipe.max_grad_norm, recipe.lr_gamma, recipe.time_shift_frames) == (1.0, 0.5, 256)
    assert (recipe.gain_prob, recipe.depth, recipe.patch) == (0.25, 0, (128, 8))
    assert (record.fold, record.precision, record.score) == (2, "bf16", 0.8)
    assert read_results(tmp_path)["validation_split"] == "fold 2"


def test_a_field_that_no_recipe_has_is_named(tmp_path):
    write_json(tmp_path / "recipe.json", {"recipe": {**OLD_RECIPE, "lerning_rate": 1}, "fold": 1})
    with pytest.raises(ValueError, match=r"fields that no recipe has \('lerning_rate'\)"):
        read_run(tmp_path)


def test_differences_of_recipes_and_unknown_fields_are_short_lines(tmp_path):
    label = 10_000 * "x"
    write_json(tmp_path / "recipe.json", {"recipe": {**OLD_RECIPE, "label_column": label}})
    (difference,) = [
        each
        for each in recipe_differences(read_run(tmp_path), RECIPES["esc50"])
        if each.startswith("label_column")
    ]
    assert len(difference) < 500
    write_json(tmp_path / "recipe.json", {"recipe": {**OLD_RECIPE, "two\nlines": 1}})
    with pytest.raises(ValueError, match=r"no recipe has \('two\\nlines'\)"):
        read_run(tmp_path)
