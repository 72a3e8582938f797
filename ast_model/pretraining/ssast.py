"""SSAST: masked spectrogram patch modelling (Gong, Lai, Chung and Glass, AAAI 2022).

Shapes: B batch, T frames, M mel bins, P patches, n hidden ones, D width, V values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ast_model.model import AST
from ast_model.pretraining.config import PretrainingConfig
from ast_model.pretraining.losses import PretextLosses, contrastive_loss, reconstruction_loss
from ast_model.pretraining.masks import hidden_first
from ast_model.pretraining.patches import initialise, learned, put_together

RECONSTRUCTION_WEIGHT = 10  # in the joint loss (section 2.3)
CONTRASTIVE, RECONSTRUCTION = 0, 1  # each loss hides patches of its own


class SSAST(nn.Module):
    """Hidden patches are replaced by one learned embedding, and found or made from the others.

    Args:
        config: of the method "ssast". A loss that it does not name has no head.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AST(config.encoder)
        width, values = config.encoder.width, config.patch_values
        self.mask_embedding = learned(1, 1, width)
        if config.loss != "reconstruction":
            self.contrastive_head = _head(width, values)
        if config.loss != "contrastive":
            self.reconstruction_head = _head(width, values)

    def forward(self, fbank: Tensor, seeds: Tensor) -> PretextLosses:
        """The losses of each clip of a normalised filterbank (B, T, M), hidden by its seed (B,)."""
        zeros = torch.zeros(len(fbank), device=fbank.device)
        contrastive = reconstruction = accuracy = zeros
        if self.config.loss != "reconstruction":
            tokens, hidden, _ = self._hidden(fbank, seeds, CONTRASTIVE)
            contrastive, accuracy = contrastive_loss(self.contrastive_head(tokens), hidden)
        if self.config.loss != "contrastive":
            tokens, hidden, _ = self._hidden(fbank, seeds, RECONSTRUCTION)
            reconstruction = reconstruction_loss(self.reconstruction_head(tokens), hidden)
        weight = RECONSTRUCTION_WEIGHT if self.config.loss == "joint" else 1
        loss = contrastive + weight * reconstruction
        return PretextLosses(loss, contrastive, reconstruction, accuracy)

    def reconstruct(self, fbank: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """The filterbank with its hidden patches as the model makes them, and which these are.

        Returns:
            (B, T, M) float32, and (B, frequency, time) of the grid, True where hidden.

        Raises:
            ValueError: the model does not reconstruct.
        """
        if self.config.loss == "contrastive":
            raise ValueError("a model of the loss contrastive reconstructs nothing; use joint")
        tokens, _, places = self._hidden(fbank, seeds, RECONSTRUCTION)
        made = self.reconstruction_head(tokens)
        return put_together(fbank, made, places, self.config.encoder)

    def _hidden(self, fbank: Tensor, seeds: Tensor, draw: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, n, D), values (B, n, V) and places (B, n) of the hidden patches."""
        config, encoder = self.config, self.encoder
        order = hidden_first(seeds, config.encoder.grid, config.clusters, draw)
        places = order[:, : config.num_masked]
        is_hidden = torch.zeros_like(order, dtype=torch.bool).scatter_(1, places, True)
        patches = encoder.patch_embedding(fbank)  # (B, P, D)
        mask = self.mask_embedding.to(patches.dtype)
        tokens = encoder.with_positions(torch.where(is_hidden[..., None], mask, patches))
        tokens = encoder.encode(tokens)[:, config.encoder.num_special_tokens :]
        values = encoder.patch_embedding.values(fbank)
        tokens, values = (each.take_along_dim(places[..., None], 1) for each in (tokens, values))
        return tokens, values, places


def _head(width: int, values: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, values))
    initialise(head)
    return head
