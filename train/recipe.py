"""What a training run is: one frozen record, every field of it printed, stored and overridable."""

from __future__ import annotations

import functools
import json
import types
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ast_model import ASTConfig, FrontendConfig

Corpus = Literal["esc50", "esc10", "synthetic"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Recipe:
    """A training recipe. The defaults are the authors' for ESC-50, except the start.

    Raises:
        ValueError: a field is out of range.
    """

    name: str
    """Name of the recipe."""
    corpus: Corpus = "esc50"
    """Which data set is trained on."""
    start_from: str = "scratch"
    """Initial weights: scratch; imagenet (the preset's DeiT); audioset (the published AST); the
    name of a timm model; a model folder; a hub id; an authors' or SSAST .pth, or its name."""
    start_file: str = ""
    """Local file of a timm model's weights, instead of a download."""
    channels: Literal["mean", "sum"] = "mean"
    """One kernel from a timm model's three colours: mean (paper) or sum (authors' code)."""
    positions: Literal["bilinear", "nearest", "reinit"] = "bilinear"
    """How learned positions come onto this recipe's grid; reinit makes them random."""

    preset: str = "base384"
    """Size of the AST: tiny224, small224, base224 or base384."""
    num_frames: int = 512
    """Length of the input, 10 ms a frame."""
    num_mel_bins: int = 128
    """Mel bins of the filterbank."""
    patch: tuple[int, int] = (16, 16)
    """Patch shape (frequency, time)."""
    stride: tuple[int, int] = (10, 10)
    """Patch stride (frequency, time); 16 for no overlap."""
    pooling: Literal["cls", "patches"] = "cls"
    """What the head sees: the mean of CLS and DIST, or of the patch tokens."""
    distilled: bool = True
    """A DIST token beside CLS."""
    dropout: float = 0.0
    """Dropout in the blocks."""
    drop_path: float = 0.0
    """Stochastic depth: rate of the last block."""
    gradient_checkpointing: bool = False
    """Recompute the blocks in the backward pass: less memory, a third more time."""

    window: Literal["hamming", "hanning", "povey", "blackman", "rectangular"] = "hamming"
    """Window of the filterbank."""
    mean: float = -6.6268077
    """Mean of the data set's log-mel values (`ast-audio stats`)."""
    std: float = 5.358466
    """Standard deviation of the data set's log-mel values."""

    epochs: int = 25
    """Passes over the training clips."""
    batch_size: int = 48
    """Clips of one optimiser step."""
    accumulation: int = 1
    """Parts that a batch is computed in, one after the other: same result, less memory."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam (weight decay in the gradient) or AdamW (decoupled)."""
    learning_rate: float = 1e-4
    """Highest learning rate."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Adam's averaging factors."""
    weight_decay: float = 5e-7
    """Adam's weight decay."""
    schedule: Literal["step", "cosine"] = "step"
    """Step: times `decay` after every epoch from `decay_from`. Cosine: down to zero."""
    decay: float = 0.85
    """Factor of the step schedule."""
    decay_from: int = 5
    """Epochs before the step schedule begins."""
    warmup_epochs: float = 0.0
    """Linear warm-up, in epochs."""
    clip_gradient: float = 0.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""

    mixup_rate: float = 0.0
    """Share of clips mixed with another one, on waveforms."""
    frequency_mask: int = 24
    """SpecAugment: most mel bins masked; 0 for none."""
    time_mask: int = 96
    """SpecAugment: most frames masked; 0 for none."""
    noise: bool = False
    """Add uniform noise to the normalised spectrogram."""
    roll_frames: int = 0
    """Roll along time by up to this many frames either way; 0 for none (authors: 10)."""

    precision: Precision = "auto"
    """fp32, bf16 or fp16 (GPU only). Auto: bf16 where the hardware multiplies it faster."""
    seed: int = 0
    """Order, augmentation and initialisation follow from it."""

    def __post_init__(self) -> None:
        for name, expected in _field_types().items():
            _check_type(self.name, name, getattr(self, name), expected)
        for name in ("epochs", "batch_size", "accumulation", "learning_rate"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("mixup_rate", "label_smoothing"):
            self._require(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("weight_decay", "warmup_epochs", "clip_gradient", "roll_frames", "seed"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("decay", 0 < self.decay <= 1, "in (0, 1]")
        self._require("decay_from", self.decay_from >= 1, "1 or more")
        for name, size in (("frequency_mask", self.num_mel_bins), ("time_mask", self.num_frames)):
            self._require(name, 0 <= getattr(self, name) <= size, f"between 0 and {size}")
        self.model_config(num_classes=1)
        self.frontend_config()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"recipe {self.name}: {name} is {getattr(self, name)}, must be {expected}"
            )

    def model_config(self, num_classes: int) -> ASTConfig:
        """The architecture that this recipe trains."""
        names = ("num_frames", "num_mel_bins", "patch", "stride", "pooling", "distilled")
        names += ("dropout", "drop_path", "gradient_checkpointing")
        changes = {name: getattr(self, name) for name in names}
        return ASTConfig.preset(self.preset, num_classes=num_classes, **changes)

    def frontend_config(self) -> FrontendConfig:
        """The front end that this recipe trains behind."""
        names = ("num_frames", "num_mel_bins", "window", "mean", "std")
        return FrontendConfig(**{name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON types."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: Any, source: Path) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises:
            ValueError: fields are missing or unknown, or a value is out of range.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or content.keys() != names:
            given = content.keys() if isinstance(content, dict) else set()
            raise ValueError(
                f"{source} is not a recipe of this version: "
                f"missing fields {sorted(names - given) or 'none'}, "
                f"unknown fields {sorted(given - names) or 'none'}"
            )
        pairs = ("patch", "stride", "betas")
        return cls(**{**content, **{name: tuple(content[name]) for name in pairs}})


@functools.cache
def _field_types() -> dict[str, Any]:
    return typing.get_type_hints(Recipe)


def _check_type(recipe: str, name: str, value: Any, expected: Any) -> None:
    """Refuse a value of another type: a recipe file may have been edited by hand."""
    origin = typing.get_origin(expected)
    if origin is Literal:
        fits, wanted = value in typing.get_args(expected), typing.get_args(expected)
    elif origin is tuple:
        kinds = typing.get_args(expected)
        fits = isinstance(value, tuple) and len(value) == len(kinds)
        fits = fits and all(_is_a(part, kind) for part, kind in zip(value, kinds, strict=True))
        wanted = f"({', '.join(kind.__name__ for kind in kinds)})"
    else:
        fits, wanted = _is_a(value, expected), expected.__name__
    if not fits:
        raise ValueError(f"recipe {recipe}: {name} is {value!r}, must be {wanted}")


def _is_a(value: Any, kind: type) -> bool:
    accepted: type | types.UnionType = int | float if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
