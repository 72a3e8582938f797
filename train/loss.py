"""The training loss: soft targets go in as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data import Clip
from train.recipe import Recipe


def training_loss(
    logits: Tensor, targets: Tensor, recipe: Recipe, class_weights: Tensor | None = None
) -> Tensor:
    """The loss summed over the clips, a scalar.

    Cross-entropy in nats; or binary cross-entropy, averaged over the classes as the authors'
    BCEWithLogitsLoss is. Focal loss (Lin et al., 2017) multiplies every term by
    (1 - probability of the target)^gamma.

    Args:
        logits, targets: (batch, classes) float32; targets in [0, 1], mixed ones included.
        class_weights: (classes,), factors on each class's terms.
    """
    smoothing, gamma = recipe.label_smoothing, recipe.focal_gamma
    if recipe.loss == "cross_entropy" and not gamma:
        return F.cross_entropy(
            logits, targets, class_weights, label_smoothing=smoothing, reduction="sum"
        )
    if recipe.loss == "cross_entropy":
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        log_probabilities = logits.log_softmax(dim=1)
        terms = -targets * (1 - log_probabilities.exp()) ** gamma * log_probabilities
        return (terms if class_weights is None else terms * class_weights).sum()
    targets = targets * (1 - smoothing) + smoothing / 2
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)  # log p, log (1 - p)
    terms = -targets * negative.exp() ** gamma * positive
    terms = terms - (1 - targets) * positive.exp() ** gamma * negative
    return (terms if class_weights is None else terms * class_weights).mean(dim=1).sum()


def inverse_frequency(clips: Sequence[Clip], num_classes: int) -> Tensor:
    """Class weights proportional to 1 / clips of the class, of mean 1 over the clips' labels.

    As scikit-learn's `compute_class_weight("balanced")`.
    """
    counts = np.zeros(num_classes)
    for clip in clips:
        counts[list(clip.targets)] += 1
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(weights).float()
