"""The line that says which model runs: its size, its epoch, device and precision."""

import logging

import pytest

import weights
from train.inference.models import load_model
from train.run.folder import write_table


@pytest.fixture
def said(caplog):
    """Loads a model on the CPU; the line that was logged."""

    def load(*arguments):
        caplog.clear()
        with caplog.at_level(logging.INFO, "train"):
            load_model(*arguments)
        (line,) = caplog.messages
        return line

    return load


def test_a_model_folder_is_told_with_its_size_device_and_precision(said, model_folder):
    line = f"model {model_folder}: 11,811 parameters, 3 classes; CPU, "
    assert said(model_folder, "cpu") == line + "fp32"
    assert said(model_folder, "cpu", "int8") == line + "int8"


def test_bf16_on_a_cpu_that_is_slow_in_it_is_told(model_folder, monkeypatch, caplog):
    monkeypatch.setattr("train.device.bf16_is_faster", lambda device: False)
    monkeypatch.setattr("train.device._multiply", lambda dtype: 4.0 / dtype.itemsize)
    load_model(model_folder, "cpu", "bf16")
    assert "takes 2.0 times as long to multiply matrices in bf16" in caplog.text


def test_a_path_below_the_current_folder_is_shown_as_one_types_it(said, run_folder, monkeypatch):
    monkeypatch.chdir(run_folder.parent)
    assert said("fold2", "cpu").startswith("model fold2/last: 549,512 parameters, 8 classes, ")


@pytest.fixture
def run_of_three(fake_run, classifier, tmp_path):
    """Makes a run whose second epoch of three is the best, finished or not."""

    def make(finished=True):
        folder = fake_run(tmp_path / "run", 0.5 if finished else None)
        scores = enumerate((0.2, 0.4, 0.3), 1)
        rows = [{"epoch": epoch, "accuracy": score, "mAP": 0.5} for epoch, score in scores]
        write_table(folder / "metrics.csv", rows[: 3 if finished else 2])
        for name in ("best", "last", "averaged"):
            weights.save(folder / name, classifier)
        return folder

    return make


@pytest.mark.parametrize(
    ("finished", "name", "expected"),
    [
        (True, "", "epoch 3 of 2, the last"),
        (True, "last", "epoch 3 of 2, the last"),
        (True, "best", "epoch 2 of 2, of the best validation accuracy"),
        (True, "averaged", "weights averaged over epochs"),
        (False, "", "epoch 2 of 2 (this run is not finished)"),
        (False, "best", "epoch 2 of 2 (this run is not finished)"),
    ],
)
def test_of_a_run_the_epoch_is_told(said, run_of_three, finished, name, expected):
    assert f" classes, {expected}; CPU" in said(run_of_three(finished) / name, "cpu")


def test_a_damaged_record_does_not_keep_a_model_from_running(said, run_of_three):
    run = run_of_three()
    (run / "recipe.json").write_text("{}")
    assert "epoch unknown: recipe.json beside it is damaged" in said(run, "cpu")
