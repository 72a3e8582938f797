"""What a training run is: one frozen record, every field of it printed, stored and overridable."""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ast_model import ASTConfig, FrontendConfig
from data.corpora import COLUMNS
from data.corpora.table import option
from data.placement import Placement
from data.waveform_augment import WaveformAugmentation

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

Corpus = Literal[
    "esc50",
    "esc10",
    "speech_commands",
    "audioset_balanced",
    "audioset_full",
    "birdclef",
    "folder",
    "table",
    "hugging_face",
    "synthetic",
]
WAVEFORM_AUGMENTATIONS = tuple(
    each.name for each in fields(WaveformAugmentation) if each.name != "noise_folder"
)
Precision = Literal["auto", "fp32", "bf16", "fp16"]

MOST = 1_000_000_000  # of a count; beyond what anybody means
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Recordings:
    """Which clips there are, and how they are read."""

    corpus: Corpus = "esc50"
    """Which data set is trained on; folder, table and hugging_face are your own data."""
    path_column: str = ""
    """Of table and hugging_face: the column of the audio. Empty, here and below: a usual name."""
    fold_column: str = ""
    """The column of the fold; none: without folds."""
    split_column: str = ""
    """The column that says train, validation or test; none: without it."""
    group_column: str = ""
    """The column of what has to stay in one split: speaker, site, recording."""
    skip_unreadable: bool = False
    """Leave out files that cannot be decoded, counted and listed, instead of stopping."""


@dataclass(frozen=True)
class Data(Recordings):
    """Which clips there are, how they are read, and which classes they have."""

    label_column: str = ""
    """The column of the class, or of several."""
    label_separator: str = ""
    """What stands between several classes of one clip; none: a cell is one class."""
    clips_per_class: int = 0
    """Train on so many clips of each class, drawn by the seed from many groups; 0: on all."""


@dataclass(frozen=True)
class InitialWeights:
    """What the model is before the first step."""

    init_from: str = "scratch"
    """Initial weights: scratch; imagenet (the preset's DeiT); audioset (the published AST); the
    name of a timm model; a model folder; a hub id; an authors' or SSAST .pth, or its name."""
    init_file: str = ""
    """Local file of a timm model's weights, instead of a download."""
    rgb_kernel: Literal["mean", "sum"] = "mean"
    """One kernel from a timm model's three colours: mean (paper) or sum (authors' code)."""
    positions: Literal["bilinear", "nearest", "reinit"] = "bilinear"
    """How learned positions come onto this recipe's grid; reinit makes them random."""


@dataclass(frozen=True)
class Encoder:
    """The architecture."""

    preset: str = "base384"
    """Size of the AST: tiny224, small224, base224, base384 or large384."""
    depth: int = 0
    """Blocks; 0 for the preset's."""
    patch: tuple[int, int] = (16, 16)
    """Patch shape (frequency, time)."""
    pooling: Literal["cls", "patches"] = "cls"
    """What the head sees: the mean of CLS and DIST, or of the patch tokens."""
    distilled: bool = True
    """A DIST token beside CLS."""
    dropout: float = 0.0
    """Dropout in the blocks."""
    drop_path: float = 0.0
    """Stochastic depth: rate of the last block. 0.1 helps long fine-tuning, hurts short runs."""
    gradient_checkpointing: bool = False
    """Recompute the blocks in the backward pass: less memory, a third more time."""


@dataclass(frozen=True)
class Network(Encoder):
    """The architecture, and how its patches overlap."""

    model: str = "ast"
    """ast, or a timm image model as a baseline (tf_efficientnet_b3), on the same filterbank."""
    stride: tuple[int, int] = (10, 10)
    """Patch stride (frequency, time); 16 for no overlap."""
    patchout: tuple[int, int] = (0, 0)
    """Rows and columns of the patch grid left out in training: faster, and regularises; with few
    patches or few epochs it hurts."""


@dataclass(frozen=True)
class FrontEnd:
    """How a waveform becomes the input of the network."""

    num_frames: int = 512
    """Length of the input, 10 ms a frame."""
    num_mel_bins: int = 128
    """Mel bins of the filterbank."""
    sample_rate: int = 16_000
    """Sample rate that clips are resampled to, 8000 to 48000 Hz; published weights hear at 16000.
    """
    low_freq: float = 20.0
    """Lower edge of the mel filterbank, in Hz."""
    high_freq: float = 0.0
    """Upper edge, in Hz; 0 for half the sample rate."""
    window: Literal["hamming", "hanning", "povey", "blackman", "rectangular"] = "hamming"
    """Window of the filterbank."""
    mean: float = -6.6268077
    """Mean of the data set's log-mel values (`ast-audio stats`)."""
    std: float = 5.358466
    """Standard deviation of the data set's log-mel values."""


