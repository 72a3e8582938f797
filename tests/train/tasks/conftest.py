"""What pretrains within a second."""

from dataclasses import replace

import pytest

from train.pretraining.clips import unlabelled
from train.recipes.pretraining import SSAST


@pytest.fixture(scope="session")
def unlabelled_manifest(manifest):
    """40 clips in five folds."""
    return unlabelled(manifest, 0)


@pytest.fixture(scope="session")
def pretraining_recipe():
    """One block, two steps an epoch; the plateau schedule and dropout are on."""
    return replace(
        SSAST,
        depth=1,
        num_frames=64,
        epochs=2,
        batch_size=20,
        precision="fp32",
        clusters=False,
        mask_share=0.5,
        dropout=0.1,
        lr_decay_every=1,
    )
