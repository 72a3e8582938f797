"""Clips to batches of waveforms. Workers decode and mix; everything after runs on the device."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, get_worker_info

from data.audio import load_audio
from data.augment import Uniforms, clip_generator, mixup, mixup_weight
from data.cache import ClipCache
from data.manifest import Clip
from data.placement import Placement
from data.waveform_augment import WaveformAugmentation, WaveformAugmenter


class Item(NamedTuple):
    """One clip as the dataset gives it."""

    waveform: Tensor  # (samples,) float32; without samples: the clip's file cannot be read
    target: Tensor  # (classes,) float32: 1 for each of its classes, between 0 and 1 after mixup
    uniforms: Tensor  # (12,) float32 in [0, 1), in the order of `Uniforms`
    noise_seed: int
    skipped: tuple[str, ...] = ()  # files that could not be read: the clip's, its mixup partner's


class Batch(NamedTuple):
    """Clips padded with zeros to the longest.

    Clips that could not be read are left out, so a batch may hold fewer clips than asked for, or
    none: every tensor then has length 0.
    """

    waveforms: Tensor  # (batch, samples) float32
    lengths: Tensor  # (batch,) int64, samples of each clip
    targets: Tensor  # (batch, classes) float32
    uniforms: Uniforms  # for augmentation on the device
    noise_seeds: Tensor  # (batch,) int64
    skipped: list[str]  # files that could not be read, each once


class ClipDataset(Dataset[Item]):
    """Decoded clips with their targets, augmented and mixed on waveforms where asked for.

    Everything random about a clip is a function of (seed, epoch, index), so neither the number of
    workers nor an interruption changes it. An index beyond the clips is once more the clip
    `index % len(clips)`, with other random numbers: sampling with replacement gives one to each
    draw.

    Args:
        clips: what to decode; mixup draws its partners from the same clips.
        num_classes: length of a target.
        sample_rate: of the decoded waveforms, in Hz.
        cache: where decoded clips are kept, before any augmentation; None decodes every time.
        mixup_rate: probability of mixing a clip with another one, drawn for each clip.
        seed, epoch: of the clip's random numbers.
        augmentation: of each waveform, before mixup; None for none. With a placement, of a random
            part of recordings that are far longer than the input.
        placement: where in the input a clip lies, and how often there is none; None leaves clips
            as they are.
        skip_unreadable: a clip whose file cannot be read becomes an item without samples, and one
            whose mixup partner cannot be read is not mixed; `Item.skipped` names the file. An
            unreadable recording of background noise stops all the same.

    Raises:
        FileNotFoundError, ValueError: as `WaveformAugmenter`; where an item is asked for, as
            `load_audio`, unless `skip_unreadable`.
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
        augmentation: WaveformAugmentation | None = None,
        skip_unreadable: bool = False,
        placement: Placement | None = None,
    ) -> None:
        self.clips = clips
        self.num_classes = num_classes
        self.sample_rate = sample_rate
        self.load = cache.load if cache else load_audio
        self.mixup_rate = mixup_rate
        self.seed = seed
        self.epoch = epoch
        self.augmenter = None
        if augmentation and augmentation.active:
            self.augmenter = WaveformAugmenter(augmentation, sample_rate, self.load)
        self.skip_unreadable = skip_unreadable
        self.placement = placement

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Item:
        generator = clip_generator(self.seed, self.epoch, index)
        mixed = generator.random() < self.mixup_rate
        if mixed:
            partner, weight = int(generator.integers(len(self.clips))), mixup_weight(generator)
        uniforms = generator.random(6, dtype=np.float32)
        noise_seed = int(generator.integers(2**32))
        # What came later is drawn after them: a seed goes on giving the numbers it gave before.
        uniforms = np.append(uniforms, generator.random(4, dtype=np.float32))  # CutMix
        seeds = generator.integers(2**32, size=2).tolist()
        placement = self.placement
        background = generator.random()
        is_background = bool(placement) and background < placement.background_rate
        uniforms = np.append(uniforms, generator.random(2, dtype=np.float32))  # warps

        skipped: list[str] = []
        index %= len(self.clips)
        waveform = self._waveform(index, seeds[0], skipped, is_background)
        target = self._target(index)
        if is_background:
            target.fill_(placement.background_target)
        elif mixed and len(waveform):
            other = self._waveform(partner, seeds[1], skipped)
            if len(other):
                waveform = mixup(waveform, other, weight)
                target = weight * target + (1 - weight) * self._target(partner)
        return Item(waveform, target, torch.from_numpy(uniforms), noise_seed, tuple(skipped))

    def _waveform(
        self, index: int, seed: int, skipped: list[str], is_background: bool = False
    ) -> Tensor:
        """The clip, augmented and placed, or the background of its input.

        Without samples, and its file added to `skipped`, if unreadable.
        """
        path = self.clips[index].path
        try:
            waveform = self.load(path, self.sample_rate)
        except (OSError, ValueError):
            if not self.skip_unreadable:
                raise
            skipped.append(str(path))
            return torch.empty(0)
        generator = np.random.default_rng(seed)
        if self.augmenter and self.placement:
            waveform = self.placement.excerpt(waveform, generator)
        if self.augmenter:
            waveform = self.augmenter(waveform, seed)
        if self.placement is None:
            return waveform
        if is_background:
            return self.placement.background(waveform, generator)
        return self.placement.place(waveform, generator)

    def _target(self, index: int) -> Tensor:
        target = torch.zeros(self.num_classes)
        target[list(self.clips[index].targets)] = 1.0
        return target


