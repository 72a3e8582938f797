"""The learning rate at every step."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.recipes.esc50 import ESC50
from train.schedule import learning_rate


def test_esc50_falls_by_085_after_every_epoch_from_the_fifth():
    """As `MultiStepLR(milestones=range(5, 26), gamma=0.85)`, stepped after every epoch."""
    rates = [learning_rate(ESC50, 7 * epoch, 7) for epoch in range(25)]
    assert rates[:5] == [1e-5] * 5
    for epoch in range(5, 25):
        assert rates[epoch] == pytest.approx(1e-5 * 0.85 ** (epoch - 4))
    assert learning_rate(ESC50, 7 * 5 + 6, 7) == rates[5]  # constant within an epoch


@given(
    schedule=st.sampled_from(["step", "cosine"]),
    warmup=st.floats(0, 5),
    epochs=st.integers(1, 30),
    steps_per_epoch=st.integers(1, 50),
)
def test_positive_at_every_step_and_never_above_the_highest(
    schedule, warmup, epochs, steps_per_epoch
):
    recipe = replace(ESC50, schedule=schedule, warmup_epochs=warmup, epochs=epochs)
    for step in range(epochs * steps_per_epoch):
        assert 0 < learning_rate(recipe, step, steps_per_epoch) <= recipe.learning_rate


def test_warmup_rises_linearly_from_its_first_step_and_cosine_ends_near_zero():
    recipe = replace(ESC50, schedule="cosine", warmup_epochs=2, epochs=10, learning_rate=1.0)
    rates = [learning_rate(recipe, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
