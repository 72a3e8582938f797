"""Fewer tokens for inference: patches that resemble each other become one (ToMe).

After Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, with two simplifications:
tokens are compared as they are, instead of by their attention keys, and merge before three blocks
instead of in every one.

Shapes: B batch, N tokens, P patch tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STAGES = (1, 3, 5)  # tokens merge before these blocks of 12, and at the same depths of others
LEAST_SHARE = 0.5 ** len(STAGES)  # each time, half of the patch tokens can go


def require_share(keep: float) -> None:
    """Raises ValueError unless tokens can merge until this share of them is left."""
    if not LEAST_SHARE <= keep <= 1:
        raise ValueError(
            f"a share of {keep:g} of the patch tokens cannot be kept; use one from {LEAST_SHARE:g} "
            "to 1, where 1 keeps all"
        )


def merging_schedule(patches: int, keep: float, depth: int) -> list[list[int]]:
    """For each block, how many patch tokens are to be left each time that they merge before it.

    Each time the same share of them goes, so that the last block sees `keep` of them.
    """
    schedule: list[list[int]] = [[] for _ in range(depth)]
    left = patches
    for number, stage in enumerate(STAGES, 1):
        before, left = left, max(1, round(patches * keep ** (number / len(STAGES))))
        if left < before:
            schedule[depth * stage // 12].append(left)
    return schedule


def merge(tokens: Tensor, sizes: Tensor | None, special: int, left: int) -> tuple[Tensor, Tensor]:
    """Merge the most similar patch tokens (bipartite soft matching).

    Every other patch token, the first, the third and so on, finds the one of the rest that it has
    the highest cosine with. The most similar of these pairs become one token: their mean, weighted
    by how many patches each already stands for. Several may merge into the same token.

    Args:
        tokens: (B, N, D).
        sizes: (B, N) float32, how many patches each token stands for; None: one.
        special: how many tokens come first that never merge.
        left: how many patch tokens are to be left; at least half of them.

    Returns:
        Tokens (B, special + left, D) in another order, and their sizes.
    """
    if sizes is None:
        sizes = torch.ones(tokens.shape[:2], device=tokens.device)
    merging = tokens.shape[1] - special - left
    with torch.autocast(tokens.device.type, enabled=False):  # 16 bits could not rank these cosines
        directions = F.normalize(tokens[:, special:].float(), dim=-1)
        cosines = directions[:, ::2] @ directions[:, 1::2].transpose(1, 2)
    highest, partners = cosines.max(dim=-1)  # of every other token
    order = highest.argsort(dim=-1, descending=True)
    going, staying = order[:, :merging], order[:, merging:]
    clips = torch.arange(len(tokens), device=tokens.device)[:, None]
    into = partners[clips, going]

    def merged(values: Tensor) -> Tensor:
        """Sums (B, special + left, V) of (B, N, V)."""
        first, second = values[:, special::2], values[:, special + 1 :: 2]
        moved = first[clips, going]
        second = second.scatter_add(1, into[..., None].expand_as(moved), moved)
        return torch.cat([values[:, :special], first[clips, staying], second], dim=1)

    sums, sizes = merged(tokens * sizes[..., None]), merged(sizes[..., None])
    return (sums / sizes).to(tokens.dtype), sizes[..., 0]
