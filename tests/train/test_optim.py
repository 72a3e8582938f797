"""Which parameters learn, and how fast."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ast_model import AST
from train.optim import learning_rate, make_optimizer, plateaus, set_learning_rate
from train.recipes.esc50 import ESC50


@pytest.fixture
def model(recipe):
    return AST(replace(recipe, depth=3).model_config(8))


def rates(optimizer, model):
    """Learning rate of each parameter that is trained."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_everything_learns_at_the_schedules_rate(recipe, model):
    optimizer = make_optimizer(recipe, model)
    set_learning_rate(optimizer, 0.5)
    assert rates(optimizer, model) == {name: 0.5 for name, _ in model.named_parameters()}


def test_layer_decay_slows_each_block_more_than_the_one_above(recipe, model):
    optimizer = make_optimizer(replace(recipe, layer_decay=0.5), model)
    set_learning_rate(optimizer, 1.0)
    found = rates(optimizer, model)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert found["head.weight"] == found["norm.bias"] == found["head_norm.weight"] == 1.0
    assert found["blocks.2.mlp.expand.weight"] == 0.5
    assert found["blocks.0.attention.qkv.bias"] == 0.5**3
    embedding = ("positions", "cls_token", "dist_token", "patch_embedding.projection.weight")
    assert {found[name] for name in embedding} == {0.5**4}


def test_a_linear_probe_trains_the_head_alone(recipe, model):
    optimizer = make_optimizer(replace(recipe, freeze_backbone=True), model)
    assert rates(optimizer, model).keys() == {
        "norm.weight", "norm.bias", "head_norm.weight", "head_norm.bias", "head.weight",
        "head.bias",
    }  # fmt: skip
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.randn(2, recipe.num_frames, 128)).sum().backward()
    optimizer.step()
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert "head.weight" in changed
    assert not any(name.startswith("blocks.") for name in changed)


def test_options_about_layers_are_refused_for_other_models(recipe):
    for change in ({"layer_decay": 0.5}, {"freeze_backbone": True}):
        with pytest.raises(ValueError, match="know an AST's layers; use --model ast"):
            make_optimizer(replace(recipe, **change), torch.nn.Linear(2, 2))


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


@given(st.lists(st.floats(-1, 1)), st.integers(1, 4))
def test_a_plateau_is_where_pytorchs_scheduler_finds_one(scores, patience):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=patience, threshold=0, eps=0
    )
    for score in scores:
        theirs.step(score)
    assert optimizer.param_groups[0]["lr"] == 0.5 ** plateaus(scores, patience)


def test_the_plateau_schedule_looks_at_the_epochs_before_the_step():
    recipe = replace(ESC50, schedule="plateau", lr_gamma=0.5, lr_decay_every=1, warmup_steps=4)
    rows = [{"accuracy": score} for score in (0.5, 0.4, 0.5, 0.6)]
    rates = [learning_rate(recipe, 10 * n, 10, rows[:n]) for n in range(5)]
    assert rates == [recipe.learning_rate * factor for factor in (0.25, 1, 1, 0.5, 0.5)]
