"""Augmentation of training clips: mixup, SpecAugment, noise, time shift (AST paper, 3.1), CutMix,
and warps of the frequency and the time axis.

Every function is a pure function of its arguments. The random numbers come in as uniforms in
[0, 1), which the caller draws from `clip_generator`, so that what happens to a clip follows from
(seed, epoch, clip index) alone, whatever batch, worker or resumed run it is in. They have to be
drawn as float32: a float64 just below 1 would round to 1 on its way to a float32 tensor.

Shapes: B batch, T frames, M mel bins, C classes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

MEL_SCALE = 1127  # mel = 1127 ln(1 + f / 700 Hz), as in Kaldi


class Uniforms(NamedTuple):
    """The random numbers of a batch's augmentation, each (B,) float32 in [0, 1)."""

    frequency_width: Tensor  # SpecAugment
    frequency_start: Tensor
    time_width: Tensor
    time_start: Tensor
    noise_level: Tensor
    time_shift: Tensor
    cutmix_happens: Tensor
    cutmix_partner: Tensor
    cutmix_length: Tensor
    cutmix_start: Tensor
    frequency_warp: Tensor
    time_warp: Tensor


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


def spec_augment(fbank: Tensor, uniforms: Uniforms, frequency_mask: int, time_mask: int) -> Tensor:
    """Fill one band of mel bins and one stretch of frames of every clip with 0.

    fbank: (B, T, M), before normalisation (0 there is not the mean of the data: the authors' code).
    frequency_mask, time_mask: upper bound, exclusive, of a mask in bins and frames; 0: no mask.

    Width and start of a mask are drawn as by `torchaudio.functional.mask_along_axis_iid`.
    ValueError for a width beyond its axis.
    """
    _, frames, mels = fbank.shape
    for name, width, size in [
        ("frequency_mask", frequency_mask, mels),
        ("time_mask", time_mask, frames),
    ]:
        if not 0 <= width <= size:
            raise ValueError(f"{name} {width}: expected from 0 to {size}, the size of that axis")
    band = _on_device(fbank, uniforms.frequency_width, uniforms.frequency_start)
    stretch = _on_device(fbank, uniforms.time_width, uniforms.time_start)
    bins_masked = _inside_mask(*band, mels, frequency_mask)
    frames_masked = _inside_mask(*stretch, frames, time_mask)
    return fbank.masked_fill(frames_masked[:, :, None] | bins_masked[:, None, :], 0.0)


def _inside_mask(width: Tensor, start: Tensor, size: int, max_width: int) -> Tensor:
    """(B, size), true inside each clip's mask; its width and start are uniforms (B,)."""
    extent = width[:, None] * max_width
    # The start is drawn with the extent not yet truncated, as torchaudio does.
    first = (start[:, None] * (size - extent)).long()
    position = torch.arange(size, device=width.device)
    return (position >= first) & (position < first + extent.long())


def warp_frequency(
    fbank: Tensor, uniforms: Uniforms, most: float, band: tuple[float, float]
) -> Tensor:
    """Stretch or squeeze the frequency axis of each clip, as another vocal tract would.

    Vocal tract length perturbation (Jaitly and Hinton, 2013), on the filterbank: what is at f Hz
    comes to f times a factor, which is uniform in [1 - most, 1 + most). Values between two bins are
    interpolated; where no bin is left to take from, the outermost one is repeated.

    fbank: (B, T, M) log-mel. band: lower and upper edge of the filterbank, in Hz.
    """
    _check_warp("frequency_warp", most)
    (uniform,) = _on_device(fbank, uniforms.frequency_warp)
    factor = 1 + most * (2 * uniform[:, None] - 1)
    low, high = (_mel(edge) for edge in band)
    step = (high - low) / (fbank.shape[2] + 1)
    centres = low + step * torch.arange(1, fbank.shape[2] + 1, device=fbank.device)
    source = MEL_SCALE * torch.log1p(torch.expm1(centres / MEL_SCALE) / factor)  # (B, M)
    return _interpolate(fbank.mT, (source - low) / step - 1).mT.contiguous()


def _mel(frequency: float) -> float:
    return MEL_SCALE * math.log1p(frequency / 700)


def warp_time(fbank: Tensor, uniforms: Uniforms, most: float) -> Tensor:
    """Make each clip slower or faster about its middle, pitch unchanged; length stays T.

    The duration is multiplied by a factor which is uniform in [1 - most, 1 + most). Values between
    two frames are interpolated; a clip made shorter repeats its outermost frames.

    fbank: (B, T, M) log-mel.
    """
    _check_warp("time_warp", most)
    (uniform,) = _on_device(fbank, uniforms.time_warp)
    factor = 1 + most * (2 * uniform[:, None] - 1)
    middle = (fbank.shape[1] - 1) / 2
    offset = torch.arange(fbank.shape[1], device=fbank.device) - middle
    return _interpolate(fbank, middle + offset / factor)