@dataclass(frozen=True)
class Steps:
    """Steps, their size and their schedule."""

    epochs: int = 25
    """Passes over the training clips."""
    batch_size: int = 48
    """Clips of one optimiser step."""
    grad_accumulation_steps: int = 1
    """Parts that a batch is computed in, one after the other: same result, less memory."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam (weight decay in the gradient) or AdamW (decoupled)."""
    learning_rate: float = 1e-4
    """Highest learning rate."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Adam's averaging factors."""
    weight_decay: float = 5e-7
    """Adam's weight decay."""
    schedule: Literal["step", "plateau", "cosine"] = "step"
    """Step: times `lr_gamma` after epoch `lr_decay_from` and after every `lr_decay_every` further
    ones. Plateau: times `lr_gamma` when more than `lr_decay_every` epochs in a row were not better
    than the best. Cosine: to zero."""
    lr_gamma: float = 0.85
    """Factor of the step and the plateau schedule."""
    lr_decay_from: int = 5
    """Epochs before the step schedule begins."""
    lr_decay_every: int = 1
    """Epochs between two decays; of the plateau schedule, epochs without a better one before it
    decays."""
    warmup_epochs: float = 0.0
    """Linear warm-up, in epochs."""
    warmup_steps: int = 0
    """Linear warm-up, in optimiser steps, where it is not given in epochs (AudioSet: 1,000)."""
    max_grad_norm: float = 0.0
    """Largest norm of the gradient; 0 leaves it as it is."""


@dataclass(frozen=True)
class Optimisation(Steps):
    """Steps, their size and their schedule, and which layers they change how much."""

    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one below. 0.75 keeps pretrained layers
    in fine-tuning on little data; from scratch it hurts."""
    freeze_backbone: bool = False
    """Train the head and the last layer norm alone (linear probe): a minute's baseline, below
    fine-tuning with enough clips."""


@dataclass(frozen=True)
class Loss:
    """What is minimised, and which clips and classes count more."""

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """bce: a sigmoid for each class, for several labels a clip, and as the authors do but on
    ESC-50."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes. 0.1 helps with noisy labels; scores are
    then no probabilities."""
    class_weights: bool = False
    """Weigh each class by the inverse of its clips. Helps recall of rare classes, hurts overall
    accuracy."""
    focal_gamma: float = 0.0
    """Focal loss: weigh down what is already right; 2 is usual. Helps with extreme imbalance,
    hurts with wrong labels."""
    balanced_sampling: bool = False
    """Draw clips by the rarity of their classes, with replacement (AudioSet full)."""


@dataclass(frozen=True)
class Averaging:
    """Which weights are scored and saved, and when training stops."""

    ema_decay: float = 0.0
    """Evaluate and save a moving average of the weights (0.999); with few steps it lags behind."""
    average_epochs: tuple[int, int] = (0, 0)
    """First and last epoch whose weights are averaged into one more model, `averaged`."""
    checkpoint_ensemble: bool = False
    """Score the mean of all epochs' predictions as well (authors' cum_mAP)."""
    metric: Literal["accuracy", "mAP"] = "accuracy"
    """What chooses the best epoch on the validation clips."""
    patience: int = 0
    """Stop after so many epochs without a better one; 0 trains them all. It looks at the validation
    clips, so needs a test split for an honest score."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to training clips: on waveforms (extra `augment`), then on the spectrogram."""

    gaussian_snr_prob: float = 0.0
    """Probability of Gaussian noise (extra `augment`, as the next six). Helps with noisy
    recordings."""
    gain_prob: float = 0.0
    """Probability of another loudness. Helps where the distance to the microphone varies."""
    gain_transition_prob: float = 0.0
    """Probability of a loudness that changes within the clip. Helps with sources that move; hurts
    where a rise or fall of loudness is the class."""
    clipping_prob: float = 0.0
    """Probability of clipping distortion. Helps with overdriven recordings only."""
    time_stretch_prob: float = 0.0
    """Probability of another tempo. Hurts where rhythm tells the classes apart."""
    pitch_shift_prob: float = 0.0
    """Probability of another pitch. Hurts where pitch tells the classes apart; slow."""
    background_noise_prob: float = 0.0
    """Probability of a recording of `noise_folder` underneath. Helps where the model will hear such
    noise; hurts where that noise contains the classes."""
    noise_folder: str = ""
    """Folder of recordings for `background_noise_prob`."""
    placement: Literal["start", "random"] = "start"
    """Where in the input a clip lies in training. Start: at its beginning, padding after it, as
    published. Random: anywhere, with noise or silence around, so that the model can be trusted in
    long recordings; short clips are then padded with silence."""
    background_rate: float = 0.0
    """Share of training examples that are background alone, to be called no class; needs random
    placement. Hurts where silence or noise is a class."""
    mixup_rate: float = 0.0
    """Share of clips mixed with another one, on waveforms."""
    cutmix_rate: float = 0.0
    """Share of clips of which a span of time is another clip's. Hurts where a class is one short
    event."""
    frequency_warp: float = 0.0
    """Most that frequencies are stretched or squeezed: 0.1 by a tenth, as between two voices. Meant
    for speakers never heard, which was not shown to help; hurts where pitch is the class."""
    time_warp: float = 0.0
    """Most that a clip is made slower or faster, on the spectrogram. Hurts where rhythm is the
    class."""
    frequency_mask: int = 24
    """SpecAugment: most mel bins masked; 0 for none."""
    time_mask: int = 96
    """SpecAugment: most frames masked; 0 for none."""
    noise: bool = False
    """Add uniform noise to the normalised spectrogram."""
    time_shift_frames: int = 0
    """Roll along time by up to this many frames either way; 0 for none (authors: 10)."""


