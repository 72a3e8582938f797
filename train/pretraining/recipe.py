"""A recipe of pretraining: what is hidden of a clip, and what is learnt from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ast_model.pretraining import PretrainingConfig
from train.recipe import (
    BaseRecipe,
    Encoder,
    Execution,
    FrontEnd,
    InitialWeights,
    Recordings,
    Steps,
)

SCORES = ("loss", "contrastive", "reconstruction", "accuracy")  # as `PretextLosses` has them
DECODER = ("decoder_width", "decoder_depth", "decoder_heads")


@dataclass(frozen=True)
class Pretext:
    """What is hidden of a clip, and what is learnt from the rest."""

    method: Literal["ssast", "mae"] = "ssast"
    """ssast: hidden patches are replaced, and the encoder sees all places. mae: the encoder sees
    the other patches alone, and a light decoder reconstructs."""
    loss: Literal["joint", "contrastive", "reconstruction"] = "joint"
    """Of ssast. Contrastive: which hidden patch of the clip is where. Reconstruction: the mean
    squared error of its values, the only one of mae. Joint: contrastive + 10 x reconstruction."""
    mask_share: float = 0.78
    """Share of a clip's patches that are hidden."""
    clusters: bool = True
    """Hide squares of 3 x 3 to 5 x 5 patches; else single patches, as for patches as high as the
    spectrogram."""
    decoder_width: int = 0
    """Of mae: width of the decoder."""
    decoder_depth: int = 0
    """Of mae: blocks of the decoder."""
    decoder_heads: int = 0
    """Of mae: attention heads of the decoder."""


@dataclass(frozen=True)
class PretrainingRecipe(Pretext, BaseRecipe):
    """A recipe of pretraining. The defaults of its own fields are SSAST's.

    Raises:
        ValueError: a field is out of range.
    """

    kind: ClassVar = "pretraining"
    groups: ClassVar = (
        Recordings,
        InitialWeights,
        Encoder,
        FrontEnd,
        Steps,
        Pretext,
        Execution,
    )

    # What the loop asks of every recipe, and pretraining does not vary.
    clips_per_class: ClassVar = 0
    model: ClassVar = "ast"
    placement: ClassVar = "start"
    time_mask: ClassVar = 0
    layer_decay: ClassVar = 1.0
    freeze_backbone: ClassVar = False
    ema_decay: ClassVar = 0.0
    average_epochs: ClassVar = (0, 0)
    checkpoint_ensemble: ClassVar = False
    patience: ClassVar = 0

    def _require_configs(self) -> None:
        self._require("mask_share", 0 < self.mask_share < 1, "in (0, 1)")
        is_mae = self.method == "mae"
        fits = self.loss == "reconstruction" or not is_mae
        self._require("loss", fits, "reconstruction with --method mae")
        expected = f"{'above 0' if is_mae else '0'} with --method {self.method}"
        for name in DECODER:
            self._require(name, (getattr(self, name) > 0) == is_mae, expected)
        super()._require_configs()
        try:
            self.pretraining_config()
        except ValueError as error:
            raise ValueError(str(error).replace("clusters False", "--no-clusters")) from None

    @property
    def stride(self) -> tuple[int, int]:
        """Patches do not overlap: a hidden one could be seen in its neighbours."""
        return self.patch

    @property
    def scores(self) -> tuple[str, ...]:
        """What is measured of the validation clips."""
        by_loss = {"contrastive": ("loss", "contrastive", "accuracy")}
        by_loss |= {"joint": SCORES, "reconstruction": ("loss", "reconstruction")}
        return by_loss[self.loss]

    @property
    def metric(self) -> str:
        """What chooses the best epoch."""
        return "accuracy" if "accuracy" in self.scores else "reconstruction"

    def better(self, row: Mapping[str, float]) -> float:
        """How good an epoch is by its row of metrics.csv: the higher, the better."""
        return row[self.metric] if self.metric == "accuracy" else -row[self.metric]

    def columns(self) -> dict[str, str]:
        """What `open_corpus` is told of the data's columns: a column of labels is not read."""
        has_columns = self.corpus in ("table", "hugging_face")
        unlabelled = {"label_column": "none"} if has_columns else {}
        return super().columns() | unlabelled

    def pretraining_config(self) -> PretrainingConfig:
        """The encoder and what is trained around it."""
        decoder = {name: getattr(self, name) for name in DECODER if self.method == "mae"}
        return PretrainingConfig(
            method=self.method,
            encoder=self.model_config(num_classes=1),
            loss=self.loss,
            mask_share=self.mask_share,
            clusters=self.clusters,
            **decoder,
        )
