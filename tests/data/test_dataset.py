"""Clips to batches: targets, mixup, and randomness that follows from (seed, epoch, index)."""

from itertools import islice

import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from data.cache import ClipCache
from data.dataset import NUM_CHANCES, ClipDataset, collate
from data.manifest import Clip
from data.waveform_augment import WaveformAugmentation


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


def test_an_index_beyond_the_clips_is_another_draw_of_a_clip(clips):
    dataset = ClipDataset(clips, 3)
    first, again = dataset[2], dataset[2 + 7 * len(clips)]
    assert torch.equal(first.waveform, again.waveform)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.chances, again.chances)
    assert len(list(islice(dataset, 99))) == len(clips)  # iterating ends all the same


def test_a_seed_goes_on_giving_the_numbers_of_earlier_runs(clips):
    item = ClipDataset(clips, 3, mixup_rate=1.0, seed=1, epoch=2)[2]
    chances = [0.432433, 0.347031, 0.694912, 0.130138, 0.473859, 0.295953]
    assert item.target.tolist() == pytest.approx([0.474412, 0.0, 1.0], abs=1e-6)
    assert item.chances[:6].tolist() == pytest.approx(chances, abs=1e-6)
    assert item.noise_seed == 1274605225


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


ALL = WaveformAugmentation(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def test_waveforms_are_augmented_before_mixup(clips):
    pytest.importorskip("audiomentations")
    louder = WaveformAugmentation(gain_prob=1.0)
    plain, augmented = ClipDataset(clips, 3)[0], ClipDataset(clips, 3, augmentation=louder)[0]
    gain = augmented.waveform / plain.waveform
    assert gain.std() < 1e-4 and 0.5 < gain.mean() < 2  # 6 dB either way
    assert torch.equal(augmented.chances, plain.chances)
    assert augmented.noise_seed == plain.noise_seed

    mixed = ClipDataset(clips, 3, mixup_rate=1.0, seed=5)[1]
    both = ClipDataset(clips, 3, mixup_rate=1.0, seed=5, augmentation=louder)[1]
    assert torch.equal(mixed.target, both.target)
    assert not torch.allclose(mixed.waveform, both.waveform)
    assert both.waveform.mean().abs() < 1e-6


def test_workers_and_a_resume_give_the_same_augmented_waveforms(clips, tmp_path):
    pytest.importorskip("audiomentations")
    cache = ClipCache(tmp_path)
    order = [[3, 0], [1, 2], [2, 2], [0, 3]]

    def batches(start, workers):
        dataset = ClipDataset(clips, 3, cache=cache, mixup_rate=0.5, seed=1, augmentation=ALL)
        loader = DataLoader(
            dataset, batch_sampler=order[start:], collate_fn=collate, num_workers=workers
        )
        return [batch.waveforms for batch in loader]

    straight = batches(0, 0)
    for start, workers in [(0, 0), (0, 2), (2, 0), (1, 2)]:
        for ours, expected in zip(batches(start, workers), straight[start:], strict=True):
            assert torch.equal(ours, expected)


def test_a_cache_keeps_the_waveform_before_augmentation(clips, tmp_path):
    pytest.importorskip("audiomentations")
    cache = ClipCache(tmp_path)
    for _ in ("decoded", "read from the cache"):
        ClipDataset(clips, 3, cache=cache, augmentation=WaveformAugmentation(gain_prob=1.0))[0]
        assert torch.equal(cache.load(clips[0].path), ClipDataset(clips, 3)[0].waveform)


@pytest.fixture
def broken(clips, tmp_path):
    """The four clips with an unreadable one before and a missing one after them."""
    (tmp_path / "text.wav").write_text("no audio")
    return [Clip(tmp_path / "text.wav", (0,)), *clips, Clip(tmp_path / "gone.wav", (1,))]


def test_an_unreadable_clip_stops_the_epoch_with_its_name(broken):
    with pytest.raises(ValueError, match=r"text\.wav"):
        ClipDataset(broken, 3)[0]
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        ClipDataset(broken, 3)[5]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skipped_clip_leaves_its_batch_and_is_named(broken, workers):
    dataset = ClipDataset(broken, 3, skip_unreadable=True)
    loader = DataLoader(
        dataset, batch_sampler=[[2, 0, 3], [1, 4]], collate_fn=collate, num_workers=workers
    )
    first, second = loader
    assert first.skipped == [str(broken[0].path)]
    assert second.skipped == []
    kept = collate([dataset[2], dataset[3]])
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], kept[:-1], strict=True))


def test_a_batch_may_lose_all_its_clips(broken):
    dataset = ClipDataset(broken, 3, skip_unreadable=True)
    batch = collate([dataset[0], dataset[5], dataset[0]])
    assert [len(tensor) for tensor in batch[:-1]] == [0] * 5
    assert batch.skipped == [str(broken[0].path), str(broken[5].path)]  # each once
    assert collate([]).skipped == []  # the part of a last batch that is left to a rank


def test_a_clip_whose_mixup_partner_is_unreadable_stays_unmixed_and_the_partner_is_named(broken):
    plain = ClipDataset(broken, 3, skip_unreadable=True)
    seen = set()
    for epoch in range(40):
        dataset = ClipDataset(broken, 3, mixup_rate=1.0, epoch=epoch, skip_unreadable=True)
        item, same = dataset[1], plain[1]
        assert len(item.skipped) <= 1
        seen.add(item.skipped)
        unmixed = torch.equal(item.waveform, same.waveform)
        assert unmixed == bool(item.skipped)
        if unmixed:
            assert torch.equal(item.target, same.target)
            assert collate([item]).skipped == list(item.skipped)
        assert len(dataset[0].skipped) == 1  # itself alone: it needs no partner any more
    assert seen == {(), (str(broken[0].path),), (str(broken[5].path),)}


def test_only_unreadable_files_are_skipped(clips):
    beyond = [Clip(clips[0].path, (7,))]
    with pytest.raises(IndexError):
        ClipDataset(beyond, 3, skip_unreadable=True)[0]
