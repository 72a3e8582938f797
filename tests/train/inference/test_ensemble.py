"""`ast-audio ensemble`: the mean of probabilities, each model behind its own front end."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import weights
from ast_model import AST, ASTConfig, Frontend, FrontendConfig
from data import load_audio
from train.metrics import evaluate_scores
from train.run_folder import write_json


@pytest.fixture(scope="module")
def models(manifest, tmp_path_factory):
    """Three random models of other lengths and windows; the last is of sigmoids."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (frames, window, sigmoid) in enumerate(
        [(64, "hamming", False), (48, "hanning", False), (32, "povey", True)]
    ):
        torch.manual_seed(seed)
        model = AST(ASTConfig(8, frames, width=16, depth=1, heads=2)).eval()
        model.head.weight.data.mul_(40)
        frontend = Frontend(FrontendConfig(frames, window=window))
        weights.save(folder / str(seed), model, frontend, manifest.classes, sigmoid)
    return [folder / str(seed) for seed in range(3)]


def test_probabilities_are_averaged(run_command, models, manifest, corpus_folder, tmp_path):
    words = ("--data", corpus_folder, "--corpus", "esc50", "--fold", "1", "--no-use-cache")
    code, out, err = run_command(
        "ensemble", *models, *words, "--out", tmp_path, "--device", "cpu", "--precision", "fp32"
    )
    assert code == 0, err
    clips = [clip for clip in manifest.clips if clip.fold == 1]
    each = [
        torch.cat([weights.load(m).probabilities(load_audio(c.path)[None]) for c in clips])
        for m in models
    ]
    mean = torch.stack(each).double().mean(0).numpy()
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == [clip.path.name for clip in clips]
    assert np.array([row[2:] for row in rows], float) == pytest.approx(mean, abs=1e-5)
    targets = np.eye(8)[[clip.targets[0] for clip in clips]]
    lines = out.splitlines()
    assert lines[0] == f"esc50, fold 1, {len(clips)} clips"
    for line, values in zip(lines[2:6], [*each, mean], strict=True):
        expected = evaluate_scores(np.asarray(values), targets, False, sigmoid=True)
        assert float(line.split()[1]) == pytest.approx(expected["accuracy"], abs=1e-4)
    assert lines[5].startswith("ensemble")
    assert float(lines[5].split()[2]) == pytest.approx(
        evaluate_scores(mean, targets, False, True)["mAP"], abs=1e-4
    )


def test_runs_that_held_out_different_folds_are_refused(
    run_command, run_folder, recipe, corpus_folder, tmp_path
):
    other = tmp_path / "fold3"
    shutil.copytree(run_folder / "last", other / "last")
    recipe = replace(recipe, corpus="esc50")
    write_json(other / "recipe.json", {"recipe": recipe.to_json(), "fold": 3, "clips": ""})
    words = ("ensemble", run_folder, other, "--data", corpus_folder, "--no-use-cache")
    code, _, err = run_command(*words, "--device", "cpu")
    assert (code, err.count("\n")) == (2, 1)
    assert "held out fold 2 and" in err
    assert "fold 3, so each was trained on what another one holds out" in err


def test_other_classes_and_too_few_models_are_refused(
    run_command, models, model_folder, corpus_folder
):
    words = ("--data", corpus_folder, "--corpus", "esc50", "--no-use-cache", "--device", "cpu")
    code, _, err = run_command("ensemble", models[0], model_folder, *words)
    assert (code, "knows the classes dog, rain" in err) == (2, True)
    code, _, err = run_command("ensemble", models[0], *words)
    assert (code, "an ensemble is of two models or more" in err) == (2, True)
