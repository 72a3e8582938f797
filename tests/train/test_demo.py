"""The demonstration does what it promises."""

import pytest
import torch

from data import synthetic
from train.evaluation import predict_logits
from train.loop import train
from train.metrics import evaluate_scores
from train.recipes.demo import DEMO
from train.training import build


def test_an_untrained_model_fails_the_synthetic_data(tmp_path):
    manifest = synthetic(tmp_path, clips_per_class=5)
    training = build(DEMO, manifest.classes, torch.device("cpu"))
    logits, targets = predict_logits(training.model, training.frontend, manifest.clips, "fp32")
    assert evaluate_scores(logits.numpy(), targets.numpy())["accuracy"] < 0.4


@pytest.mark.slow
def test_the_demo_reaches_90_percent(tmp_path):
    torch.set_num_threads(2)
    rows = train(DEMO, synthetic(tmp_path / "data"), 1, tmp_path / "run", device="cpu")
    torch.set_num_threads(1)
    assert rows[-1]["accuracy"] >= 0.9
