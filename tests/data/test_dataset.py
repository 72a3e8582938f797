"""Clips to batches: targets, mixup, and randomness that follows from (seed, epoch, index)."""

from collections import Counter

import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.cache import ClipCache
from data.dataset import NUM_CHANCES, ClipDataset, collate, epoch_batches
from data.manifest import Clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips of different lengths; the last has two classes."""
    folder = tmp_path_factory.mktemp("clips")
    generator = torch.Generator().manual_seed(0)
    for index in range(4):
        waveform = 0.1 * torch.randn(4_000 + 1_000 * index, generator=generator)
        soundfile.write(folder / f"{index}.wav", waveform.numpy(), 16_000, subtype="FLOAT")
    targets = [(0,), (1,), (2,), (0, 2)]
    return [Clip(folder / f"{i}.wav", target) for i, target in enumerate(targets)]


def test_targets_hold_a_one_for_each_class(clips):
    dataset = ClipDataset(clips, num_classes=3)
    assert dataset[1].target.tolist() == [0, 1, 0]
    assert dataset[3].target.tolist() == [1, 0, 1]


def test_without_mixup_the_waveform_is_the_decoded_one(clips):
    for index, clip in enumerate(clips):
        waveform = torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0])
        assert torch.equal(ClipDataset(clips, 3)[index].waveform, waveform)


def test_mixup_mixes_targets_with_the_weight_of_the_waveforms(clips):
    for index in range(3):
        plain = ClipDataset(clips, 3)[index]
        mixed = ClipDataset(clips, 3, mixup_rate=1.0, seed=5)[index]
        assert len(mixed.waveform) == len(plain.waveform)
        assert mixed.waveform.mean().abs() < 1e-6
        assert 1 - 1e-6 < mixed.target.sum() < 2 + 1e-6  # the partner may have two classes
        weight = mixed.target[plain.target.argmax()]
        if 0 < weight < 1:
            centred = plain.waveform - plain.waveform.mean()
            # the partner is independent noise, so projecting on the clip gives its weight
            projected = (mixed.waveform @ centred) / (centred @ centred)
            assert projected.item() == pytest.approx(weight.item(), abs=0.06)


def test_mixup_rate_is_the_share_of_mixed_clips(clips):
    dataset = ClipDataset(clips[:1] * 400, 3, mixup_rate=0.5)
    plain = ClipDataset(clips[:1], 3)[0].waveform
    mixed = sum(not torch.equal(dataset[index].waveform, plain) for index in range(400))
    assert 160 < mixed < 240


def test_randomness_follows_from_seed_epoch_and_index(clips):
    def draw(seed, epoch, index):
        item = ClipDataset(clips, 3, mixup_rate=1.0, seed=seed, epoch=epoch)[index]
        return item.waveform.sum().item(), *item.chances.tolist(), item.noise_seed

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 2)}) == 4


def test_chances_and_noise_seeds_are_in_range(clips):
    items = [ClipDataset(clips, 3, epoch=epoch)[0] for epoch in range(50)]
    chances = torch.stack([item.chances for item in items])
    assert chances.shape == (50, NUM_CHANCES)
    assert 0 <= chances.min() < 0.1 < 0.9 < chances.max() < 1
    assert all(0 <= item.noise_seed < 2**32 for item in items)


def test_a_cache_changes_nothing(clips, tmp_path):
    cached = ClipDataset(clips, 3, cache=ClipCache(tmp_path), mixup_rate=1.0)
    plain = ClipDataset(clips, 3, mixup_rate=1.0)
    for _ in ("decoded", "read from the cache"):
        assert all(torch.equal(cached[i].waveform, plain[i].waveform) for i in range(4))


def test_collate_pads_with_zeros_and_says_each_length(clips):
    dataset = ClipDataset(clips, 3)
    batch = collate([dataset[2], dataset[0]])
    assert batch.waveforms.shape == (2, 6_000)
    assert batch.lengths.tolist() == [6_000, 4_000]
    assert torch.equal(batch.waveforms[1, :4_000], dataset[0].waveform)
    assert not batch.waveforms[1, 4_000:].any()
    assert batch.targets.tolist() == [[0, 0, 1], [1, 0, 0]]


@given(
    num_clips=st.integers(1, 200),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
def test_an_epoch_takes_every_clip_once(num_clips, batch_size, seed, epoch):
    batches = epoch_batches(num_clips, batch_size, seed, epoch)
    assert Counter(index for batch in batches for index in batch) == Counter(range(num_clips))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert epoch_batches(num_clips, batch_size, seed, epoch) == batches


def test_epochs_and_seeds_differ_in_order():
    orders = {str(epoch_batches(100, 10, *key)) for key in ((0, 0), (0, 1), (1, 0))}
    assert len(orders) == 3
