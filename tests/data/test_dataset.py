"""Clips to batches: targets, mixup, and randomness that follows from (seed, epoch, index)."""

from functools import partial
from itertools import islice
from threading import Barrier

import pytest
import soundfile
import torch

from data.audio import load_audio
from data.augment import Uniforms
from data.cache import ClipCache
from data.dataset import ClipDataset, collate, load_batches
from data.manifest import Clip
from data.placement import Placement
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
        return item.waveform.sum().item(), *item.uniforms.tolist(), item.noise_seed

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 2)}) == 4


def test_every_use_has_uniforms_of_its_own_in_range(clips):
    batch = collate([ClipDataset(clips, 3, epoch=epoch)[0] for epoch in range(50)])
    for uniforms in batch.uniforms:
        assert uniforms.shape == (50,) and uniforms.dtype == torch.float32
        assert 0 <= uniforms.min() < 0.1 < 0.9 < uniforms.max() < 1
    assert torch.stack(batch.uniforms).unique().numel() > 595  # of 600: float32 has 2**24 of them
    assert 0 <= batch.noise_seeds.min() < 2**30 < batch.noise_seeds.max() < 2**32


def test_an_index_beyond_the_clips_is_another_draw_of_a_clip(clips):
    dataset = ClipDataset(clips, 3)
    first, again = dataset[2], dataset[2 + 7 * len(clips)]
    assert torch.equal(first.waveform, again.waveform)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.uniforms, again.uniforms)
    assert len(list(islice(dataset, 99))) == len(clips)  # iterating ends all the same


def test_a_seed_goes_on_giving_the_numbers_of_earlier_runs(clips):
    item = ClipDataset(clips, 3, mixup_rate=1.0, seed=1, epoch=2)[2]
    expected = Uniforms(
        frequency_width=0.432433,
        frequency_start=0.347031,
        time_width=0.694912,
        time_start=0.130138,
        noise_level=0.473859,
        time_shift=0.295953,
        cutmix_happens=0.076325,
        cutmix_partner=0.238917,
        cutmix_length=0.416384,
        cutmix_start=0.823417,
        frequency_warp=0.876377,
        time_warp=0.826332,
    )
    assert item.target.tolist() == pytest.approx([0.474412, 0.0, 1.0], abs=1e-6)
    uniforms = collate([item]).uniforms._asdict()
    assert {name: value.item() for name, value in uniforms.items()} == pytest.approx(
        expected._asdict(), abs=1e-6
    )
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
    assert torch.equal(augmented.uniforms, plain.uniforms)
    assert augmented.noise_seed == plain.noise_seed

    mixed = ClipDataset(clips, 3, mixup_rate=1.0, seed=5)[1]
    both = ClipDataset(clips, 3, mixup_rate=1.0, seed=5, augmentation=louder)[1]
    assert torch.equal(mixed.target, both.target)
    assert not torch.allclose(mixed.waveform, both.waveform)
    assert both.waveform.mean().abs() < 1e-6


def test_of_a_recording_far_longer_than_the_input_two_inputs_are_augmented(clips):
    pytest.importorskip("audiomentations")
    louder = WaveformAugmentation(gain_prob=1.0)
    lengths = []
    for samples, placement in ((1_000, Placement(1_000, 0.0, 0.0)), (5_000, None)):
        dataset = ClipDataset(clips, 3, augmentation=louder, placement=placement)
        dataset.augmenter = lambda waveform, seed: lengths.append(len(waveform)) or waveform
        assert len(dataset[1].waveform) == samples
    assert lengths == [2_000, 5_000]


def test_workers_and_a_resume_give_the_same_augmented_waveforms(clips, tmp_path):
    pytest.importorskip("audiomentations")
    cache = ClipCache(tmp_path)
    order = [[3, 0], [1, 2], [2, 2], [0, 3]]

    def batches(start, workers):
        dataset = ClipDataset(clips, 3, cache=cache, mixup_rate=0.5, seed=1, augmentation=ALL)
        loaded = load_batches(dataset, batch_sampler=order[start:], workers=workers)
        return [batch.waveforms for batch in loaded]

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
    first, second = load_batches(dataset, batch_sampler=[[2, 0, 3], [1, 4]], workers=workers)
    assert first.skipped == [str(broken[0].path)]
    assert second.skipped == []
    kept = collate([dataset[2], dataset[3]])
    assert torch.equal(first.waveforms, kept.waveforms)
    assert torch.equal(first.targets, kept.targets)
    assert torch.equal(torch.stack(first.uniforms), torch.stack(kept.uniforms))


def test_a_batch_may_lose_all_its_clips(broken):
    dataset = ClipDataset(broken, 3, skip_unreadable=True)
    batch = collate([dataset[0], dataset[5], dataset[0]])
    tensors = (batch.waveforms, batch.lengths, batch.targets, *batch.uniforms, batch.noise_seeds)
    assert [len(tensor) for tensor in tensors] == [0] * 16
    assert batch.skipped == [str(broken[0].path), str(broken[5].path)]  # each once
    assert collate([]).skipped == []  # a rank's shard of a last batch with few clips


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


