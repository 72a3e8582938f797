"""`ensemble` and its command: the mean of probabilities, each model behind its own front end."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import load_audio
from data.files import write_json
from train.inference import ensemble, evaluate
from train.inference.scoring import selection
from train.metrics import evaluate_scores


@pytest.fixture(scope="module")
def models(manifest, tmp_path_factory):
    """Three random models of other lengths and windows; the last is of sigmoids."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (frames, window, multi_label) in enumerate(
        [(64, "hamming", False), (48, "hanning", False), (32, "povey", True)]
    ):
        torch.manual_seed(seed)
        model = AST(ASTConfig(8, frames, width=16, depth=1, heads=2)).eval()
        model.head.weight.data.mul_(40)
        frontend = Frontend(FrontendConfig(frames, window=window))
        classifier = AudioClassifier(model, frontend, manifest.classes, multi_label)
        weights.save(folder / str(seed), classifier)
    return [folder / str(seed) for seed in range(3)]


def test_probabilities_are_averaged(models, manifest, corpus_folder):
    found = ensemble(models, corpus_folder, corpus="esc50", fold=1, device="cpu")
    clips = [clip for clip in manifest.clips if clip.fold == 1]
    each = [
        torch.cat([weights.load(m).probabilities(load_audio(c.path)[None]) for c in clips])
        for m in models
    ]
    mean = torch.stack(each).double().mean(0)
    assert list(found.selection.clips) == clips
    assert torch.allclose(found.probabilities, mean, atol=1e-6)
    targets = np.eye(8)[[clip.targets[0] for clip in clips]]
    for scores, values in zip(
        [*found.model_scores.values(), found.scores], [*each, mean], strict=True
    ):
        expected = evaluate_scores(values.numpy(), targets, False, sigmoid=True)
        assert scores["accuracy"] == expected["accuracy"]
    expected = evaluate_scores(mean.numpy(), targets, False, sigmoid=True)
    assert found.scores["mAP"] == pytest.approx(expected["mAP"])
    assert "loss" not in found.scores


def test_a_model_with_itself_has_its_own_scores_where_clips_have_several_classes(
    models, manifest, corpus_folder, monkeypatch
):
    several = replace(manifest, multi_label=True)
    monkeypatch.setattr(selection, "open_corpus", lambda *_, **__: several)
    options = {"corpus": "esc50", "split": "all", "device": "cpu"}
    alone = evaluate(models[2], corpus_folder, **options).scores
    found = ensemble([models[2]] * 2, corpus_folder, **options).scores
    assert 0 < alone["recall"] < 1
    for name in ("accuracy", "precision", "recall", "f1", "mAP", "AUC"):
        assert found[name] == pytest.approx(alone[name]), name


def test_the_command_tabulates_and_writes_what_the_function_gives(
    run_command, models, corpus_folder, tmp_path
):
    words = ("--data", corpus_folder, "--corpus", "esc50", "--fold", "1", "--no-use-cache")
    code, out, err = run_command("ensemble", *models, *words, "--out", tmp_path, "--device", "cpu")
    assert code == 0, err
    found = ensemble(models, corpus_folder, corpus="esc50", fold=1, device="cpu")
    lines = out.splitlines()
    assert all(f"model {each}: " in line for each, line in zip(models, lines, strict=False))
    lines = lines[len(models) :]
    assert lines[0] == "esc50, fold 1, 8 clips"
    rows = [*found.model_scores.items(), ("ensemble", found.scores)]
    for line, (name, scores) in zip(lines[2:6], rows, strict=True):
        figures = [f"{scores[key]:.4f}" for key in ("accuracy", "mAP", "AUC")]
        assert line.split() == [name, *figures]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        written = list(csv.reader(file))[1:]
    assert [row[0] for row in written] == [clip.path.name for clip in found.selection.clips]
    values = np.array([row[2:] for row in written], float)
    assert values == pytest.approx(found.probabilities.numpy(), abs=1e-6)


def test_runs_that_validated_on_different_folds_are_refused(
    run_command, run_folder, recipe, corpus_folder, tmp_path
):
    other = tmp_path / "fold3"
    shutil.copytree(run_folder / "last", other / "last")
    recipe = replace(recipe, corpus="esc50")
    write_json(other / "recipe.json", {"recipe": recipe.to_json(), "fold": 3, "clips": ""})
    words = ("ensemble", run_folder, other, "--data", corpus_folder, "--no-use-cache")
    code, _, err = run_command(*words, "--device", "cpu")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{run_folder} validated on fold 2 and {other} on fold 3" in err


def test_other_classes_and_too_few_models_are_refused(models, model_folder, corpus_folder):
    with pytest.raises(ValueError, match="knows the classes dog, rain"):
        ensemble([models[0], model_folder], corpus_folder, corpus="esc50", device="cpu")
    with pytest.raises(ValueError, match="an ensemble is of two models or more"):
        ensemble([models[0]], corpus_folder, corpus="esc50", device="cpu")
