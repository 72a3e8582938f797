"""The loss against PyTorch's own, and that soft targets arrive as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from data import Clip
from train.loss import inverse_frequency, training_loss
from train.recipes.esc50 import ESC50_SCRATCH

BCE = replace(ESC50_SCRATCH, loss="bce")


def batch(seed=0, classes=5):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, classes, generator=generator) * 3
    targets = torch.rand(4, classes, generator=generator)  # as mixup leaves them
    return logits, targets / targets.sum(dim=1, keepdim=True)


def test_cross_entropy_is_pytorchs_on_soft_targets():
    logits, targets = batch()
    recipe = replace(ESC50_SCRATCH, label_smoothing=0.1)
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="sum")
    assert torch.equal(training_loss(logits, targets, recipe), expected)


def test_binary_cross_entropy_is_pytorchs_mean_over_the_classes():
    logits, targets = batch()
    expected = 4 * F.binary_cross_entropy_with_logits(logits, targets)
    assert torch.allclose(training_loss(logits, targets, BCE), expected)


def test_label_smoothing_moves_each_sigmoid_towards_a_half():
    logits, targets = batch()
    expected = 4 * F.binary_cross_entropy_with_logits(logits, targets * 0.9 + 0.05)
    assert torch.allclose(
        training_loss(logits, targets, replace(BCE, label_smoothing=0.1)), expected
    )


@pytest.mark.parametrize("recipe", [ESC50_SCRATCH, BCE], ids=["cross_entropy", "bce"])
@given(seed=st.integers(0, 100), smoothing=st.floats(0, 0.5))
def test_focal_loss_goes_over_into_the_plain_one(recipe, seed, smoothing):
    logits, targets = batch(seed)
    plain = replace(recipe, label_smoothing=smoothing)
    weights = torch.tensor([0.5, 1, 2, 1, 0.5])
    almost = training_loss(logits, targets, replace(plain, focal_gamma=1e-6), weights)
    assert torch.allclose(almost, training_loss(logits, targets, plain, weights), rtol=1e-4)


@pytest.mark.parametrize("recipe", [ESC50_SCRATCH, BCE], ids=["cross_entropy", "bce"])
def test_focal_loss_counts_what_is_right_already_for_less(recipe):
    target = torch.tensor([[1.0, 0.0]])
    focal = replace(recipe, focal_gamma=2.0)
    right, wrong = torch.tensor([[3.0, -3.0]]), torch.tensor([[-3.0, 3.0]])
    for logits, least, most in ((right, 0.0, 0.01), (wrong, 0.9, 1.0)):
        share = training_loss(logits, target, focal) / training_loss(logits, target, recipe)
        assert least < share < most


def test_focal_binary_cross_entropy_is_that_of_the_paper():
    """Lin et al. (2017), equation 4, with the target's probability written out."""
    logits, targets = batch()
    targets = (targets > 0.2).float()
    p = logits.sigmoid()
    right = torch.where(targets == 1, p, 1 - p)
    expected = (-((1 - right) ** 2) * right.log()).mean(dim=1).sum()
    assert torch.allclose(training_loss(logits, targets, replace(BCE, focal_gamma=2.0)), expected)


@pytest.mark.parametrize("recipe", [ESC50_SCRATCH, BCE], ids=["cross_entropy", "bce"])
def test_a_weight_of_two_counts_a_class_twice(recipe):
    logits = torch.zeros(1, 2)
    targets = torch.tensor([[1.0, 0.0]])
    doubled = training_loss(logits, targets, recipe, torch.tensor([2.0, 1.0]))
    plain = training_loss(logits, targets, recipe)
    other = training_loss(logits, targets, recipe, torch.tensor([1.0, 1.0]))
    assert torch.allclose(other, plain)
    assert doubled > plain


def test_class_weights_are_scikit_learns_balanced_ones():
    labels = [0, 0, 0, 1, 2, 2]
    clips = [Clip(Path("x.wav"), (label,)) for label in labels]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert np.allclose(inverse_frequency(clips, 3), expected)


def test_very_wrong_logits_stay_finite():
    logits, targets = torch.tensor([[500.0, -500.0]]), torch.tensor([[0.0, 1.0]])
    for recipe in (ESC50_SCRATCH, BCE):
        for gamma in (0.0, 2.0):
            wrong = logits.clone().requires_grad_()
            loss = training_loss(wrong, targets, replace(recipe, focal_gamma=gamma))
            loss.backward()
            assert loss.isfinite() and wrong.grad.isfinite().all()
