"""The settings of an AST and of its front end: two frozen dataclasses that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

PRESETS: dict[str, dict[str, int]] = {
    "tiny224": {"width": 192, "heads": 3},
    "small224": {"width": 384, "heads": 6},
    "base224": {"width": 768, "heads": 12},
    "base384": {"width": 768, "heads": 12},
    "large384": {"width": 1024, "depth": 24, "heads": 16},
}
"""DeiT's sizes (12 blocks deep), and ViT-L (24). The number is the image size of the ImageNet
weights that are usually loaded into an AST of that size; the AST is the same for both numbers."""

POOLINGS = ("cls", "patches")
PADDINGS = ("zeros", "silence")
WINDOWS = ("hamming", "hanning", "povey", "blackman", "rectangular")

MOST = {
    "num_frames": 2**16,  # 11 minutes
    "num_mel_bins": 1024,
    "num_classes": 2**17,
    "width": 2**14,
    "depth": 256,
    "heads": 1024,
}
"""Beyond what anybody trains; a file may not ask for any memory it likes."""
MOST_VALUES = 2**24  # of an input, frames times mel bins
MOST_TOKENS = 2**17
SAMPLE_RATES = (8_000, 48_000)  # Hz, that a model may hear at


@dataclass(frozen=True)
class ASTConfig:
    """The architecture of an AST (paper, section 2.1). Axes are always (frequency, time).

    Args:
        num_classes: outputs of the head.
        num_frames: length of the input, 10 ms a frame.
        num_mel_bins: height of the input.
        width: numbers a token.
        depth: transformer blocks.
        heads: attention heads a block; they divide the width.
        mlp_ratio: width of the MLP's hidden layer, as a multiple of `width`.
        patch: size of a patch, (frequency, time) or one number for both.
        stride: from one patch to the next; smaller than the patch, patches overlap.
        distilled: a DIST token beside CLS.
        pooling: what the head takes: "cls", the mean of CLS and DIST, or "patches", the mean of
            the patch tokens.
        dropout: probability, in every block and after the positions.
        drop_path: probability of skipping a branch of the last block (stochastic depth); it rises
            linearly from 0 in the first block.
        layer_norm_eps: of the blocks and the final norm, as in timm's DeiT.
        head_layer_norm_eps: of the head's norm: PyTorch's default, as in the authors' code.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        patchout: rows and columns of the patch grid that each training step leaves out at random
            (structured patchout; Koutini et al., Interspeech 2022): less to compute, less
            overfitting.

    Raises:
        ValueError: a field is out of range, or the input is smaller than one patch.
    """

    num_classes: int = 527
    num_frames: int = 1024
    num_mel_bins: int = 128
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] = (10, 10)
    distilled: bool = True
    pooling: str = "cls"
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_norm_eps: float = 1e-6
    head_layer_norm_eps: float = 1e-5
    gradient_checkpointing: bool = False
    patchout: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", _pair("patch", self.patch))
        object.__setattr__(self, "stride", _pair("stride", self.stride))
        for name, most in MOST.items():
            require_integer(name, getattr(self, name), 1, most)
        require_input(self.num_frames, self.num_mel_bins)
        for name in ("distilled", "gradient_checkpointing"):
            _require_bool(name, getattr(self, name))
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be split over {self.heads} heads evenly")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r:.60} is unknown; use one of {POOLINGS}")
        for name in ("dropout", "drop_path"):
            require_number(name, getattr(self, name), 0, 1, below=True)
        for name in ("layer_norm_eps", "head_layer_norm_eps"):
            require_number(name, getattr(self, name), 1e-30, 1)
        require_number("mlp_ratio", self.mlp_ratio, 1 / self.width, 64)
        for axis, size, patch in (
            ("num_mel_bins", self.num_mel_bins, self.patch[0]),
            ("num_frames", self.num_frames, self.patch[1]),
        ):
            if size < patch:
                raise ValueError(
                    f"{axis} {size} is smaller than one patch of {patch}; "
                    f"use {axis} >= {patch} or a smaller patch"
                )
        if self.num_tokens > MOST_TOKENS:
            raise ValueError(
                f"num_tokens {self.num_tokens:,} is more than {MOST_TOKENS:,}, the grid of "
                f"{self.grid[0]} x {self.grid[1]} patches: use fewer frames or a larger stride"
            )
        object.__setattr__(self, "patchout", _patchout(self.patchout, self.grid))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ASTConfig:
        """A DeiT size by name (`tiny224`, …, `base384`, `large384`), with changes."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r:.60} is unknown; use one of {', '.join(PRESETS)}")
        return replace(cls(**PRESETS[name]), **changes)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (frequency, time)."""
        sizes = (self.num_mel_bins, self.num_frames)
        frequency, time = (
            (size - patch) // stride + 1
            for size, patch, stride in zip(sizes, self.patch, self.stride, strict=True)
        )
        return frequency, time

    @property
    def num_special_tokens(self) -> int:
        """CLS, and DIST where there is one."""
        return 2 if self.distilled else 1

    @property
    def num_tokens(self) -> int:
        """Tokens in a block, the special ones included."""
        return self.num_special_tokens + self.grid[0] * self.grid[1]

    def unpadded_frames(self, frames: int) -> int:
        """The shortest input, in frames, whose patches hold all of a clip of `frames` frames.

        At least one patch, and never more than `num_frames`.
        """
        patch, stride = self.patch[1], self.stride[1]
        steps = max(0, -(-(frames - patch) // stride))  # rounded up
        return min(patch + steps * stride, self.num_frames)


@dataclass(frozen=True)
class FrontendConfig:
    """How a waveform becomes the network's input; saved with every model.

    Args:
        num_frames: length of the input, 10 ms a frame.
        num_mel_bins: bins of the mel filterbank.
        window: `hamming` as in the paper; the authors' code and transformers use `hanning`. Also
            `povey`, `blackman`, `rectangular`.
        mean: of the data set's log-mel values; the default is AudioSet's.
        std: their standard deviation.
        sample_rate: of the waveforms, 8,000 to 48,000 Hz; a window stays 25 ms, its hop 10 ms.
        low_freq: lower edge of the mel filterbank, in Hz.
        high_freq: upper edge, in Hz; 0 for the Nyquist frequency, half the sample rate.
        padding: what follows a clip shorter than the input: "zeros" in the log-mel domain, which is
            louder than most sound, as in the authors' code and all published checkpoints; or
            "silence", the values that samples of zero have.
        padded_share: how much of the input was padding in training, on average. A model that has
            learnt from much of it tells little about silence in a long recording.

    Raises:
        ValueError: a field is out of range.
    """

    num_frames: int = 1024
    num_mel_bins: int = 128
    window: str = "hamming"
    mean: float = -4.2677393
    std: float = 4.5689974
    sample_rate: int = 16_000
    padding: str = "zeros"
    padded_share: float = 0.0
    low_freq: float = 20.0
    high_freq: float = 0.0

    def __post_init__(self) -> None:
        require_input(self.num_frames, self.num_mel_bins)
        require_integer("num_mel_bins", self.num_mel_bins, 4, MOST["num_mel_bins"])
        require_integer("sample_rate", self.sample_rate, *SAMPLE_RATES)
        if self.window not in WINDOWS:
            known = ", ".join(WINDOWS)
            raise ValueError(f"window {self.window!r:.60} is unknown; use one of {known}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding {self.padding!r:.60} is unknown; use one of {PADDINGS}")
        require_number("padded_share", self.padded_share, 0, 1)
        require_number("mean", self.mean, -1e4, 1e4)
        if self.std == 0:
            raise ValueError(f"std {self.std} is not positive; measure it with `ast-audio stats`")
        require_number("std", self.std, 1e-4, 1e4)
        for name in ("low_freq", "high_freq"):
            require_number(name, getattr(self, name), 0, SAMPLE_RATES[1])
        low, high = self.band
        if not low < high <= self.sample_rate / 2:
            raise ValueError(
                f"low_freq {low:g} and high_freq {high:g} Hz do not fit sample_rate "
                f"{self.sample_rate}: use low_freq < high_freq <= {self.sample_rate / 2:g} Hz, its "
                "Nyquist frequency, or high_freq 0 for that"
            )

    @property
    def band(self) -> tuple[float, float]:
        """Lower and upper edge of the filterbank, in Hz."""
        return self.low_freq, self.high_freq or self.sample_rate / 2


def require_input(num_frames: Any, num_mel_bins: Any) -> None:
    """ValueError unless an input of this size is one that a model can have."""
    require_integer("num_frames", num_frames, 1, MOST["num_frames"])
    require_integer("num_mel_bins", num_mel_bins, 1, MOST["num_mel_bins"])
    if num_frames * num_mel_bins > MOST_VALUES:
        raise ValueError(
            f"num_frames {num_frames:,} times num_mel_bins {num_mel_bins:,} is more than "
            f"{MOST_VALUES:,}; use a shorter input or fewer bins"
        )


def require_integer(name: str, value: Any, low: int, high: int) -> None:
    """ValueError unless a field is an integer in a range."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} {value!r:.60} is not an integer from {low:,} to {high:,}")


def require_number(name: str, value: Any, low: float, high: float, below: bool = False) -> None:
    """ValueError unless a field is a finite number in a range; with `below`, it is below `high`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (below and value == high):
        end = ")" if below else "]"
        raise ValueError(f"{name} {value!r:.60} is not a number in [{low:g}, {high:g}{end}")


def _require_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r:.60} is neither true nor false")


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} {value!r:.60} must be one number or (frequency, time)")
    for size in pair:
        require_integer(name, size, 1, MOST["num_frames"])
    return pair


def _patchout(value: Any, grid: tuple[int, int]) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(pair) != 2 or any(type(count) is not int for count in pair):
        raise ValueError(f"patchout {value!r:.60} must be (rows, columns), two integers")
    if not all(0 <= count < size for count, size in zip(pair, grid, strict=True)):
        raise ValueError(
            f"patchout {pair} does not fit the grid of {grid[0]} x {grid[1]} patches; "
            f"drop 0 to {grid[0] - 1} rows (frequency) and 0 to {grid[1] - 1} columns (time)"
        )
    return pair
