"""Augmentation: the formulas, their limits, and independence of a clip from its batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model.frontend import KaldiFbank
from data import augment

# The largest and smallest numbers that a float32 uniform can be, and what lies between.
UNIFORM = st.one_of(st.sampled_from([0.0, 1 - 2**-24]), st.floats(0, 1, exclude_max=True, width=32))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def uniforms(batch: int, seed: int = 0, **given) -> augment.Uniforms:
    """Random ones, but for those given."""
    drawn = augment.Uniforms(*random(len(augment.Uniforms._fields), batch, seed=seed))
    return drawn._replace(**{name: torch.tensor(values) for name, values in given.items()})


def chosen(given: augment.Uniforms, clips) -> augment.Uniforms:
    return augment.Uniforms(*(values[clips] for values in given))


def test_clip_generator_repeats_and_separates_seed_epoch_and_index():
    first = augment.clip_generator(1, 2, 3).random(4)
    assert np.array_equal(first, augment.clip_generator(1, 2, 3).random(4))
    for other in [(2, 1, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1)]:
        assert not np.array_equal(first, augment.clip_generator(*other).random(4))


def test_clip_generator_rejects_a_negative_seed():
    with pytest.raises(ValueError, match="seed -1"):
        augment.clip_generator(-1, 0, 0)


def test_mixup_weight_follows_beta_10_10():
    generator = augment.clip_generator(0, 0, 0)
    weights = np.array([augment.mixup_weight(generator) for _ in range(4000)])
    assert all(0 < weight < 1 for weight in weights)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))
    assert weights.mean() == pytest.approx(0.5, abs=0.01)
    assert weights.std() == pytest.approx((1 / 84) ** 0.5, abs=0.005)


@pytest.mark.parametrize("partner_length", [1, 60, 100, 170])
def test_mixup_is_the_weighted_sum_of_centred_waveforms(partner_length):
    first, second = random(100).double() + 3, random(partner_length, seed=1).double() - 5
    mixed = augment.mixup(first, second, 0.3)

    a, b = first.numpy() - first.numpy().mean(), second.numpy() - second.numpy().mean()
    expected = 0.3 * a
    shared = min(100, partner_length)
    expected[:shared] += 0.7 * b[:shared]
    np.testing.assert_allclose(mixed.numpy(), expected - expected.mean(), atol=1e-12)


def test_mixup_leaves_its_inputs_alone():
    first, second = random(50), random(80, seed=1)
    before = first.clone(), second.clone()
    augment.mixup(first, second, 0.5)
    assert torch.equal(first, before[0]) and torch.equal(second, before[1])


@pytest.mark.parametrize(
    ("first", "second", "weight"),
    [
        (torch.ones(0), torch.ones(5), 0.5),
        (torch.ones(5), torch.ones(0), 0.5),
        (torch.ones(2, 5), torch.ones(5), 0.5),
        (torch.ones(5), torch.ones(5), 1.5),
        (torch.ones(5), torch.ones(5), float("nan")),
    ],
)
def test_mixup_rejects_empty_or_stereo_waveforms_and_weights_out_of_range(first, second, weight):
    with pytest.raises(ValueError, match="mixup got"):
        augment.mixup(first, second, weight)


@pytest.mark.parametrize(("frequency_mask", "time_mask"), [(24, 96), (128, 200), (0, 96), (48, 0)])
def test_spec_augment_equals_torchaudio_fed_the_same_uniforms(
    monkeypatch, frequency_mask, time_mask
):
    torchaudio = pytest.importorskip("torchaudio")
    fbank, drawn = random(32, 200, 128) + 1, uniforms(32, seed=1)
    ours = augment.spec_augment(fbank, drawn, frequency_mask, time_mask)

    def masked(specgrams, draws, width, axis):
        draws = iter(draws)
        monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: next(draws))
        return torchaudio.functional.mask_along_axis_iid(specgrams, width, 0.0, axis)

    band, stretch = (
        (drawn.frequency_width, drawn.frequency_start),
        (drawn.time_width, drawn.time_start),
    )
    theirs = masked(fbank.transpose(1, 2), band, frequency_mask, 1)
    theirs = masked(theirs, stretch, time_mask, 2)
    assert torch.equal(ours, theirs.transpose(1, 2))
    assert not torch.equal(ours, fbank)


@given(
    drawn=st.lists(UNIFORM, min_size=12, max_size=12),
    widths=st.tuples(st.integers(0, 16), st.integers(0, 30)),
)
def test_spec_augment_masks_one_stretch_per_axis_narrower_than_its_width(drawn, widths):
    drawn = augment.Uniforms(*torch.tensor(drawn)[:, None])
    masked = augment.spec_augment(torch.ones(1, 30, 16), drawn, *widths)[0] == 0
    for axis, width in enumerate(widths):
        positions = masked.all(dim=axis).nonzero().flatten()
        assert len(positions) <= max(width - 1, 0)
        if len(positions):
            assert positions[-1] - positions[0] + 1 == len(positions)


def test_spec_augment_masks_reach_both_ends_and_stay_below_the_width():
    last = 1 - 2**-24
    drawn = uniforms(
        2,
        frequency_width=[0.99, 0.99],
        frequency_start=[0.0, last],
        time_width=[0.99, 0.99],
        time_start=[last, 0.0],
    )
    masked = augment.spec_augment(torch.ones(2, 30, 16), drawn, 4, 8) == 0
    bins, frames = masked.all(dim=1), masked.all(dim=2)
    assert bins[0].nonzero().flatten().tolist() == [0, 1, 2]
    assert frames[1].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    # The start is truncated after a draw below size - 3.96, so the last mask ends one before it.
    assert bins[1].nonzero().flatten().tolist() == [12, 13, 14]
    assert frames[0].nonzero().flatten().tolist() == [22, 23, 24, 25, 26, 27, 28]


@pytest.mark.parametrize(("widths", "named"), [((17, 0), "frequency"), ((0, 31), "time")])
def test_spec_augment_rejects_a_width_beyond_its_axis(widths, named):
    with pytest.raises(ValueError, match=f"{named}_mask"):
        augment.spec_augment(torch.ones(1, 30, 16), uniforms(1), *widths)


@settings(max_examples=30)
@given(level=UNIFORM, seed=st.integers(0, 2**32 - 1))
def test_noise_lies_in_its_bounds(level, seed):
    drawn = uniforms(1, noise_level=[level])
    noise = augment.add_noise(torch.zeros(1, 20, 8), drawn, torch.tensor([seed]))
    assert noise.min() >= 0
    assert noise.max() <= level / 10 * (1 + 1e-6)


def test_noise_is_uniform_up_to_a_tenth_of_the_level():
    drawn = uniforms(1, noise_level=[0.5])
    noise = augment.add_noise(torch.zeros(1, 500, 128), drawn, torch.tensor([7]))
    assert noise.mean() == pytest.approx(0.025, rel=0.01)
    assert noise.std() == pytest.approx(0.05 / 12**0.5, rel=0.01)


def test_noise_differs_between_seeds_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    noise = augment.add_noise(torch.zeros(2, 20, 8), uniforms(2), torch.tensor([1, 2]))
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(state, torch.get_rng_state())


@given(drawn=st.lists(UNIFORM, min_size=1, max_size=6), frames=st.integers(0, 12))
def test_time_shift_equals_torch_roll_of_each_clip(drawn, frames):
    fbank = random(len(drawn), 9, 3)
    shifted = augment.time_shift(fbank, uniforms(len(drawn), time_shift=drawn), frames)
    for clip, uniform, ours in zip(fbank, drawn, shifted, strict=True):
        shift = int(np.floor(np.float32(uniform) * np.float32(2 * frames))) - frames
        assert -frames <= shift < max(frames, 1)
        assert torch.equal(ours, torch.roll(clip, shift, dims=0))


def test_time_shift_draws_every_shift_from_minus_ten_to_nine_alike():
    fbank = torch.arange(40.0).repeat(2000, 1)[:, :, None]
    drawn = uniforms(2000)._replace(time_shift=(torch.arange(2000) + 0.5) / 2000)
    first = augment.time_shift(fbank, drawn)[:, 0, 0]
    shifts = (-first.long() + 20) % 40 - 20
    values, counts = shifts.unique(return_counts=True)
    assert values.tolist() == list(range(-10, 10))
    assert set(counts.tolist()) == {100}


def test_cutmix_replaces_one_span_and_mixes_targets_by_its_share():
    fbank = torch.arange(4.0)[:, None, None].expand(4, 50, 8) + torch.arange(50.0)[:, None] / 100
    targets = torch.eye(4)
    mixed, soft = augment.cutmix(fbank, targets, uniforms(4, seed=2), rate=1.0)
    for clip in range(4):
        source = (mixed[clip] - torch.arange(50.0)[:, None] / 100).round()  # (T, M) of clips
        assert (source == source[:, :1]).all()  # all mel bins of a frame
        replaced = (source[:, 0] != clip).nonzero().flatten()
        partner = int(source[replaced[0], 0])
        assert (source[replaced, 0] == partner).all()
        assert replaced[-1] - replaced[0] + 1 == len(replaced)
        assert torch.equal(mixed[clip, replaced], fbank[partner, replaced])  # the same frames
        expected = torch.zeros(4)
        expected[clip], expected[partner] = 1 - len(replaced) / 50, len(replaced) / 50
        torch.testing.assert_close(soft[clip], expected)


@given(
    drawn=st.lists(st.lists(UNIFORM, min_size=12, max_size=12), min_size=2, max_size=5),
    frames=st.integers(1, 40),
)
def test_cutmix_takes_another_clip_and_less_than_all_frames(drawn, frames):
    batch, drawn = len(drawn), augment.Uniforms(*torch.tensor(drawn).T)
    fbank = torch.arange(float(batch))[:, None, None].expand(batch, frames, 2)
    mixed, soft = augment.cutmix(fbank, torch.eye(batch), drawn, rate=1.0)
    for clip, length in enumerate(drawn.cutmix_length.numpy()):
        extent = int(length * np.float32(frames))
        assert extent < frames
        assert (mixed[clip, :, 0] != clip).sum() == extent
        assert soft[clip, clip].item() == pytest.approx(1 - extent / frames, abs=1e-6)
        assert soft[clip].sum().item() == pytest.approx(1, abs=1e-6)


def test_cutmix_happens_to_a_share_of_the_clips_and_leaves_the_others_as_they_are():
    fbank, targets = random(400, 20, 2), random(400, 3)
    drawn = uniforms(400, seed=1, cutmix_length=[0.5] * 400)
    mixed, soft = augment.cutmix(fbank, targets, drawn, rate=0.25)
    changed = (mixed != fbank).any(dim=(1, 2))
    assert 70 < changed.sum() < 130
    assert torch.equal(changed, (soft != targets).any(dim=1))
    for rate, batch in [(0.0, slice(None)), (1.0, slice(7, 8))]:  # a clip alone has no partner
        same = augment.cutmix(fbank[batch], targets[batch], chosen(drawn, batch), rate)
        assert torch.equal(same[0], fbank[batch]) and torch.equal(same[1], targets[batch])


def test_cutmix_takes_every_other_clip_and_every_share_alike():
    fbank = torch.arange(5.0)[:, None, None].expand(5, 100, 1)
    partners, shares = [], []
    for seed in range(300):
        soft = augment.cutmix(fbank, torch.eye(5), uniforms(5, seed=seed), rate=1.0)[1]
        shares += (1 - soft.diagonal()).tolist()
        partners += soft.fill_diagonal_(0).argmax(dim=1)[:1].tolist()
    assert np.mean(shares) == pytest.approx(0.495, abs=0.025)
    assert np.std(shares) == pytest.approx(12**-0.5, abs=0.02)
    counts = np.bincount(partners, minlength=5)[1:]
    assert counts.min() > 50 and counts.sum() > 290


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_cutmix_rejects_a_rate_that_is_no_probability(rate):
    with pytest.raises(ValueError, match="cutmix got rate"):
        augment.cutmix(torch.ones(2, 30, 16), torch.eye(2), uniforms(2), rate)


@pytest.mark.parametrize("order", [[0], [3, 1], [4, 3, 2, 1, 0]])
def test_a_clip_is_augmented_alike_in_any_batch(order):
    fbank, drawn, seeds = random(5, 40, 16), uniforms(5, seed=1), torch.arange(5) * 1000

    def augmented(clips):
        own = chosen(drawn, clips)
        warped = augment.warp_frequency(fbank[clips], own, 0.2, (20.0, 8000.0))
        masked = augment.spec_augment(augment.warp_time(warped, own, 0.2), own, 8, 20)
        return augment.time_shift(augment.add_noise(masked, own, seeds[clips]), own)

    assert torch.equal(augmented(order), augmented(list(range(5)))[order])


def test_noise_does_not_depend_on_the_memory_layout():
    fbank, drawn, seeds = random(2, 16, 40).transpose(1, 2), uniforms(2), torch.arange(2)
    plain = augment.add_noise(fbank.contiguous(), drawn, seeds)
    assert torch.equal(augment.add_noise(fbank, drawn, seeds), plain)


@pytest.mark.parametrize(
    "call",
    [
        lambda fbank: augment.spec_augment(fbank, uniforms(4), 2, 2),
        lambda fbank: augment.add_noise(fbank, uniforms(1), torch.zeros(2, dtype=torch.int64)),
        lambda fbank: augment.add_noise(fbank, uniforms(2), torch.zeros(1, dtype=torch.int64)),
        lambda fbank: augment.time_shift(fbank, uniforms(2, time_shift=[[0.0], [0.0]])),
        lambda fbank: augment.cutmix(fbank, torch.eye(2), uniforms(1), 1.0),
        lambda fbank: augment.warp_frequency(fbank, uniforms(3), 0.1, (20.0, 8000.0)),
        lambda fbank: augment.warp_time(fbank, uniforms(1), 0.1),
    ],
)
def test_random_numbers_for_another_batch_are_rejected(call):
    with pytest.raises(ValueError, match="one number for each clip"):
        call(torch.ones(2, 30, 16))


def tone(frequency: float) -> torch.Tensor:
    return torch.sin(torch.arange(8000) * (2 * torch.pi * frequency / 16_000))


@settings(max_examples=20)
@given(uniform=UNIFORM, frequency=st.floats(1500, 4000))
def test_a_warp_of_frequencies_makes_of_a_tone_one_higher_or_lower_by_its_factor(
    uniform, frequency
):
    fbank = KaldiFbank()
    factor = 1 + 0.2 * (2 * uniform - 1)
    plain, expected = fbank(torch.stack([tone(frequency), tone(factor * frequency)]))[0][:, :20]
    drawn = uniforms(1, frequency_warp=[uniform])
    warped = augment.warp_frequency(plain[None], drawn, 0.2, fbank.band)[0]
    assert (warped.argmax(dim=1) - expected.argmax(dim=1)).abs().max() <= 1


@pytest.mark.parametrize(("uniform", "moved"), [(0.0, 56), (0.25, 58), (0.5, 60), (0.75, 62)])
def test_a_warp_of_time_moves_frames_away_from_the_middle_or_towards_it(uniform, moved):
    fbank = torch.zeros(1, 81, 3)  # the middle is frame 40
    fbank[:, 60] = 1.0
    warped = augment.warp_time(fbank, uniforms(1, time_warp=[uniform]), 0.2)
    assert warped[0, :, 1].argmax() == moved


def test_warps_of_nothing_change_nothing_and_outermost_values_are_repeated():
    fbank, none = random(2, 30, 16), uniforms(2, frequency_warp=[0.5] * 2, time_warp=[0.5] * 2)
    still = augment.warp_frequency(fbank, none, 0.3, (20.0, 8000.0))
    torch.testing.assert_close(still, fbank, rtol=0, atol=1e-4)
    assert torch.equal(augment.warp_time(fbank, none, 0.3), fbank)
    shorter = augment.warp_time(fbank, uniforms(2, time_warp=[0.0] * 2), 0.3)
    assert torch.equal(shorter[:, 0], fbank[:, 0]) and torch.equal(shorter[:, -1], fbank[:, -1])


@pytest.mark.parametrize("most", [-0.1, 1.0])
def test_warps_reject_what_is_no_share(most):
    with pytest.raises(ValueError, match="frequency_warp"):
        augment.warp_frequency(torch.ones(2, 30, 16), uniforms(2), most, (20.0, 8000.0))
    with pytest.raises(ValueError, match="time_warp"):
        augment.warp_time(torch.ones(2, 30, 16), uniforms(2), most)


@pytest.mark.gpu
def test_on_a_gpu_masks_shift_and_cutmix_equal_the_cpu_and_nothing_synchronises():
    fbank, drawn, seeds = random(8, 200, 128), uniforms(8, seed=1), torch.arange(8)
    fbank_there, drawn_there = fbank.cuda(), augment.Uniforms(*torch.stack(drawn).cuda())
    targets = torch.eye(8).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        masked = augment.spec_augment(fbank_there, drawn_there, 24, 96)
        noisy = augment.add_noise(masked, drawn_there, seeds)
        shifted = augment.time_shift(masked, drawn_there)
        mixed, soft = augment.cutmix(fbank_there, targets, drawn_there, 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = augment.spec_augment(fbank, drawn, 24, 96)
    assert torch.equal(masked.cpu(), expected)
    assert torch.equal(shifted.cpu(), augment.time_shift(expected, drawn))
    here = augment.cutmix(fbank, torch.eye(8), drawn, 0.5)
    assert torch.equal(mixed.cpu(), here[0])
    torch.testing.assert_close(soft.cpu(), here[1])
    alone = augment.add_noise(masked[5:6], chosen(drawn_there, slice(5, 6)), seeds[5:6])
    assert torch.equal(alone[0], noisy[5])
