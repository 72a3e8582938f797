"""The Audio Spectrogram Transformer (Gong, Chung, Glass, Interspeech 2021), leaf to root.

Shapes: B batch, T frames, M mel bins, N tokens, D width, H heads, C classes.
Axes of a patch, a stride and a grid are (frequency, time).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ast_model.config import ASTConfig
from ast_model.token_merging import merge, merging_schedule, require_share

ATTENTION_MAPS = ("rollout", "last")

# Training in bfloat16 on a CPU (with AMX) is faster by two matrix products and a softmax than by
# fused attention: tiny 1.3 to 1.5 times at 27 to 602 tokens, 1.2 at 1,214, base 1.2 and 1.1. But
# they hold the maps in memory, which grow with the square of the tokens: at 1,214, 3 MB a clip,
# head and block.
MOST_TOKENS_FOR_PRODUCTS = 1280

# Inference on a CPU runs as many clips at a time as keep the MLP's hidden layer below this size in
# float32: larger activations leave the cache, which costs more than larger matrices gain.
BYTES_AT_ONCE = 2**24


class PatchEmbedding(nn.Module):
    """Overlapping patches of the spectrogram, each projected to a token.

    The parameters are those of a convolution, as in every published checkpoint. It is computed as
    a linear layer over unfolded patches, because oneDNN's convolution of one input channel is far
    slower on a CPU in bfloat16. In float32 and float16 it gives the same numbers; it compiles
    without a graph break; an ONNX file has four nodes and 13 kB more (of 345 MB, base at 512
    frames) and runs as fast.
    """

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(1, config.width, config.patch, config.stride)

    def forward(self, fbank: Tensor) -> Tensor:
        """(B, T, M) -> (B, patches, D), frequency-major."""
        weight = self.projection.weight.flatten(1)
        return F.linear(self.values(fbank), weight, self.projection.bias)

    def values(self, fbank: Tensor) -> Tensor:
        """What each patch covers, (B, T, M) -> (B, patches, frequency * time), frequency-major."""
        (height, width), (down, along) = self.projection.kernel_size, self.projection.stride
        patches = fbank.unfold(1, width, along).unfold(2, height, down)  # (B, time, freq, w, h)
        return patches.permute(0, 2, 1, 4, 3).flatten(3).flatten(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)

    def forward(
        self, tokens: Tensor, first: int | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) -> the same; with `first`, only the first tokens' outputs, (B, first, D).

        A token counts as many times as its size says, (B, N): how many were merged into it.
        """
        query, key, value = self._split(tokens)
        query = query[:, :, :first]
        dropout = self.dropout if self.training else 0.0
        if not dropout and sizes is None and _trains_faster_by_products(query):
            mixed = _scores(query, key).softmax(dim=-1) @ value
        else:
            mask = None if sizes is None else sizes.log().to(query.dtype)[:, None, None]
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, D)
        return F.dropout(self.projection(mixed), self.dropout, self.training)

    def weights(self, tokens: Tensor) -> Tensor:
        """The attention map, (B, H, N, N): what the token of a row takes from each; sums to one."""
        query, key, _ = self._split(tokens)
        return _scores(query, key).softmax(dim=-1)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, H, D / H)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D / H)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """Attention scores before the softmax, (…, queries, keys)."""
    return (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)


