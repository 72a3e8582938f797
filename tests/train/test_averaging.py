"""Models beside the trained one: moving average, average of epochs, ensemble, early stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import weights
from data import Manifest, load_audio
from train import loop
from train.loop import train
from train.run import log as run_log
from train.run.folder import load_state, read_predictions, read_results
from train.tasks import classification


def run(recipe, manifest, folder):
    return train(recipe, manifest, folder, fold=1 if manifest.folds else None, device="cpu")


def parameters(folder):
    return weights.load(folder).model.state_dict()


def test_averaged_is_the_mean_of_the_epochs_models(recipe, manifest, tmp_path, monkeypatch):
    """Of epochs 2 and 3 of three."""
    recipe = replace(recipe, epochs=3, average_epochs=(2, 3))
    models, original = [], run_log.Run.save_models

    def save_models(self, state):
        original(self, state)
        models.append(parameters(self.folder / "last"))

    monkeypatch.setattr(run_log.Run, "save_models", save_models)
    run(recipe, manifest, tmp_path / "run")
    for name, averaged in parameters(tmp_path / "run" / "averaged").items():
        assert torch.allclose(averaged, (models[1][name] + models[2][name]) / 2, atol=1e-6), name
    scores = read_results(tmp_path / "run")["validation"]
    assert scores["averaged"].keys() == scores["last"].keys() - {
        "epoch", "learning_rate", "train_loss",
    }  # fmt: skip


def test_weights_that_were_never_averaged_are_no_model(recipe, manifest, tmp_path, monkeypatch):
    """`patience` ends the run before the first epoch whose weights were to be averaged."""
    scores, original = iter([0.5, 0.4, 0.3]), classification.evaluate_scores
    monkeypatch.setattr(
        classification, "evaluate_scores", lambda *a: {**original(*a), "accuracy": next(scores)}
    )
    recipe = replace(recipe, epochs=9, patience=2, average_epochs=(5, 9))
    assert len(run(recipe, manifest, tmp_path / "run")) == 3
    assert not (tmp_path / "run" / "averaged").exists()
    assert read_results(tmp_path / "run")["validation"].keys() == {"last", "best"}


def test_the_moving_average_is_what_is_scored_and_saved(recipe, manifest, tmp_path):
    run(replace(recipe, ema_decay=0.5), manifest, tmp_path / "run")
    state = load_state(tmp_path / "run")
    saved = parameters(tmp_path / "run" / "last")
    assert all(torch.equal(saved[name], state["ema"][f"module.{name}"]) for name in saved)
    assert not torch.equal(saved["head.weight"], state["model"]["head.weight"])


def test_a_moving_average_of_nothing_is_the_model_itself(recipe, manifest, tmp_path):
    run(replace(recipe, ema_decay=1e-12), manifest, tmp_path / "run")
    state = load_state(tmp_path / "run")
    for name, tensor in parameters(tmp_path / "run" / "last").items():
        assert torch.allclose(tensor, state["model"][name], atol=1e-6), name


def test_the_ensemble_scores_the_mean_of_the_epochs_probabilities(
    recipe, manifest, tmp_path, monkeypatch
):
    seen, original = [], classification.ensemble_score

    def ensemble_score(run, state, logits):
        seen.append(logits.softmax(dim=1).numpy())
        return original(run, state, logits)

    monkeypatch.setattr(classification, "ensemble_score", ensemble_score)
    rows = run(replace(recipe, epochs=3, checkpoint_ensemble=True), manifest, tmp_path / "run")
    _, validation = manifest.split(1)
    targets = np.array([clip.targets[0] for clip in validation])
    for number, row in enumerate(rows, start=1):
        expected = (np.mean(seen[:number], axis=0).argmax(axis=1) == targets).mean()
        assert row["ensemble_accuracy"] == pytest.approx(expected)
    assert rows[0]["ensemble_accuracy"] == rows[0]["accuracy"]


@pytest.mark.parametrize("change", [
    {"average_epochs": (1, 3), "checkpoint_ensemble": True},
    {"ema_decay": 0.9, "layer_decay": 0.75}, {"freeze_backbone": True, "class_weights": True},
    {"loss": "bce", "focal_gamma": 2.0, "warmup_epochs": 0.0, "warmup_steps": 3},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_an_interruption_changes_none_of_it(recipe, manifest, tmp_path, monkeypatch, change):
    recipe = replace(recipe, epochs=3, **change)
    rows = run(recipe, manifest, tmp_path / "straight")
    steps, original = iter(range(100)), loop.train_step

    def dying(*arguments):
        if next(steps) == 3:  # in the second epoch
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, manifest, tmp_path / "resumed")
    assert run(recipe, manifest, tmp_path / "resumed") == rows
    models = {"last", "averaged"} & {path.name for path in (tmp_path / "straight").iterdir()}
    for model in models:
        straight, resumed = (parameters(tmp_path / way / model) for way in ("straight", "resumed"))
        assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_patience_ends_a_run_that_no_longer_gets_better(recipe, manifest, tmp_path, monkeypatch):
    scores = iter([0.3, 0.5, 0.4, 0.5, 0.1, 0.9])
    original = classification.evaluate_scores
    monkeypatch.setattr(
        classification, "evaluate_scores", lambda *a: {**original(*a), "accuracy": next(scores)}
    )
    rows = run(replace(recipe, epochs=10, patience=2), manifest, tmp_path / "run")
    assert [row["accuracy"] for row in rows] == [0.3, 0.5, 0.4, 0.5]
    assert read_results(tmp_path / "run")["validation"]["best"]["epoch"] == 2
    assert run(replace(recipe, epochs=10, patience=2), manifest, tmp_path / "run") == rows


def with_splits(manifest):
    names = {1: "test", 2: "validation"}
    clips = [replace(c, fold=None, split=names.get(c.fold, "train")) for c in manifest.clips]
    return replace(manifest, clips=tuple(clips))


def test_the_test_split_is_scored_once_by_the_epoch_that_validation_chose(
    recipe, manifest, tmp_path, monkeypatch
):
    """The first epoch is made the best, so that best and last differ."""
    bonus, original = iter([1.0]), classification.evaluate_scores

    def evaluate_scores(*arguments):
        scores = original(*arguments)
        return {**scores, "accuracy": next(bonus, scores["accuracy"])}

    monkeypatch.setattr(classification, "evaluate_scores", evaluate_scores)
    corpus = with_splits(manifest)
    rows = run(replace(recipe, loss="bce", average_epochs=(1, 2)), corpus, tmp_path / "run")
    results = read_results(tmp_path / "run")
    assert results["validation_split"] == "validation"
    assert results["test"].keys() == {"best", "last", "averaged"}
    assert results["validation"]["best"]["epoch"] == 1
    assert rows[0]["accuracy"] == 1
    predictions = read_predictions(tmp_path / "run" / "test_predictions.csv")
    probabilities = torch.tensor([row for _, row in predictions])
    hits = [
        corpus.classes[int(best)] == target
        for best, (target, _) in zip(probabilities.argmax(dim=1), predictions, strict=True)
    ]
    assert len(hits) == len(corpus.in_split("test"))
    assert np.mean(hits) == pytest.approx(results["test"]["best"]["accuracy"])
    best = weights.load(tmp_path / "run" / "best")
    assert not best.multi_label  # one class a clip, though trained with binary cross-entropy
    waveform = load_audio(corpus.in_split("test")[0].path)
    assert torch.allclose(best.probabilities(waveform[None])[0], probabilities[0], atol=1e-5)


def test_several_classes_a_clip_train_with_binary_cross_entropy(recipe, manifest, tmp_path):
    clips = tuple(replace(c, targets=(*c.targets, (c.targets[0] + 1) % 8)) for c in manifest.clips)
    corpus = Manifest("several", clips, manifest.classes, multi_label=True)
    with pytest.raises(ValueError, match=r"several classes a clip.*use --loss bce"):
        run(recipe, corpus, tmp_path / "refused")
    rows = run(replace(recipe, loss="bce", metric="mAP"), corpus, tmp_path / "run")
    assert 0 < rows[-1]["mAP"] <= 1
    assert "|" in (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1]


def test_probabilities_of_the_ensemble_are_resumed_on_the_cpu(recipe, manifest, tmp_path):
    """State is read to the CPU, wherever the model is: the sum is of logits that are there."""
    recipe = replace(recipe, epochs=1, checkpoint_ensemble=True)
    run(recipe, manifest, tmp_path / "run")
    state = load_state(tmp_path / "run")
    assert state["ensemble"].device.type == "cpu"
    assert {tensor.device.type for tensor in state["model"].values()} == {"cpu"}
