"""A recipe and a data set so small that a run takes a second."""

from dataclasses import replace

import pytest

from data import synthetic
from train.recipes.demo import DEMO


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    """Synthetic data: 8 classes of 5 clips, one a fold."""
    folder = tmp_path_factory.mktemp("corpus")
    synthetic(folder, clips_per_class=5)
    return folder


@pytest.fixture(scope="session")
def manifest(corpus_folder):
    return synthetic(corpus_folder, clips_per_class=5)


@pytest.fixture(scope="session")
def recipe():
    """Everything random is on: mixup, masks, noise, roll, dropout, drop path."""
    return replace(
        DEMO,
        num_frames=64,
        epochs=2,
        frequency_mask=8,
        time_mask=16,
        mixup_rate=0.5,
        noise=True,
        dropout=0.1,
        drop_path=0.1,
        precision="fp32",
    )
