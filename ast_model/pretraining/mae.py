"""A masked autoencoder of spectrograms (AudioMAE: Huang et al., NeurIPS 2022).

Shapes: B batch, T frames, M mel bins, P patches, n hidden ones, S special tokens, D width, V values
of a patch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ast_model.model import AST, Block
from ast_model.pretraining.config import PretrainingConfig
from ast_model.pretraining.losses import PretextLosses, reconstruction_loss
from ast_model.pretraining.masks import hidden_first
from ast_model.pretraining.patches import initialise, learned, put_together

LEAST_VARIANCE = 1e-6  # of a patch's values, as in AudioMAE's code


class MAE(nn.Module):
    """The encoder sees the patches that are not hidden; a light decoder makes the others.

    What is to be made are a patch's values, normalised to mean 0 and variance 1 within the patch.

    Args:
        config: of the method "mae".
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AST(config.encoder)
        width = config.decoder_width
        layers = replace(
            config.encoder,
            width=width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            drop_path=0.0,
        )
        self.to_decoder = nn.Linear(config.encoder.width, width)
        self.mask_embedding = learned(1, 1, width)
        self.decoder_positions = learned(1, config.encoder.num_tokens, width)
        self.decoder = nn.ModuleList(Block(layers, 0.0) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(width, eps=config.encoder.layer_norm_eps)
        self.reconstruction_head = nn.Linear(width, config.patch_values)
        for module in (self.to_decoder, self.decoder, self.reconstruction_head):
            initialise(module)

    def forward(self, fbank: Tensor, seeds: Tensor) -> PretextLosses:
        """The loss of each clip of a normalised filterbank (B, T, M), hidden by its seed (B,)."""
        made, values, _ = self._made(fbank, seeds)
        normal, _, _ = _normalised(values)
        loss, zeros = reconstruction_loss(made, normal), torch.zeros(len(fbank), device=made.device)
        return PretextLosses(loss, zeros, loss, zeros)

    def reconstruct(self, fbank: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """The filterbank with its hidden patches as the model makes them, and which these are.

        Mean and variance of a hidden patch, which are not learnt, are the true ones.

        Returns:
            (B, T, M) float32, and (B, frequency, time) of the grid, True where hidden.
        """
        made, values, places = self._made(fbank, seeds)
        _, mean, deviation = _normalised(values)
        return put_together(fbank, made.float() * deviation + mean, places, self.config.encoder)

    def _made(self, fbank: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is made (B, n, V), values (B, n, V) and places (B, n) of the hidden patches."""
        config, encoder = self.config, self.encoder
        special, count = config.encoder.num_special_tokens, config.num_masked
        order = hidden_first(seeds, config.encoder.grid, config.clusters)
        places, seen = order[:, :count], order[:, count:]

        tokens = encoder.with_positions(encoder.patch_embedding(fbank))  # (B, S + P, D)
        visible = tokens[:, special:].take_along_dim(seen[..., None], 1)
        encoded = encoder.encode(torch.cat([tokens[:, :special], visible], dim=1))

        encoded = self.to_decoder(encoded)  # (B, S + P - n, decoder width)
        mask = self.mask_embedding.to(encoded.dtype).expand(len(fbank), count, -1)
        positions = self.decoder_positions.expand(len(fbank), -1, -1)
        by_order = positions[:, special:].take_along_dim(order[..., None], 1)
        tokens = torch.cat([mask, encoded[:, special:]], dim=1) + by_order  # the hidden ones first
        tokens = torch.cat([tokens, encoded[:, :special] + positions[:, :special]], dim=1)
        for block in self.decoder[:-1]:
            tokens = block(tokens)
        made = self.decoder[-1](tokens, first=count)
        made = self.reconstruction_head(self.decoder_norm(made))
        return (
            made,
            encoder.patch_embedding.values(fbank).take_along_dim(places[..., None], 1),
            places,
        )


def _normalised(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B, n, V) with mean 0 and variance 1 in each patch; means, deviations (B, n, 1)."""
    values = values.float()
    variance, mean = torch.var_mean(values, dim=2, keepdim=True)
    deviation = (variance + LEAST_VARIANCE).sqrt()
    return (values - mean) / deviation, mean, deviation
