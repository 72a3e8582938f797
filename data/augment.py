"""Augmentation of training clips: mixup, SpecAugment, noise, roll (AST paper, 3.1), and CutMix.

Every function is a pure function of its arguments. The random numbers come in as uniforms in
[0, 1) ("chances"), which the caller draws from `clip_generator`, so that what happens to a clip
follows from (seed, epoch, clip index) alone, whatever batch, worker or resumed run it is in. Draw
chances as float32: a float64 just below 1 would round to 1 on its way to a float32 tensor.

Shapes: B batch, T frames, M mel bins, C classes.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


def clip_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of all random numbers that clip `index` uses in `epoch`.

    numpy pads a seed with zeros, so a generator seeded with [seed, epoch] alone would repeat the
    stream of clip 0.
    """
    if min(seed, epoch, index) < 0:
        raise ValueError(
            f"seed {seed}, epoch {epoch}, clip index {index}: expected none of them negative"
        )
    return np.random.default_rng([seed, epoch, index])


def mixup_weight(generator: np.random.Generator) -> float:
    """Draw the weight of the first clip, Beta(10, 10): mean 0.5, standard deviation 0.11."""
    return float(generator.beta(10, 10))


def mixup(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Mix two waveforms (samples,) into one as long as the first, with mean 0.

    Both are centred over their whole length; then `second` is cut at the end or zero-padded to the
    length of `first`. The mixture is `weight * first + (1 - weight) * second`, centred again. The
    targets have to be mixed with the same weight.
    """
    if first.dim() != 1 or second.dim() != 1 or not len(first) or not len(second):
        raise ValueError(
            f"mixup got waveforms of shape {tuple(first.shape)} and {tuple(second.shape)}: "
            "expected two of shape (samples,), neither empty"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"mixup got weight {weight}: expected a number from 0 to 1")
    first = first - first.mean()
    second = second - second.mean()
    second = pad(second[: len(first)], (0, max(0, len(first) - len(second))))
    mixed = weight * first + (1 - weight) * second
    return mixed - mixed.mean()


def spec_augment(fbank: Tensor, chances: Tensor, frequency_width: int, time_width: int) -> Tensor:
    """Fill one band of mel bins and one stretch of frames of every clip with 0.

    fbank: (B, T, M), before normalisation (0 there is not the mean of the data: the authors' code).
    chances: (B, 4) uniforms: frequency width, frequency start, time width, time start.
    frequency_width, time_width: upper bound, exclusive, of a mask in bins and frames; 0: no mask.

    Masks are placed as by `torchaudio.functional.mask_along_axis_iid`. ValueError for a width
    beyond its axis.
    """
    batch, frames, mels = fbank.shape
    _require_shape("chances", chances, (batch, 4))
    for name, width, size in [
        ("frequency_width", frequency_width, mels),
        ("time_width", time_width, frames),
    ]:
        if not 0 <= width <= size:
            raise ValueError(f"{name} {width}: expected from 0 to {size}, the size of that axis")
    chances = chances.to(fbank.device, non_blocking=True)
    bins_masked = _masked_positions(chances[:, :2], mels, frequency_width)
    frames_masked = _masked_positions(chances[:, 2:], frames, time_width)
    return fbank.masked_fill(frames_masked[:, :, None] | bins_masked[:, None, :], 0.0)


def _masked_positions(chances: Tensor, size: int, width: int) -> Tensor:
    """Return (B, size), true inside each clip's mask; chances (B, 2) give its extent and start."""
    extent = chances[:, :1] * width
    # The start is drawn with the extent not yet truncated, as torchaudio does.
    start = (chances[:, 1:] * (size - extent)).long()
    position = torch.arange(size, device=chances.device)
    return (position >= start) & (position < start + extent.long())


def add_noise(fbank: Tensor, levels: Tensor, seeds: Tensor) -> Tensor:
    """Add uniform noise from [0, level / 10) to each clip of a normalised fbank (B, T, M).

    levels: (B,) uniforms. seeds: (B,) int64 on the CPU, below 2**32 (the CPU's generator ignores
    higher bits). The noise is drawn on the device of `fbank`, from a generator seeded per clip: it
    does not depend on the batch, but it differs between a CPU and a GPU.
    """
    _require_shape("levels", levels, fbank.shape[:1])
    _require_shape("seeds", seeds, fbank.shape[:1])
    noise = torch.empty(fbank.shape, dtype=fbank.dtype, device=fbank.device)
    generator = torch.Generator(fbank.device)
    for clip, seed in zip(noise, seeds.tolist(), strict=True):
        clip.uniform_(generator=generator.manual_seed(seed))
    levels = levels.to(fbank, non_blocking=True)
    return fbank + noise * (levels[:, None, None] / 10)


def roll(fbank: Tensor, chances: Tensor, frames: int = 10) -> Tensor:
    """Roll each clip of an fbank (B, T, M) along time by an integer from [-frames, frames).

    chances: (B,) uniforms. What leaves at one end comes back in at the other. The upper bound is
    exclusive, as in the authors' `randint(-10, 10)`.
    """
    _require_shape("chances", chances, fbank.shape[:1])
    if frames < 0:
        raise ValueError(f"roll got frames {frames}: expected 0 or more")
    chances = chances.to(fbank.device, non_blocking=True)
    shift = (chances * (2 * frames)).long() - frames
    source = torch.arange(fbank.shape[1], device=fbank.device) - shift[:, None]
    return fbank.take_along_dim((source % fbank.shape[1])[:, :, None], dim=1)


def cutmix(fbank: Tensor, targets: Tensor, chances: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Replace a span of frames by the same frames of another clip of the batch, targets alike.

    CutMix (Yun et al. 2019) along time alone: the span's share of the frames is uniform in [0, 1),
    its place uniform where it fits, and the targets are mixed by its share. A batch of one clip
    stays as it is.

    It helps where a class sounds the whole clip long, or where clips hold several classes. It hurts
    with short events, which a span can cut away while their label stays, and with clips shorter
    than the input, whose padding counts as frames.

    fbank: (B, T, M), before or after normalisation. targets: (B, C).
    chances: (B, 4) uniforms: whether, with which clip, length and start of the span.
    rate: probability for a clip.

    ValueError for a rate out of [0, 1].
    """
    batch, frames, _ = fbank.shape
    _require_shape("chances", chances, (batch, 4))
    if not 0 <= rate <= 1:
        raise ValueError(f"cutmix got rate {rate}: expected a number from 0 to 1")
    happens, which, length, place = chances.to(fbank.device, non_blocking=True).T
    others = 1 + (which * (batch - 1)).long()
    partner = (torch.arange(batch, device=fbank.device) + others) % batch
    extent = (length * frames).long() * (happens < rate)
    start = (place * (frames - extent + 1)).long()[:, None]
    position = torch.arange(frames, device=fbank.device)
    inside = (position >= start) & (position < start + extent[:, None])
    share = (extent / frames).to(targets)[:, None]
    mixed = torch.where(inside[:, :, None], fbank[partner], fbank)
    return mixed, torch.lerp(targets, targets[partner], share)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)}: expected {tuple(shape)} for this batch"
        )
