"""Lengths, mean and standard deviation of clips."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from ast_model import Frontend
from data import Clip, Clips, load_audio
from data.cache import ClipCache
from train.preparation.measure import (
    clip_frames,
    evenly,
    measure_statistics,
    sampled_statistics,
    seconds_of,
)


@pytest.fixture
def clips(tmp_path):
    """Noise of 1, 0.5 and 0.1 s, louder and louder."""
    generator = np.random.default_rng(0)
    made = []
    for number, seconds in enumerate((1.0, 0.5, 0.1)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, generator.normal(0, 0.01 * 3**number, int(16_000 * seconds)), 16_000)
        made.append(Clip(path, (0,)))
    return Clips.of(made)


def test_frames_are_those_of_the_filterbank(clips, tmp_path):
    frames = clip_frames(clips)
    assert frames.tolist() == [98, 48, 8]
    assert [seconds_of(count) for count in frames] == pytest.approx([0.995, 0.495, 0.095])
    (tmp_path / "broken.wav").write_bytes(b"none")
    broken = Clips.of([*clips, Clip(tmp_path / "broken.wav", (0,))])
    assert clip_frames(broken).tolist() == frames.tolist()


def test_few_clips_are_taken_evenly(clips):
    many = Clips.of([clip for clip in clips for _ in range(100)])
    assert [clip.path.stem for clip in evenly(many, 3)] == ["0", "1", "2"]
    assert evenly(many, 300) is many


def test_mean_and_std_do_not_depend_on_the_padding(clips, recipe):
    measured = [
        measure_statistics(replace(recipe, num_frames=frames), clips) for frames in (98, 400)
    ]
    assert measured[0][:2] == pytest.approx(measured[1][:2], abs=1e-9)
    assert measured[0].padding == pytest.approx(1 - (98 + 48 + 8) / (3 * 98))
    assert measured[1].padding == pytest.approx(1 - (98 + 48 + 8) / (3 * 400))


def test_they_are_those_of_the_recipes_rate_and_band_whatever_was_kept(clips, recipe, tmp_path):
    cache = ClipCache(tmp_path / "cache")
    recipes = [
        replace(recipe, sample_rate=rate, high_freq=high)
        for rate, high in ((16_000, 0.0), (16_000, 4e3), (8_000, 0.0))
    ]
    kept = [sampled_statistics(each, clips, cache) for each in recipes]
    assert [sampled_statistics(each, clips, cache) for each in recipes] == kept
    assert [measure_statistics(each, clips) for each in recipes] == kept
    assert len({round(each.mean, 2) for each in kept}) == 3


def test_with_padding_they_are_those_of_the_whole_input(clips, recipe):
    recipe = replace(recipe, num_frames=64)
    frontend = Frontend(recipe.frontend_config())
    fbank = torch.cat([frontend.filterbank(load_audio(clip.path)[None]) for clip in clips])
    mean, std = measure_statistics(recipe, clips).with_padding()
    assert mean == pytest.approx(fbank.mean().item(), abs=1e-4)
    assert std == pytest.approx(fbank.std(correction=0).item(), abs=1e-4)