def collate(items: Sequence[Item]) -> Batch:
    """Stack items, waveforms padded with zeros to the longest; those without samples left out."""
    skipped = list(dict.fromkeys(path for item in items for path in item.skipped))
    items = [item for item in items if len(item.waveform)]
    lengths = torch.tensor([len(item.waveform) for item in items], dtype=torch.int64)
    if not items:
        nothing, uniforms = torch.zeros(0, 0), torch.zeros(len(Uniforms._fields), 0)
        return Batch(nothing, lengths, nothing, Uniforms(*uniforms), lengths, skipped)
    longest = int(lengths.max())
    return Batch(
        torch.stack([F.pad(item.waveform, (0, longest - len(item.waveform))) for item in items]),
        lengths,
        torch.stack([item.target for item in items]),
        Uniforms(*torch.stack([item.uniforms for item in items], dim=1)),
        torch.tensor([item.noise_seed for item in items]),
        skipped,
    )


def load_batches(
    dataset: ClipDataset,
    *,
    batch_size: int | None = None,
    batch_sampler: Iterable[list[int]] | None = None,
    workers: int = 0,
    threads: int = 1,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """The batches of a dataset, decoded by `workers` processes, or by this one if 0.

    Args:
        batch_size: clips of a batch, in the order of the dataset; or else
        batch_sampler: the indices of the clips of each batch.
        threads: that decode the clips of a batch where there are no workers. They pay for files,
            not for clips from a cache, and do not serve a dataset with `augmentation`, whose
            generators are the process's own.
        pin_memory: put batches where a GPU copies them from without waiting.

    Raises:
        ValueError: `workers` is negative; or clips are to be augmented in several threads.
        Exception: whatever the dataset raises, of the same type and message in a worker as here;
            the worker's traceback is its cause.
    """
    if workers < 0:
        raise ValueError(f"workers {workers} is negative; give 0 or more decoding processes")
    if threads > 1 and dataset.augmenter:
        raise ValueError(f"clips are augmented in one thread, not in {threads}")
    if batch_sampler is None:
        batch_sampler = BatchSampler(range(len(dataset)), batch_size, drop_last=False)
    # One thread each for PyTorch's operations: OpenMP would start as many again for each of them.
    with ThreadPoolExecutor(threads, "decode", torch.set_num_threads, (1,)) as pool:
        loader = DataLoader(
            _WholeBatches(dataset, pool.map if threads > 1 and not workers else map),
            batch_size=None,  # an index of _WholeBatches is a batch
            sampler=batch_sampler,
            num_workers=workers,
            pin_memory=pin_memory,
        )
        for batch in loader:
            if isinstance(batch, _Failure):
                raise batch.error from batch.cause
            yield batch


class _Failure(NamedTuple):
    """An error given instead of a batch: DataLoader would put a traceback into its message."""

    error: Exception
    cause: Exception | None


class _WholeBatches(Dataset[Batch | _Failure]):
    def __init__(self, dataset: ClipDataset, mapped: Callable[..., Iterable[Item]]) -> None:
        self.dataset = dataset
        self.mapped = mapped  # `map`, or that of a pool of threads

    def __getitem__(self, indices: list[int]) -> Batch | _Failure:
        try:
            return collate([*self.mapped(self.dataset.__getitem__, indices)])
        except Exception as error:
            return _failure(error)


def _failure(error: Exception) -> _Failure:
    if get_worker_info() is None:
        return _Failure(error, error.__cause__)
    cause = RuntimeError("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # DataLoader would wait for it for ever
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return _Failure(error, cause)
