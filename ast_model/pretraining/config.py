"""The settings of a model of pretraining: a frozen dataclass that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ast_model.config import ASTConfig, require_integer
from ast_model.pretraining.masks import CLUSTERS

METHODS = ("ssast", "mae")
LOSSES = ("joint", "contrastive", "reconstruction")


@dataclass(frozen=True)
class PretrainingConfig:
    """What is hidden of a clip, and what is trained around the encoder.

    Args:
        method: "ssast" (Gong et al., AAAI 2022) or "mae" (Huang et al., NeurIPS 2022).
        encoder: the AST, whose patches do not overlap; its classes are not used.
        loss: of ssast: "contrastive", "reconstruction", or "joint", which is contrastive + 10 x
            reconstruction; of mae: "reconstruction".
        mask_share: share of a clip's patches that are hidden, in (0, 1).
        clusters: hide squares of 3 x 3 to 5 x 5 patches, else single ones.
        decoder_width: of mae: numbers a token of the decoder.
        decoder_depth: of mae: its blocks.
        decoder_heads: of mae: its attention heads, which divide the width.

    Raises:
        ValueError: a field is out of range, patches overlap, the grid is smaller than a cluster, or
            no patch would be hidden or none seen.
    """

    method: str
    encoder: ASTConfig
    loss: str = "joint"
    mask_share: float = 0.78
    clusters: bool = True
    decoder_width: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r:.60} is unknown; use one of {METHODS}")
        losses = LOSSES if self.method == "ssast" else ("reconstruction",)
        if self.loss not in losses:
            raise ValueError(f"loss {self.loss!r:.60}: {self.method} has {', '.join(losses)}")
        share = self.mask_share
        if not isinstance(share, int | float) or not 0 < share < 1:
            raise ValueError(f"mask_share {share!r:.60} is not a number in (0, 1)")
        if not isinstance(self.clusters, bool):
            raise ValueError(f"clusters {self.clusters!r:.60} is neither true nor false")
        for name, most in (("decoder_width", 2**14), ("decoder_depth", 256)):
            require_integer(name, getattr(self, name), 1, most)
        require_integer("decoder_heads", self.decoder_heads, 1, 1024)
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width {self.decoder_width} cannot be split over decoder_heads "
                f"{self.decoder_heads} evenly"
            )
        self._require_patches()

    def _require_patches(self) -> None:
        encoder = self.encoder
        if encoder.stride != encoder.patch:
            raise ValueError(
                f"stride {encoder.stride} differs from patch {encoder.patch}: patches may not "
                "overlap in pretraining, since a hidden one could be seen in its neighbours"
            )
        if encoder.patchout != (0, 0):
            raise ValueError(
                f"patchout {encoder.patchout} is not for pretraining, which hides patches itself"
            )
        if self.clusters and min(encoder.grid) < max(CLUSTERS):
            down, along = encoder.grid
            raise ValueError(
                f"num_frames {encoder.num_frames} and patch {encoder.patch} give a grid of {down} "
                f"x {along} patches, smaller than a cluster of {max(CLUSTERS)} x {max(CLUSTERS)}: "
                "use longer clips, smaller patches, or clusters False for single patches"
            )
        if not 0 < self.num_masked < self.num_patches:
            raise ValueError(
                f"mask_share {self.mask_share} of {self.num_patches} patches hides "
                f"{self.num_masked}: at least one has to be hidden and one to be seen; use longer "
                "clips, smaller patches or another share"
            )

    @property
    def num_patches(self) -> int:
        """Patches of a clip."""
        return self.encoder.grid[0] * self.encoder.grid[1]

    @property
    def num_masked(self) -> int:
        """Patches of a clip that are hidden."""
        return round(self.mask_share * self.num_patches)

    @property
    def patch_values(self) -> int:
        """Values of the filterbank that a patch covers."""
        return self.encoder.patch[0] * self.encoder.patch[1]
