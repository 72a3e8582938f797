"""Clips to batches of waveforms. Workers decode and mix; everything after runs on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from data.audio import load_audio
from data.augment import clip_generator, mixup, mixup_weight
from data.cache import ClipCache
from data.manifest import Clip

NUM_CHANCES = 6
"""Uniform numbers drawn for every clip: four for SpecAugment, one for noise, one for the roll."""


class Item(NamedTuple):
    """One clip as the dataset gives it."""

    waveform: Tensor  # (samples,) float32
    target: Tensor  # (classes,) float32: 1 for each of its classes, between 0 and 1 after mixup
    chances: Tensor  # (NUM_CHANCES,) float32 in [0, 1), for augmentation on the device
    noise_seed: int


class Batch(NamedTuple):
    """Clips padded with zeros to the longest."""

    waveforms: Tensor  # (batch, samples) float32
    lengths: Tensor  # (batch,) int64, samples of each clip
    targets: Tensor  # (batch, classes) float32
    chances: Tensor  # (batch, NUM_CHANCES) float32
    noise_seeds: Tensor  # (batch,) int64


class ClipDataset(Dataset[Item]):
    """Decoded clips with their targets; with `mixup_rate`, mixed on waveforms.

    Everything random about a clip is a function of (seed, epoch, index), so neither the number of
    workers nor an interruption changes it.

    Args:
        clips: what to decode; mixup draws its partners from the same clips.
        num_classes: length of a target.
        sample_rate: of the decoded waveforms, in Hz.
        cache: where decoded clips are kept; None decodes every time.
        mixup_rate: probability of mixing a clip with another one, drawn for each clip.
        seed, epoch: of the clip's random numbers.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        num_classes: int,
        sample_rate: int = 16_000,
        cache: ClipCache | None = None,
        mixup_rate: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.clips = clips
        self.num_classes = num_classes
        self.sample_rate = sample_rate
        self.cache = cache
        self.mixup_rate = mixup_rate
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        generator = clip_generator(self.seed, self.epoch, index)
        waveform, target = self._decode(index)
        if generator.random() < self.mixup_rate:
            partner, partner_target = self._decode(int(generator.integers(len(self.clips))))
            weight = mixup_weight(generator)
            waveform = mixup(waveform, partner, weight)
            target = weight * target + (1 - weight) * partner_target
        chances = torch.from_numpy(generator.random(NUM_CHANCES, dtype=np.float32))
        return Item(waveform, target, chances, int(generator.integers(2**32)))

    def _decode(self, index: int) -> tuple[Tensor, Tensor]:
        clip = self.clips[index]
        load = self.cache.load if self.cache else load_audio
        target = torch.zeros(self.num_classes)
        target[list(clip.targets)] = 1.0
        return load(clip.path, self.sample_rate), target


def collate(items: Sequence[Item]) -> Batch:
    """Stack items, waveforms padded with zeros to the longest of them."""
    lengths = torch.tensor([len(item.waveform) for item in items])
    longest = int(lengths.max())
    return Batch(
        torch.stack([F.pad(item.waveform, (0, longest - len(item.waveform))) for item in items]),
        lengths,
        torch.stack([item.target for item in items]),
        torch.stack([item.chances for item in items]),
        torch.tensor([item.noise_seed for item in items]),
    )


def epoch_batches(num_clips: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The order of a training epoch, a function of (seed, epoch): lists of clip indices.

    The last batch holds what is left; no clip is dropped or drawn twice.
    """
    # a fourth word keeps the stream apart from those of `clip_generator`
    order = np.random.default_rng([seed, epoch, 0, 1]).permutation(num_clips).tolist()
    return [order[start : start + batch_size] for start in range(0, num_clips, batch_size)]
