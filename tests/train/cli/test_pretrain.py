"""`ast-audio pretrain`: from a folder without labels to an encoder that is fine-tuned."""

import re

import numpy as np
import pytest
import soundfile
import torch

import weights
from data.files import write_json
from train.recipes.pretraining import PRETRAINING_RECIPES, SSAST

MICRO = [
    "--depth", "1", "--num-frames", "64", "--epochs", "1", "--batch-size", "8", "--no-clusters",
    "--precision", "fp32", "--device", "cpu", "--no-use-cache",
]  # fmt: skip


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """20 recordings in a folder and the folders in it."""
    root = tmp_path_factory.mktemp("recordings")
    (root / "a" / "b").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (20, 10_640))
    for number, samples in enumerate(noise):
        folder = (root, root / "a", root / "a" / "b")[number % 3]
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
    return root


@pytest.fixture(scope="module")
def pretrained(recordings, tmp_path_factory):
    from train.cli import main

    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert main(["pretrain", "ssast", "--data", f"{recordings}", "--out", f"{folder}", *MICRO]) == 0
    return folder


def test_a_folder_without_labels_gives_an_encoder(pretrained, recordings, run_command):
    words = ["pretrain", "ssast", "--data", recordings, "--out", pretrained, *MICRO]
    code, out, err = run_command(*words)  # it is finished, and said again
    assert code == 0
    assert re.search(r"validation \(2 clips\): last \(epoch 1\): train_loss .*, loss .*, acc", out)
    assert f"--init-from {pretrained}" in out
    assert "nothing is left to train" in err + out
    statistics = weights.load(pretrained).frontend.config
    assert statistics.mean != SSAST.mean and abs(statistics.mean) < 20


def test_the_authors_layout_holds_the_same_encoder(pretrained, tmp_path, run_command):
    assert run_command("convert", pretrained, tmp_path / "ssast.pth")[0] == 0
    ours = weights.load(pretrained).model.state_dict()
    theirs = weights.load(tmp_path / "ssast.pth", num_classes=1, heads=3).model.state_dict()
    assert all(torch.equal(theirs[n], ours[n]) for n in ours if not n.startswith("head"))


def test_training_starts_from_the_run(pretrained, corpus_folder, tiny, tmp_path, run_command):
    words = ["train", "demo", "--data", corpus_folder, "--out", tmp_path / "run", *tiny]
    words += ["--patch", "16", "16", "--stride", "10", "10", "--pooling", "patches"]
    code, _, err = run_command(*words, "--init-from", pretrained)
    assert code == 0, err


def test_a_run_without_a_finished_epoch_is_no_start(corpus_folder, tiny, tmp_path, run_command):
    write_json(tmp_path / "begun" / "recipe.json", {"recipe": SSAST.to_json(), "fold": None})
    words = ["train", "demo", "--data", corpus_folder, "--out", tmp_path / "run", *tiny]
    code, _, err = run_command(*words, "--init-from", tmp_path / "begun")
    assert code == 2 and err.count("\n") == err.strip().count("\n") + 1
    assert err.splitlines()[-1] == (
        f"ast-audio: the run {tmp_path / 'begun'} has no last/ yet: let it finish an epoch"
    )


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_head_that_was_not_trained_is_refused(pretrained, recordings, run_command, command):
    data = ["--data", recordings] if command == "evaluate" else [recordings / "0.wav"]
    code, out, err = run_command(command, pretrained, *data, "--device", "cpu")
    assert code == 2 and out == ""
    assert re.search(rf"ast-audio: {pretrained}\S* is pretrained without labels, so its head", err)


def test_convert_warns_of_a_head_that_was_not_trained(pretrained, tmp_path, run_command):
    code, _, err = run_command("convert", pretrained, tmp_path / "model")
    assert code == 0 and err.count("its head is not trained") == 1


def test_runs_lists_it(pretrained, run_command):
    code, out, _ = run_command("runs", pretrained.parent)
    assert code == 0
    assert re.search(r"^run +ssast +folder +0 +1/1 +finished +accuracy 0\.\d{4} +valid", out, re.M)


def test_embeddings_need_no_head(pretrained, recordings, tmp_path, run_command):
    words = ["embed", pretrained, recordings / "0.wav", "--out", tmp_path / "vectors.npz"]
    assert run_command(*words, "--device", "cpu")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--mask-share", "1.5"], "--mask-share is 1.5, must be in (0, 1)"),
        (["--mask-share", "0"], "--mask-share is 0.0, must be in (0, 1)"),
        (["--stride", "10", "10"], "no option --stride"),
        (["--data", "nowhere"], "no folder nowhere: expected a folder of recordings"),
        (["--fold", "2"], "has no folds"),
        (["--num-frames", "16", "--mask-share", "0.01"], "--mask-share 0.01 of 8 patches hides 0:"),
        (["--num-frames", "16", "--mask-share", "0.99"], "--mask-share 0.99 of 8 patches hides 8:"),
        (["--num-frames", "32", "--clusters"], "smaller than a cluster of 5 x 5: use longer clips"),
        (["--num-frames", "32", "--clusters"], "or --no-clusters for single patches"),
    ],
)
def test_bad_input_is_one_line(recordings, tmp_path, run_command, change, message):
    words = ["pretrain", "ssast", "--data", recordings, "--out", tmp_path / "run", *MICRO, *change]
    code, out, err = run_command(*words)
    assert code == 2 and out == ""
    last = [line for line in err.splitlines() if line.startswith("ast-audio: ")]
    assert len(last) == 1 and message in last[0], err
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_recipe_of_the_other_kind_is_sent_to_its_command(
    pretrained, run_folder, recordings, run_command
):
    code, _, err = run_command("train", pretrained / "recipe.json", "--data", recordings)
    assert code == 2 and "is of pretraining, not of training: give it to `ast-audio pret" in err
    code, _, err = run_command("pretrain", run_folder / "recipe.json", "--data", recordings)
    assert code == 2 and "is of training, not of pretraining: give it to `ast-audio train`" in err


def test_the_recipes_are_listed(run_command):
    _, out, _ = run_command("pretrain", "--help")
    for name, recipe in PRETRAINING_RECIPES.items():
        assert re.search(rf"^  {name} +{re.escape(recipe.summary)}$", out, re.MULTILINE)
