"""Training clips laid in the network's input: where, and what is around them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.placement import BELOW_CLIP, OVERHANG, SLIVER, Placement

SAMPLES = 1000
PLACEMENT = Placement(SAMPLES, background_rate=0.5, background_target=0.1)


def decibels(waveform):
    return 10 * waveform.square().mean().log10().item()


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_most_of_a_clip_lies_in_the_input_whatever_its_length(length, seed):
    placed = PLACEMENT.place(torch.ones(length), np.random.default_rng(seed))
    assert placed.shape == (SAMPLES,) and placed.dtype == torch.float32
    shown = int((placed > 0.5).sum())
    shorter = min(length, SAMPLES)
    assert shorter - int(OVERHANG * shorter) <= shown <= shorter


def test_a_short_clip_lies_anywhere_and_a_long_one_is_cut_anywhere():
    starts = [
        int((PLACEMENT.place(torch.ones(400), np.random.default_rng(seed)) > 0.5).nonzero()[0])
        for seed in range(300)
    ]
    assert min(starts) == 0 and max(starts) > 620
    ramp = torch.arange(1.0, 3001.0)
    firsts = [PLACEMENT.place(ramp, np.random.default_rng(seed))[500] for seed in range(300)]
    assert min(firsts) < 700 and max(firsts) > 2300


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_background_holds_no_more_than_a_sliver_of_the_clip(length, seed):
    empty = PLACEMENT.background(torch.ones(length), np.random.default_rng(seed))
    assert empty.shape == (SAMPLES,)
    assert int((empty > 0.5).sum()) <= SLIVER * min(length, SAMPLES)


def test_around_a_clip_is_noise_well_below_it_or_digital_silence():
    clip = 0.05 * torch.randn(400, generator=torch.Generator().manual_seed(0))
    backgrounds = [
        PLACEMENT.background(clip, np.random.default_rng(seed))[300:700] for seed in range(300)
    ]
    silent = [each for each in backgrounds if not each.any()]
    assert 60 < len(silent) < 120  # 30 %
    levels = [decibels(each) for each in backgrounds if each.any()]
    assert max(levels) < decibels(clip) - BELOW_CLIP + 6  # of a part of the input
    assert min(levels) < -80 and np.std(levels) > 5


def test_a_silent_clip_gives_finite_samples():
    for seed in range(20):
        assert PLACEMENT.place(torch.zeros(400), np.random.default_rng(seed)).isfinite().all()


@pytest.mark.parametrize("method", [PLACEMENT.place, PLACEMENT.background])
def test_the_generator_decides_and_the_clip_stays_as_it_is(method):
    clip = torch.randn(400, generator=torch.Generator().manual_seed(0))
    before = clip.clone()
    first, again, other = (method(clip, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(clip, before)


def test_of_a_long_recording_a_random_part_is_augmented():
    placement = Placement(100, 0.0, 0.0)
    ramp = torch.arange(1_000.0)
    starts = set()
    for seed in range(50):
        part = placement.excerpt(ramp, np.random.default_rng(seed))
        assert torch.equal(part, ramp[int(part[0]) :][:200])
        starts.add(int(part[0]))
    assert min(starts) < 100
    assert max(starts) > 700
    generator = np.random.default_rng(0)
    assert torch.equal(placement.excerpt(ramp[:200], generator), ramp[:200])
