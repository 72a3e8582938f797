"""The Audio Spectrogram Transformer (Gong, Chung, Glass, Interspeech 2021), leaf to root.

Shapes: B batch, T frames, M mel bins, N tokens, D width, H heads, C classes.
Axes of a patch, a stride and a grid are (frequency, time).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ast_model.config import ASTConfig


class PatchEmbedding(nn.Module):
    """Overlapping patches of the spectrogram, each projected to a token."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(1, config.width, config.patch, config.stride)

    def forward(self, fbank: Tensor) -> Tensor:
        image = fbank.unsqueeze(1).transpose(2, 3)  # (B, 1, M, T): frequency is the height
        return self.projection(image).flatten(2).transpose(1, 2)  # (B, N, D), frequency-major


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self._split(tokens)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, D)
        return F.dropout(self.projection(mixed), self.dropout, self.training)

    def weights(self, tokens: Tensor) -> Tensor:
        """The attention map itself, (B, H, N, N), rows summing to one."""
        query, key, _ = self._split(tokens)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return scores.softmax(dim=-1)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, H, D / H)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D / H)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(hidden, config.width)
        self.dropout = config.dropout

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.expand(tokens)), self.dropout, self.training)
        return F.dropout(self.contract(hidden), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth on both branches."""

    def __init__(self, config: ASTConfig, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._drop_path(self.attention(self.attention_norm(tokens)))
        return tokens + self._drop_path(self.mlp(self.mlp_norm(tokens)))

    def _drop_path(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(keep)
        return branch * kept / keep  # the expectation stays that of evaluation


class AST(nn.Module):
    """Spectrogram in, class logits out (paper, section 2.1), randomly initialised.

    Args:
        config: the architecture; `ASTConfig.preset("base384", num_classes=50)` for the paper's.
    """

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, config.num_tokens, config.width))
        self.blocks = nn.ModuleList(
            Block(config, config.drop_path * i / max(config.depth - 1, 1))
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.head_norm = nn.LayerNorm(config.width, eps=config.head_layer_norm_eps)
        self.head = nn.Linear(config.width, config.num_classes)
        self._initialise()

    def forward(self, fbank: Tensor) -> Tensor:
        """Logits (B, C) of a normalised log-mel spectrogram (B, T, M).

        Raises:
            ValueError: `fbank` has another shape than the model was built for.
        """
        return self.head(self.head_norm(self.embed(fbank)))

    def embed(self, fbank: Tensor) -> Tensor:
        """One vector a clip, (B, D): what the head's LayerNorm receives."""
        tokens = self.forward_features(fbank)
        special = self.config.num_special_tokens
        if self.config.pooling == "patches":
            return tokens[:, special:].mean(dim=1)
        return tokens[:, :special].mean(dim=1)

    def forward_features(self, fbank: Tensor) -> Tensor:
        """All tokens after the final norm, (B, N, D): CLS, [DIST], patches frequency-major."""
        tokens = self._embed_patches(fbank)
        for block in self.blocks:
            if self.config.gradient_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.norm(tokens)

    def attention(self, fbank: Tensor) -> Tensor:
        """Every block's attention map, (B, depth, H, N, N); row = the token that looks."""
        tokens = self._embed_patches(fbank)
        maps = []
        for block in self.blocks:
            maps.append(block.attention.weights(block.attention_norm(tokens)))
            tokens = block(tokens)
        return torch.stack(maps, dim=1)

    def reset_head(self) -> None:
        """Make the head new: its LayerNorm the identity, its Linear random."""
        self.head_norm.reset_parameters()
        _initialise_layer(self.head)

    def _embed_patches(self, fbank: Tensor) -> Tensor:
        self._check_shape(fbank)
        special = [self.cls_token] + ([self.dist_token] if self.config.distilled else [])
        special = [token.expand(fbank.shape[0], -1, -1) for token in special]
        tokens = torch.cat([*special, self.patch_embedding(fbank)], dim=1)  # (B, N, D)
        return F.dropout(tokens + self.positions, self.config.dropout, self.training)

    def _check_shape(self, fbank: Tensor) -> None:
        expected = (self.config.num_frames, self.config.num_mel_bins)
        if fbank.dim() != 3 or tuple(fbank.shape[1:]) != expected:
            raise ValueError(
                f"fbank has shape {tuple(fbank.shape)}, but this AST takes (batch, {expected[0]} "
                f"frames, {expected[1]} mel bins); a Frontend of the same num_frames and "
                "num_mel_bins makes it, or build the model with other ones"
            )

    def _initialise(self) -> None:
        """Everything anew, as DeiT."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _initialise_layer(module)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.config.distilled:
            nn.init.trunc_normal_(self.dist_token, std=0.02)


def _initialise_layer(module: nn.Linear | nn.Conv2d) -> None:
    """Truncated normal of std 0.02 for the weight, zeros for the bias."""
    nn.init.trunc_normal_(module.weight, std=0.02)
    nn.init.zeros_(module.bias)