def _trains_faster_by_products(query: Tensor) -> bool:
    in_bf16 = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return in_bf16 and query.requires_grad and query.shape[-2] <= MOST_TOKENS_FOR_PRODUCTS


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(hidden, config.width)
        self.dropout = config.dropout

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
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

    def forward(
        self, tokens: Tensor, first: int | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) -> the same; the other arguments are those of `Attention.forward`."""
        mixed = self.attention(self.attention_norm(tokens), first, sizes)
        tokens = tokens[:, :first] + self._drop_path(mixed)
        return tokens + self._drop_path(self.mlp(self.mlp_norm(tokens)))

    def _drop_path(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(keep)
        return branch * kept / keep  # the expectation stays that of evaluation


class AST(nn.Module):
    """Spectrogram in, class logits out (paper, section 2.1), randomly initialised.

    It runs in float16 and bfloat16, and compiles as one graph (`torch.compile(fullgraph=True)`).

    Args:
        config: the architecture; `ASTConfig.preset("base384", num_classes=50)` for the paper's.
    """

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        self.keep_tokens = 1.0  # see `merge_tokens`
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

    def forward(self, fbank: Tensor, pad: bool = True) -> Tensor:
        """Logits (B, C) of a normalised log-mel spectrogram.

        Args:
            fbank: (B, T, M), as `Frontend` gives it, in the dtype of the model.
            pad: `fbank` is padded to `config.num_frames`. Without, here and in the other methods,
                it may have fewer frames, from one patch on. Its patches take the first columns of
                the positional grid in time, so that each has the position that it has in the
                padded clip.

        Raises:
            ValueError: `fbank` has another shape than the model was built for.
        """
        return self.head(self.head_norm(self.embed(fbank, pad)))

    def embed(self, fbank: Tensor, pad: bool = True) -> Tensor:
        """One vector a clip, (B, D): what the head's LayerNorm receives.

        With pooling "cls", the last block computes CLS and DIST only. Without gradients, a CPU
        takes a few clips of the batch at a time.
        """
        self._check_shape(fbank, pad)
        return torch.cat([self._vectors(clips, pad) for clips in self._in_cache(fbank)])

    def forward_features(self, fbank: Tensor, pad: bool = True) -> Tensor:
        """All tokens after the final norm, (B, N, D): CLS, [DIST], patches frequency-major.

        In training, `patchout` leaves fewer of them.
        """
        return self._encode(fbank, pad)[0]

    def with_positions(self, patches: Tensor) -> Tensor:
        """All tokens of patch embeddings (B, patches, D), each with its position: (B, N, D)."""
        special = [self.cls_token] + ([self.dist_token] if self.config.distilled else [])
        special = [token.expand(len(patches), -1, -1) for token in special]
        tokens = torch.cat([*special, patches], dim=1)
        return tokens + self._positions(tokens.shape[1])

    def encode(self, tokens: Tensor) -> Tensor:
        """Any tokens that have their positions through all blocks and the final norm, (B, N, D)."""
        for block in self.blocks:
            tokens = self._run(block, tokens)
        return self.norm(tokens)

    def attention(self, fbank: Tensor) -> Tensor:
        """Every block's attention map, (B, depth, H, N, N); the token of a row is the query."""
        tokens = self._embed_patches(fbank)
        maps = []
        for block in self.blocks:
            maps.append(block.attention.weights(block.attention_norm(tokens)))
            tokens = block(tokens)
        return torch.stack(maps, dim=1)

    def attention_map(self, fbank: Tensor, kind: str = "rollout", pad: bool = True) -> Tensor:
        """How much each patch counts for the clip's vector, float32 that sum to one a clip.

        Of an attention matrix, the mean over heads and over the rows of those tokens that `embed`
        averages, without the special tokens' columns.

        Args:
            fbank: (B, T, M).
            kind: "last": of the last block's attention; "rollout": of the product of all blocks'
                matrices, each averaged with the identity for the residual branch (Abnar and
                Zuidema, ACL 2020, section 3).
            pad: as in `forward`.

        Returns:
            (B, frequency, time).

        Raises:
            ValueError: the kind is unknown, or the model is training with `patchout`.
        """
        if kind not in ATTENTION_MAPS:
            raise ValueError(f"attention map {kind!r} is unknown; use rollout or last")
        inputs = [self._embed_patches(fbank, pad)]
        for block in self.blocks[:-1]:
            inputs.append(block(inputs[-1]))
        # A vector times one matrix at a time, from the last block down: the maps of all blocks
        # need not be in memory together.
        row = torch.zeros_like(inputs[0][..., 0], dtype=torch.float32)  # (B, N)
        self._pooled(row).fill_(1)
        blocks = [*zip(self.blocks, inputs, strict=True)]
        for block, tokens in reversed(blocks[-1:] if kind == "last" else blocks):
            weights = block.attention.weights(block.attention_norm(tokens))  # (B, H, N, N)
            mixed = (row[:, None] @ weights.mean(dim=1, dtype=row.dtype))[:, 0]
            row = mixed if kind == "last" else (row + mixed) / 2
        patches = self.patch_grid(row)
        return patches / patches.sum(dim=(1, 2), keepdim=True)

    def patch_grid(self, tokens: Tensor) -> Tensor:
        """Without the special tokens, as a grid: (B, N, …) -> (B, frequency, time, …).

        Raises:
            ValueError: the model is training with `patchout`, so that patches are missing.
        """
        if self._drops_patches():
            raise ValueError(
                f"patchout {self.config.patchout} leaves no whole grid of patches in training; "
                "call eval() on the model first"
            )
        patches = tokens[:, self.config.num_special_tokens :]
        return patches.unflatten(1, (self.config.grid[0], -1))

    def merge_tokens(self, keep: float) -> None:
        """From now on, merge patches that resemble each other: faster, for other scores.

        It acts on what `forward` and `embed` give in evaluation mode; training, and whatever shows
        single patches, has all tokens as before. It is not saved with the model.

        Args:
            keep: share of the patch tokens that the last block sees, in [0.125, 1]; with 1 none
                merge. The earlier blocks see more, as `ast_model.token_merging` says.

        Raises:
            ValueError: the share is out of range.
        """
        require_share(keep)
        self.keep_tokens = keep

    def reset_head(self) -> None:
        """Make the head new: its LayerNorm the identity, its Linear random."""
        self.head_norm.reset_parameters()
        initialise_layer(self.head)

    def _pooled(self, tokens: Tensor) -> Tensor:
        """The tokens whose mean is the clip's vector."""
        special = self.config.num_special_tokens
        return tokens[:, special:] if self.config.pooling == "patches" else tokens[:, :special]

    def _vectors(self, fbank: Tensor, pad: bool) -> Tensor:
        """`embed` of a few clips."""
        first = None if self.config.pooling == "patches" else self.config.num_special_tokens
        tokens, sizes = self._encode(fbank, pad, first, 1.0 if self.training else self.keep_tokens)
        pooled = self._pooled(tokens)
        if sizes is None:
            return pooled.mean(dim=1)
        sizes = self._pooled(sizes)[..., None]
        return ((pooled * sizes).sum(dim=1) / sizes.sum(dim=1)).to(pooled.dtype)

    def _in_cache(self, fbank: Tensor) -> Sequence[Tensor]:
        """The batch, split into a few clips at a time for inference on a CPU."""
        if fbank.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return [fbank]
        tokens = self.config.num_tokens * fbank.shape[1] / self.config.num_frames
        hidden = self.config.width * self.config.mlp_ratio
        return fbank.split(max(1, int(BYTES_AT_ONCE / (4 * tokens * hidden))))

    def _encode(
        self, fbank: Tensor, pad: bool, first: int | None = None, keep: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """All tokens, or only the `first` ones, after the final norm; their sizes if they merge."""
        tokens, sizes = self._embed_patches(fbank, pad), None
        special = self.config.num_special_tokens
        schedule = merging_schedule(tokens.shape[1] - special, keep, len(self.blocks))
        for number, block in enumerate(self.blocks, 1):
            for left in schedule[number - 1]:
                tokens, sizes = merge(tokens, sizes, special, left)
            computed = first if number == len(self.blocks) else None
            tokens = self._run(block, tokens, computed, sizes)
        return self.norm(tokens), sizes

    def _run(
        self, block: Block, tokens: Tensor, first: int | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        if self.config.gradient_checkpointing and self.training:
            return checkpoint(block, tokens, first, sizes, use_reentrant=False)
        return block(tokens, first, sizes)

    def _embed_patches(self, fbank: Tensor, pad: bool = True) -> Tensor:
        self._check_shape(fbank, pad)
        tokens = self.with_positions(self.patch_embedding(fbank))
        if self._drops_patches():
            tokens = self._patchout(tokens)
        return F.dropout(tokens, self.config.dropout, self.training)

    def _positions(self, num_tokens: int) -> Tensor:
        """Of the special tokens and the grid's first columns in time, `num_tokens` in all."""
        if num_tokens == self.config.num_tokens:
            return self.positions
        special, (rows, _) = self.config.num_special_tokens, self.config.grid
        grid = self.positions[:, special:].unflatten(1, self.config.grid)
        grid = grid[:, :, : (num_tokens - special) // rows]
        return torch.cat([self.positions[:, :special], grid.flatten(1, 2)], dim=1)

    def _drops_patches(self) -> bool:
        return self.training and self.config.patchout != (0, 0)

    def _patchout(self, tokens: Tensor) -> Tensor:
        """Leave random rows and columns of patches out, the same ones for the whole batch (PaSST).

        The same for all clips, because selecting rows is cheaper than gathering tokens by clip.
        """
        special = self.config.num_special_tokens
        grid = tokens[:, special:].unflatten(1, (self.config.grid[0], -1))
        for axis, dropped in zip((1, 2), self.config.patchout, strict=True):
            size = grid.shape[axis]
            kept = max(size - dropped, 1)  # an unpadded clip may have few columns
            order = torch.randperm(size, device=tokens.device)
            grid = grid.index_select(axis, order[:kept].sort().values)
        return torch.cat([tokens[:, :special], grid.flatten(1, 2)], dim=1)

    def _check_shape(self, fbank: Tensor, pad: bool) -> None:
        frames, mels = self.config.num_frames, self.config.num_mel_bins
        least = frames if pad else self.config.patch[1]
        if fbank.dim() != 3 or fbank.shape[2] != mels or not least <= fbank.shape[1] <= frames:
            expected = f"{frames}" if pad else f"{least} to {frames}"
            raise ValueError(
                f"fbank has shape {tuple(fbank.shape)}, but this AST takes (batch, {expected} "
                f"frames, {mels} mel bins); a Frontend of the same num_frames and "
                "num_mel_bins makes it, or build the model with other ones"
            )

    def _initialise(self) -> None:
        """Random weights, as DeiT's."""
        if self.positions.is_meta:  # nothing to fill, and PyTorch would import its compiler for it
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                initialise_layer(module)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.config.distilled:
            nn.init.trunc_normal_(self.dist_token, std=0.02)


def initialise_layer(module: nn.Linear | nn.Conv2d) -> None:
    """Random weights of a layer, truncated normal of std 0.02, with zeros for the bias."""
    nn.init.trunc_normal_(module.weight, std=0.02)
    nn.init.zeros_(module.bias)
