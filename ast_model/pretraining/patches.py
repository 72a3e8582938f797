"""What the models of pretraining share: random layers, and a spectrogram of seen and made patches.

Shapes: B batch, T frames, M mel bins, n hidden patches, V values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ast_model.config import ASTConfig
from ast_model.model import initialise_layer


def initialise(module: nn.Module) -> None:
    """Random weights of all linear layers, as those of an AST."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.is_meta:
            initialise_layer(layer)


def learned(*shape: int) -> nn.Parameter:
    """A random parameter, as an AST's positions."""
    values = torch.zeros(*shape)
    return nn.Parameter(values if values.is_meta else nn.init.trunc_normal_(values, std=0.02))


def put_together(
    fbank: Tensor, made: Tensor, places: Tensor, config: ASTConfig
) -> tuple[Tensor, Tensor]:
    """A filterbank with some patches replaced, and which these are.

    Args:
        fbank: (B, T, M).
        made: (B, n, V), the values of the patches that are replaced.
        places: (B, n), their numbers, frequency-major.

    Returns:
        (B, T, M) float32, and (B, frequency, time) of the grid, True where replaced.
    """
    (rows, columns), (height, width) = config.grid, config.patch
    is_hidden = torch.zeros(len(fbank), rows * columns, dtype=torch.bool, device=fbank.device)
    is_hidden = is_hidden.scatter_(1, places, True)
    covered = fbank[:, : columns * width, : rows * height].float()
    values = covered.unflatten(2, (rows, height)).unflatten(1, (columns, width))
    values = values.permute(0, 3, 1, 4, 2).flatten(1, 2).flatten(2)  # (B, patches, V)
    index = places[..., None].expand(-1, -1, values.shape[2])
    values = values.scatter(1, index, made.float())
    values = values.unflatten(2, (height, width)).unflatten(1, (rows, columns))
    whole = fbank.float().clone()
    covered = values.permute(0, 2, 4, 1, 3).flatten(3).flatten(1, 2)  # (B, T, M)
    whole[:, : columns * width, : rows * height] = covered
    return whole, is_hidden.unflatten(1, (rows, columns))