def test_batches_in_order_hold_every_clip_once(clips):
    batches = list(load_batches(ClipDataset(clips, 3), batch_size=3))
    assert [batch.lengths.tolist() for batch in batches] == [[4_000, 5_000, 6_000], [7_000]]


def test_several_threads_give_the_batches_of_one(clips):
    kept = torch.get_num_threads()
    dataset = ClipDataset(clips * 25, 3, mixup_rate=0.5, placement=Placement(6_000, 0.2, 0.0))
    one = list(load_batches(dataset, batch_size=10))
    several = list(load_batches(dataset, batch_size=10, threads=4))
    for expected, batch in zip(one, several, strict=True):
        assert torch.equal(batch.waveforms, expected.waveforms)
        assert torch.equal(batch.targets, expected.targets)
        assert torch.equal(torch.stack(batch.uniforms), torch.stack(expected.uniforms))
    assert torch.get_num_threads() == kept


def test_clips_are_decoded_side_by_side_where_several_threads_are_asked_for(clips):
    dataset, together = ClipDataset(clips[:2], 3), Barrier(2, timeout=30)

    def load(path, sample_rate):
        together.wait()  # passes when both clips are being decoded
        return load_audio(path, sample_rate)

    dataset.load = load
    (batch,) = load_batches(dataset, batch_size=2, threads=2)
    assert batch.lengths.tolist() == [4_000, 5_000]


def test_clips_are_not_augmented_in_several_threads(clips):
    pytest.importorskip("audiomentations")
    dataset = ClipDataset(clips, 3, augmentation=WaveformAugmentation(gain_prob=1.0))
    with pytest.raises(ValueError, match="augmented in one thread, not in 2"):
        list(load_batches(dataset, batch_size=2, threads=2))


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 1), (0, 2)])
@pytest.mark.parametrize(("clip", "kind"), [(0, ValueError), (5, FileNotFoundError)])
def test_the_error_of_a_file_is_the_same_from_a_worker(broken, clip, kind, workers, threads):
    dataset = ClipDataset(broken, 3)
    with pytest.raises(kind) as here:
        dataset[clip]
    with pytest.raises(kind) as loaded:
        list(
            load_batches(
                dataset, batch_sampler=[[1, 2], [3, clip]], workers=workers, threads=threads
            )
        )
    assert type(loaded.value) is kind
    assert str(loaded.value) == str(here.value)


class Faulty(ClipDataset):
    """Raises what `error` makes."""

    def __init__(self, error):
        super().__init__([], 3)
        self.error = error

    def __getitem__(self, index):
        raise self.error()


def test_a_fault_in_a_worker_says_where_it_happened():
    with pytest.raises(KeyError, match=r"^'column'$") as caught:
        list(load_batches(Faulty(partial(KeyError, "column")), batch_sampler=[[0]], workers=1))
    assert "in __getitem__" in str(caught.value.__cause__)


class Unsendable(Exception):
    """Cannot be unpickled: its constructor takes more than it keeps."""

    def __init__(self, reason="no reason", *, code):
        super().__init__(reason)


def test_an_error_that_cannot_be_sent_arrives_by_name():
    error = partial(Unsendable, code=3)
    with pytest.raises(RuntimeError, match="Unsendable: no reason"):
        list(load_batches(Faulty(error), batch_sampler=[[0]], workers=1))


def test_a_negative_number_of_workers_is_refused(clips):
    with pytest.raises(ValueError, match="workers -1 is negative"):
        list(load_batches(ClipDataset(clips, 3), batch_size=3, workers=-1))


def test_placed_clips_fill_the_input_and_keep_the_draws_of_others(clips):
    placement = Placement(9_000, background_rate=0.0, background_target=0.0)
    plain = ClipDataset(clips, 3, mixup_rate=0.5, seed=1)
    placed = ClipDataset(clips, 3, mixup_rate=0.5, seed=1, placement=placement)
    for index in range(8):
        assert placed[index].waveform.shape == (9_000,)
        assert torch.equal(placed[index].target, plain[index].target)
        assert torch.equal(placed[index].uniforms, plain[index].uniforms)
    assert torch.equal(placed[5].waveform, placed[5].waveform)


def test_a_share_of_examples_is_background_whose_target_is_no_class(clips):
    placement = Placement(9_000, background_rate=0.25, background_target=0.125)
    dataset = ClipDataset(clips[:1] * 400, 3, mixup_rate=0.5, placement=placement)
    empty = [item for item in dataset if item.target.tolist() == [0.125] * 3]
    assert 70 < len(empty) < 130
    assert max(item.waveform.square().mean().item() for item in empty) < 0.01 / 4
