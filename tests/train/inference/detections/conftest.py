"""A model that can hear BirdCLEF's rows."""

import pytest
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from tests.birdclef_layout import RATE, TONES


@pytest.fixture(scope="session")
def birds(tmp_path_factory):
    """A random model of 5.015 s at 32 kHz, and its folder."""
    torch.manual_seed(0)
    patches = {"patch": (16, 50), "stride": (16, 50)}
    model = AST(ASTConfig(len(TONES), 500, **patches, width=16, depth=1, heads=2)).eval()
    model.head.weight.data.mul_(40)
    frontend = Frontend(FrontendConfig(500, sample_rate=RATE, low_freq=50.0))
    classifier = AudioClassifier(model, frontend, tuple(TONES), multi_label=True)
    folder = tmp_path_factory.mktemp("models") / "birds"
    weights.save(folder, classifier)
    return classifier, folder