def _check_warp(name: str, most: float) -> None:
    if not 0 <= most < 1:
        raise ValueError(f"{name} {most}: expected from 0 to less than 1")


def _interpolate(values: Tensor, position: Tensor) -> Tensor:
    """Values (B, N, K) at fractional positions (B, N) along their axis of N."""
    last = values.shape[1] - 1
    position = position.clamp(0, last)
    below = position.long()
    share = (position - below)[:, :, None].to(values.dtype)
    lower = values.take_along_dim(below[:, :, None], dim=1)
    upper = values.take_along_dim((below + 1).clamp(max=last)[:, :, None], dim=1)
    return torch.lerp(lower, upper, share)


def add_noise(fbank: Tensor, uniforms: Uniforms, seeds: Tensor) -> Tensor:
    """Add uniform noise from [0, noise_level / 10) to each clip of a normalised fbank (B, T, M).

    seeds: (B,) int64 on the CPU, below 2**32 (the CPU's generator ignores higher bits). The noise
    is drawn on the device of `fbank`, from a generator seeded per clip: it does not depend on the
    batch, but it differs between a CPU and a GPU.
    """
    (levels,) = _on_device(fbank, uniforms.noise_level)
    _require_one_a_clip("seeds", seeds, fbank)
    noise = torch.empty(fbank.shape, dtype=fbank.dtype, device=fbank.device)
    generator = torch.Generator(fbank.device)
    for clip, seed in zip(noise, seeds.tolist(), strict=True):
        clip.uniform_(generator=generator.manual_seed(seed))
    return fbank + noise * (levels.to(fbank.dtype)[:, None, None] / 10)


def time_shift(fbank: Tensor, uniforms: Uniforms, max_frames: int = 10) -> Tensor:
    """Roll each clip of an fbank (B, T, M) along time by an integer from [-max_frames, max_frames).

    What leaves at one end comes back in at the other. The upper bound is exclusive, as in the
    authors' `randint(-10, 10)`. ValueError for negative `max_frames`.
    """
    if max_frames < 0:
        raise ValueError(f"time_shift got max_frames {max_frames}: expected 0 or more")
    (uniform,) = _on_device(fbank, uniforms.time_shift)
    shift = (uniform * (2 * max_frames)).long() - max_frames
    source = torch.arange(fbank.shape[1], device=fbank.device) - shift[:, None]
    return fbank.take_along_dim((source % fbank.shape[1])[:, :, None], dim=1)


def cutmix(
    fbank: Tensor, targets: Tensor, uniforms: Uniforms, rate: float
) -> tuple[Tensor, Tensor]:
    """Replace a span of frames by the same frames of another clip of the batch, targets alike.

    CutMix (Yun et al. 2019) along time alone: the span's share of the frames is uniform in [0, 1),
    its start uniform where it fits, and the targets are mixed by its share. A batch of one clip
    stays as it is.

    It helps where a class sounds the whole clip long, or where clips hold several classes. It hurts
    with short events, which a span can cut away while their label stays, and with clips shorter
    than the input, whose padding counts as frames.

    fbank: (B, T, M), before or after normalisation. targets: (B, C).
    rate: probability for a clip.

    ValueError for a rate out of [0, 1].
    """
    batch, frames, _ = fbank.shape
    if not 0 <= rate <= 1:
        raise ValueError(f"cutmix got rate {rate}: expected a number from 0 to 1")
    happens, which, length, start = _on_device(
        fbank,
        uniforms.cutmix_happens,
        uniforms.cutmix_partner,
        uniforms.cutmix_length,
        uniforms.cutmix_start,
    )
    others = 1 + (which * (batch - 1)).long()
    partner = (torch.arange(batch, device=fbank.device) + others) % batch
    extent = (length * frames).long() * (happens < rate)
    first = (start * (frames - extent + 1)).long()[:, None]
    position = torch.arange(frames, device=fbank.device)
    inside = (position >= first) & (position < first + extent[:, None])
    share = (extent / frames).to(targets)[:, None]
    mixed = torch.where(inside[:, :, None], fbank[partner], fbank)
    return mixed, torch.lerp(targets, targets[partner], share)


def _on_device(fbank: Tensor, *uniforms: Tensor) -> list[Tensor]:
    for values in uniforms:
        _require_one_a_clip("uniforms", values, fbank)
    return [values.to(fbank.device, non_blocking=True) for values in uniforms]


def _require_one_a_clip(name: str, numbers: Tensor, fbank: Tensor) -> None:
    if numbers.shape != fbank.shape[:1]:
        raise ValueError(
            f"{name} of shape {tuple(numbers.shape)}: expected ({len(fbank)},), one number for "
            "each clip of the batch"
        )
