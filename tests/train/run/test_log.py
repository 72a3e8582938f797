"""What a run says while it trains."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from data import folder
from train.loop import train
from train.run.said_once import said_once


@pytest.fixture
def said(caplog):
    """The lines of `run.log`."""
    caplog.set_level("INFO")
    return lambda: [each.message for each in caplog.records if each.name == "train.run.log"]


@pytest.fixture
def short(recipe):
    """A run of four epochs of 32 steps, which are enough to be asked for its score."""
    changes = {"batch_size": 1, "epochs": 4, "warmup_epochs": 0.0, "mixup_rate": 0.0}
    return replace(recipe, **changes, dropout=0.0, drop_path=0.0, noise=False)


def run(recipe, manifest, out):
    return train(recipe, manifest, out, fold=1, device="cpu")


def test_the_time_to_the_end_is_told_once_and_epochs_name_their_split(
    recipe, manifest, tmp_path, said
):
    recipe = replace(recipe, epochs=3)
    run(recipe, manifest, tmp_path)
    lines = said()
    (announced,) = [line for line in lines if line.startswith("about ")]
    assert " an epoch, " in announced and " to the end, done at " in announced
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert all("  fold 1 loss " in line for line in epochs)
    assert [line.endswith(" left") for line in epochs] == [False, True, False]
    assert lines.index(announced) == lines.index(epochs[0]) + 1


def test_a_run_that_learns_nothing_is_warned_about_once(short, manifest, tmp_path, caplog):
    recipe = replace(short, learning_rate=1e-12)
    run(recipe, manifest, tmp_path)
    (warning,) = [each.message for each in caplog.records if each.message.startswith("still at")]
    assert "after 4 epochs: accuracy " in warning
    assert "on fold 1 (8 clips), where chance gives 0.1250, with luck 0.3750; try" in warning
    assert "--learning-rate 0.0005" in warning


def test_a_run_that_learns_is_not(short, tmp_path, caplog):
    """Two tones in noise, 48 clips of each to learn from."""
    generator = np.random.default_rng(0)
    time = np.arange(8000) / 16_000
    for pitch in (300, 2000):
        (tmp_path / "tones" / str(pitch)).mkdir(parents=True)
        for k in range(60):
            wave = 0.3 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 0.02, 8000)
            soundfile.write(tmp_path / "tones" / str(pitch) / f"{k}.wav", wave, 16_000)
    recipe = replace(short, batch_size=4, epochs=5, corpus="folder", num_frames=49)
    rows = train(recipe, folder(tmp_path / "tones"), tmp_path / "run", device="cpu")
    assert rows[-1]["accuracy"] == 1.0
    assert not [each for each in caplog.records if each.message.startswith("still at")]


def test_lines_about_data_and_weights_are_said_once_in_a_block(caplog):
    caplog.set_level("INFO")
    data, progress = (
        logging.getLogger("train.preparation.preflight"),
        logging.getLogger("train.run.log"),
    )
    with said_once():
        for fold in (1, 2):
            data.info("10 classes")
            data.info(f"mean of fold {fold}")
            progress.info("epoch 1")
    data.info("10 classes")
    assert caplog.messages == [
        "10 classes",
        "mean of fold 1",
        "epoch 1",
        "mean of fold 2",
        "epoch 1",
        "10 classes",
    ]
