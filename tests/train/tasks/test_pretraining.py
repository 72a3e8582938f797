"""Pretraining by the loop: what a run leaves, and that an interruption changes nothing."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import weights
from train import loop
from train.loop import train
from train.recipes.pretraining import MAE
from train.run.folder import load_state, read_metrics, read_results, read_run, save_state
from train.tasks import task_of
from train.tasks.pretraining import Pretraining
from weights.card import UNTRAINED


class Interruption(BaseException):
    """Stands for the process dying: no handler of ours may catch it."""


def run(recipe, manifest, folder, **options):
    return train(recipe, manifest, folder, fold=1, device="cpu", **options)


def results(folder):
    """Everything that an interruption could change."""
    models = [load_file(folder / name / "model.safetensors") for name in ("last", "best")]
    tensors = [{name: t.numpy().tobytes() for name, t in model.items()} for model in models]
    pictures = {path.name: path.read_bytes() for path in (folder / "plots").iterdir()}
    return tensors, (folder / "metrics.csv").read_bytes(), pictures


@pytest.fixture(scope="module")
def straight(pretraining_recipe, unlabelled_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(pretraining_recipe, unlabelled_manifest, folder)
    return folder


def test_a_run_leaves_an_encoder_and_its_scores(straight, pretraining_recipe):
    assert {path.name for path in straight.iterdir()} == {
        "recipe.json", "environment.json", "metrics.csv", "results.json", "best", "last", "state",
        "plots", "tensorboard",
    }  # fmt: skip
    rows = read_metrics(straight)
    assert list(rows[0]) == [
        "epoch", "learning_rate", "train_loss", "loss", "contrastive", "reconstruction", "accuracy",
    ]  # fmt: skip
    for row in rows:
        assert row["loss"] == pytest.approx(row["contrastive"] + 10 * row["reconstruction"])
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert read_results(straight)["validation"]["last"] == rows[-1]
    assert read_run(straight).recipe == pretraining_recipe
    pictures = {"reconstruction-epoch1.png", "reconstruction-epoch2.png"}
    assert pictures <= {path.name for path in (straight / "plots").iterdir()}


def test_the_encoder_is_what_was_trained(straight, pretraining_recipe):
    classifier = weights.load(straight)
    assert classifier.classes == UNTRAINED
    assert classifier.model.config == pretraining_recipe.model_config(1)
    assert classifier.frontend.config == pretraining_recipe.frontend_config()
    state, saved = load_state(straight)["model"], classifier.model.state_dict()
    assert all(torch.equal(saved[name], state[f"encoder.{name}"]) for name in saved)


def test_what_an_encoder_is_made_of_is_trained_and_its_head_is_not(straight, pretraining_recipe):
    """So that several processes need not wait for gradients that never come."""
    torch.manual_seed(0)
    saved = load_state(straight)
    model = Pretraining().empty_model(saved["config"])
    fixed = {name for name, each in model.named_parameters() if not each.requires_grad}
    head = ("head.weight", "head.bias", "head_norm.weight", "head_norm.bias")
    assert fixed == {f"encoder.{name}" for name in head}
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert len(saved["optimizer"]["state"]) == len(trained)


@pytest.mark.parametrize(("step", "minutes"), [(1, 0.0), (2, 0.0), (3, 0.0), (3, 10.0)])
def test_interrupted_at_any_step_ends_the_same(
    pretraining_recipe, unlabelled_manifest, tmp_path, straight, monkeypatch, step, minutes
):
    """Two steps an epoch; with 0 minutes every step is a checkpoint, with 10 every epoch."""
    steps, original = iter(range(100)), loop.train_step

    def dying(*arguments):
        if next(steps) == step:
            raise Interruption
        return original(*arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(Interruption):
            run(pretraining_recipe, unlabelled_manifest, folder, checkpoint_minutes=minutes)
    run(pretraining_recipe, unlabelled_manifest, folder, checkpoint_minutes=minutes)
    assert results(folder) == results(straight)


def test_every_epoch_hides_other_patches_and_validation_the_same(
    pretraining_recipe, unlabelled_manifest, straight
):
    task, recipe = task_of(pretraining_recipe), pretraining_recipe
    model = task.empty_model(load_state(straight)["config"])
    state = loop.TrainState.before_training(recipe, "fp32", torch.device("cpu"), model, 2)
    clips = unlabelled_manifest.clips[:4]
    seeds = []
    for state.epoch in (0, 1, 1):
        seeds.append([item.noise_seed for item in task.dataset(state, clips, None)])
    assert seeds[0] != seeds[1] == seeds[2]
    assert len({*seeds[0], *seeds[1]}) == 8
    scores = []
    for state.epoch in (0, 1):
        options = {"run": None, "state": state, "cache": None, "workers": 0}
        scores.append(task.evaluate(model, clips, **options)[0])
    assert torch.equal(*scores)


def test_scoring_keeps_no_tensor_of_a_batch(
    pretraining_recipe, unlabelled_manifest, straight, tensors_alive
):
    """They lay between large ones, and scattered the memory that those free."""
    recipe = replace(pretraining_recipe, batch_size=1)
    task = task_of(recipe)
    model = task.empty_model(load_state(straight)["config"])
    state = loop.TrainState.before_training(recipe, "fp32", torch.device("cpu"), model, 2)
    counts = tensors_alive(model)
    options = {"run": None, "state": state, "cache": None, "workers": 0}
    scores, _ = task.evaluate(model, unlabelled_manifest.clips[:8], **options)
    assert len(counts) == len(scores) == 8
    assert max(counts[2:]) == counts[2]


def test_pretraining_goes_on_from_another_encoder(
    pretraining_recipe, unlabelled_manifest, straight, tmp_path
):
    recipe = replace(pretraining_recipe, init_from=str(straight), learning_rate=1e-12, epochs=1)
    run(recipe, unlabelled_manifest, tmp_path / "run")
    theirs = weights.load(straight).model.state_dict()
    for name, tensor in weights.load(tmp_path / "run").model.state_dict().items():
        assert name.startswith("head") or torch.allclose(tensor, theirs[name], atol=1e-6), name


def test_a_masked_autoencoder_is_chosen_by_its_error(
    pretraining_recipe, unlabelled_manifest, tmp_path, monkeypatch
):
    shared = {
        name: getattr(pretraining_recipe, name)
        for name in ("depth", "num_frames", "epochs", "batch_size", "precision")
    }
    recipe = replace(MAE, decoder_depth=1, **shared)
    errors, original = iter([0.5, 0.7]), Pretraining.evaluate

    def evaluate(*arguments, **options):
        outputs, scores = original(*arguments, **options)
        return outputs, {**scores, "reconstruction": next(errors)}

    monkeypatch.setattr(Pretraining, "evaluate", evaluate)
    rows = run(recipe, unlabelled_manifest, tmp_path / "run")
    assert list(rows[0])[3:] == ["loss", "reconstruction"]
    assert read_results(tmp_path / "run")["validation"]["best"]["epoch"] == 1


def test_scores_that_are_nan_name_the_model(
    pretraining_recipe, unlabelled_manifest, tmp_path, monkeypatch
):
    original = loop.TrainState.before_training

    def poisoned(*arguments):
        state = original(*arguments)
        state.eval_model.encoder.norm.bias.data.fill_(float("nan"))
        return state

    monkeypatch.setattr(loop.TrainState, "before_training", poisoned)
    monkeypatch.setattr(loop, "train_step", lambda *arguments: None)
    with pytest.raises(ValueError, match=r"run/last in epoch 1: scores of 8 of 8 clips are NaN"):
        run(pretraining_recipe, unlabelled_manifest, tmp_path / "run")


def test_a_run_of_other_recipe_is_not_gone_on_with(
    pretraining_recipe, unlabelled_manifest, recipe, manifest, straight
):
    with pytest.raises(ValueError, match=r"different recipe \(mask_share 0.5 -> 0.6\)"):
        run(replace(pretraining_recipe, mask_share=0.6), unlabelled_manifest, straight)
    with pytest.raises(ValueError, match=r"a different recipe \(pretraining -> training"):
        run(recipe, manifest, straight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["encoder"].update(depth=2), r"another model \(depth 2, the recipe"),
        (lambda config: config.update(clusters=True), r"another model \(clusters True, the recipe"),
        (lambda config: config["encoder"].update(colour=1), r"does not know \('colour'\)"),
        (lambda config: config.update(encoder=3), r"another model \(encoder 3, the recipe"),
    ],
)
def test_a_state_of_another_model_is_refused(
    pretraining_recipe, unlabelled_manifest, straight, tmp_path, change, message
):
    folder = tmp_path / "run"
    shutil.copytree(straight, folder)
    state = load_state(folder)
    change(state["config"])
    save_state(folder, state)
    with pytest.raises(ValueError, match=message):
        run(pretraining_recipe, unlabelled_manifest, folder)
