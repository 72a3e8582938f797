"""The losses of what was hidden, one number a clip.

Shapes: B batch, n hidden patches, V values of a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


class PretextLosses(NamedTuple):
    """Of each clip, (B,) float32; zeros for what a model does not compute."""

    loss: Tensor  # what is minimised
    contrastive: Tensor
    reconstruction: Tensor
    accuracy: Tensor  # share of the hidden patches that are matched to their own place


def contrastive_loss(predicted: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """How well each hidden patch is told from the clip's others, and how often it is (B,), (B,).

    InfoNCE within a clip, as the authors' code has it: of a hidden patch, the scores against all
    predictions are its products with them, and its own prediction is the right one.
    The accuracy is of these scores, where the authors' ranks the patches of each prediction.

    Args:
        predicted: (B, n, V).
        hidden: (B, n, V), the values of the patches.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        scores = hidden.float() @ predicted.float().transpose(1, 2)  # (B, n patches, n predictions)
        own = log_softmax(scores, dim=2).diagonal(dim1=1, dim2=2)
    right = scores.argmax(dim=2) == torch.arange(scores.shape[1], device=scores.device)
    return -own.mean(dim=1), right.float().mean(dim=1)


def reconstruction_loss(predicted: Tensor, hidden: Tensor) -> Tensor:
    """The mean squared error of the hidden patches' values, (B,); shapes as `contrastive_loss`."""
    return (predicted.float() - hidden.float()).square().mean(dim=(1, 2))