@dataclass(frozen=True)
class Execution:
    """How it is computed."""

    precision: Precision = "auto"
    """fp32, bf16 or fp16 (GPU only). Auto: bf16 where the hardware multiplies it faster."""
    seed: int = 0
    """Order, augmentation, initialisation and split follow from it."""


OLD_NAMES = {
    "start_from": "init_from",
    "start_file": "init_file",
    "channels": "rgb_kernel",
    "accumulation": "grad_accumulation_steps",
    "clip_gradient": "max_grad_norm",
    "decay": "lr_gamma",
    "decay_from": "lr_decay_from",
    "decay_every": "lr_decay_every",
    "roll_frames": "time_shift_frames",
    **{name.removesuffix("_prob"): name for name in WAVEFORM_AUGMENTATIONS},
}
"""What fields were called in recipe files of version 0.1, and what they are called now."""

GROUPS = (
    Data,
    InitialWeights,
    Network,
    FrontEnd,
    Optimisation,
    Loss,
    Averaging,
    Augmentation,
    Execution,
)
"""The fields by subject, in the order in which the command line shows them."""


@dataclass(frozen=True)
class BaseRecipe(Recordings, InitialWeights, Encoder, FrontEnd, Steps, Execution):
    """What every recipe says, whatever is learnt: data, network, steps, and how it is computed.

    Raises:
        ValueError: a field is out of range.
    """

    name: str = field(kw_only=True)
    """Name of the recipe."""
    summary: str = field(default="", kw_only=True, compare=False)
    """What it is for, in a line."""
    from_data: frozenset[str] = field(default=frozenset(), kw_only=True, compare=False)
    """Fields that `choose.choose` chooses by the data, before training; what they hold until then
    is a value that works. Not stored: a run's recipe has chosen."""

    kind: ClassVar[str]  # what is done by it: "training", "pretraining"
    groups: ClassVar[tuple[type, ...]]  # its fields by subject

    def __post_init__(self) -> None:
        for name, expected in _field_types(type(self)).items():
            _check_type(self.name, name, getattr(self, name), expected)
        for name in ("epochs", "batch_size", "grad_accumulation_steps", "learning_rate"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "two in [0, 1)")
        for name in ("weight_decay", "warmup_epochs", "warmup_steps", "max_grad_norm"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("seed", "depth"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("lr_gamma", 0 < self.lr_gamma <= 1, "in (0, 1]")
        for name in ("lr_decay_from", "lr_decay_every"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        both = self.warmup_epochs and self.warmup_steps
        if both and "warmup_epochs" not in self.from_data:
            raise ValueError(
                f"recipe {self.name:.60}: give --warmup-epochs or --warmup-steps, not both"
            )
        try:
            self._require_configs()
        except ValueError as error:
            raise ValueError(_with_options(str(error), type(self))) from None

    def _require_configs(self) -> None:
        """Raises ValueError unless the network and the front end can be as the fields say."""
        self.model_config(num_classes=1)
        self.frontend_config()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"recipe {self.name:.60}: {option(name)} is {getattr(self, name)}, "
                f"must be {expected}"
            )

    def given(self, **values: Any) -> Self:
        """The recipe with these values, which are not left to the data any more."""
        return replace(self, **values, from_data=self.from_data - values.keys())

    def model_config(self, num_classes: int) -> ASTConfig:
        """The architecture that this recipe trains."""
        names = [each.name for each in fields(ASTConfig) if hasattr(self, each.name)]
        changes = {name: getattr(self, name) for name in names}
        if not self.depth:
            del changes["depth"]
        return ASTConfig.preset(self.preset, num_classes=num_classes, **changes)

    def frontend_config(self) -> FrontendConfig:
        """The front end that this recipe trains behind."""
        return FrontendConfig(**{each.name: getattr(self, each.name) for each in fields(FrontEnd)})

    def columns(self) -> dict[str, str]:
        """What `open_corpus` is told of the data's columns."""
        given = {name: getattr(self, name, "") for name in COLUMNS}
        return {name: value for name, value in given.items() if value}

    def better(self, row: Mapping[str, float]) -> float:
        """How good an epoch is by its row of metrics.csv: the higher, the better."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON types, by subject."""
        names = [each.name for group in self.groups for each in fields(group)]
        content = {name: getattr(self, name) for name in ("name", "summary", *names)}
        return json.loads(json.dumps(content))

    @classmethod
    def from_json(cls, content: Any, source: Path) -> Self:
        """The recipe that `to_json` of this or an earlier version wrote.

        A field that the file lacks has its default, which is to do what earlier versions did.

        Raises:
            ValueError: it is no recipe, a field is unknown, or a value is out of range.
        """
        if not isinstance(content, dict) or "name" not in content:
            raise ValueError(f"{source} is not a recipe; give the recipe.json of a run folder")
        content = {OLD_NAMES.get(name, name): value for name, value in content.items()}
        unknown = sorted(content.keys() - _field_types(cls).keys())
        if unknown:
            listed = ", ".join(map(repr, unknown))
            raise ValueError(
                f"{source} has fields that no recipe has ({listed:.80}): a newer version wrote it, "
                "or a name is misspelt"
            )
        pairs = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
        try:
            return cls(**content | pairs)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


@dataclass(frozen=True)
class Recipe(Data, Network, Optimisation, Loss, Averaging, Augmentation, BaseRecipe):
    """A training recipe. The defaults are the authors' for ESC-50, except the initial weights.

    Raises:
        ValueError: a field is out of range.
    """

    kind: ClassVar = "training"
    groups: ClassVar = GROUPS

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = ("mixup_rate", "cutmix_rate", "background_rate")
        for name in (*rates, "label_smoothing", *WAVEFORM_AUGMENTATIONS):
            self._require(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("time_shift_frames", "focal_gamma", "patience", "clips_per_class"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("frequency_warp", "time_warp"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._require("layer_decay", 0 < self.layer_decay <= 1, "in (0, 1]")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")
        first, last = self.average_epochs
        span = (first, last) == (0, 0) or 1 <= first <= last <= self.epochs
        span |= "epochs" in self.from_data
        self._require("average_epochs", span, f"(0, 0) or within 1 to {self.epochs}")
        placed = self.placement == "random" or not self.background_rate
        placed |= "background_rate" in self.from_data
        self._require("background_rate", placed, "0 unless placement is random")
        for name, size in (("frequency_mask", self.num_mel_bins), ("time_mask", self.num_frames)):
            fits = 0 <= getattr(self, name) <= size or name in self.from_data
            self._require(name, fits, f"between 0 and {size}")

    def _require_configs(self) -> None:
        super()._require_configs()
        self.waveform_augmentation()

    def frontend_config(self) -> FrontendConfig:
        """The front end that this recipe trains behind."""
        padding = "silence" if self.placement == "random" else "zeros"
        return replace(super().frontend_config(), padding=padding)

    def better(self, row: Mapping[str, float]) -> float:
        """How good an epoch is by its row of metrics.csv: the recipe's metric."""
        return row[self.metric]

    def placement_in(self, samples: int, num_classes: int) -> Placement | None:
        """How training clips lie in an input of so many samples; None: at its start."""
        if self.placement == "start":
            return None
        no_class = 0.0 if self.loss == "bce" else 1 / num_classes
        return Placement(samples, self.background_rate, no_class)

    def waveform_augmentation(self) -> WaveformAugmentation:
        """What is done to waveforms before mixup."""
        names = (*WAVEFORM_AUGMENTATIONS, "noise_folder")
        return WaveformAugmentation(**{name: getattr(self, name) for name in names})


def _with_options(message: str, recipe: type) -> str:
    """A message that names arguments of a configuration, with the options of the same names."""
    names = _field_types(recipe).keys()
    return re.sub(
        r"\b[a-z]+(_[a-z]+)+\b",
        lambda found: option(found[0]) if found[0] in names else found[0],
        message,
    )


@functools.cache
def _field_types(recipe: type) -> dict[str, Any]:
    hints = typing.get_type_hints(recipe)
    return {each.name: hints[each.name] for each in fields(recipe) if each.name != "from_data"}


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
        most = MOST_SEED if name == "seed" else MOST
        fits, wanted = _is_a(value, expected, most), expected.__name__
        wanted += f" of at most {most:,}" if expected in (int, float) else ""
    if not fits:
        raise ValueError(f"recipe {recipe!s:.60}: {name} is {value!r:.60}, must be {wanted}")


def _is_a(value: Any, kind: type, most: int = MOST) -> bool:
    """Whether a value is of a type, and finite and no larger than anybody means if a number."""
    accepted: type | types.UnionType = int | float if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return False
    return not isinstance(value, int | float) or abs(value) <= most  # NaN is not
