"""The demonstration does what it promises."""

import pytest
import torch

from ast_model import Frontend
from data import synthetic
from train.evaluation import predict_logits
from train.init_model import initial_model
from train.loop import train
from train.metrics import evaluate_scores
from train.recipes.demo import DEMO


def test_an_untrained_model_fails_the_synthetic_data(tmp_path):
    manifest = synthetic(tmp_path, clips_per_class=5)
    torch.manual_seed(0)
    model, frontend = initial_model(DEMO, manifest.classes), Frontend(DEMO.frontend_config())
    logits, targets = predict_logits(model, frontend, manifest.clips, "fp32")
    assert evaluate_scores(logits.numpy(), targets.numpy())["accuracy"] < 0.4


@pytest.mark.slow
def test_the_demo_reaches_90_percent(tmp_path):
    torch.set_num_threads(2)
    rows = train(DEMO, synthetic(tmp_path / "data"), tmp_path / "run", fold=1, device="cpu")
    torch.set_num_threads(1)
    assert rows[-1]["accuracy"] >= 0.9
