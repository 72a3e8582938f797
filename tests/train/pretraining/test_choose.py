"""What the data decide of pretraining: published where there is much, sensible where little."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from train.preparation.choose import apply_all
from train.pretraining import choose
from train.pretraining.choose import AFTER_MEASURING, BEFORE_MEASURING
from train.recipes.pretraining import MAE, SSAST


def chosen(recipe, seconds, num_clips):
    frames = np.full(100, round(100 * seconds) - 2)
    return apply_all(recipe, (*BEFORE_MEASURING, *AFTER_MEASURING), frames, num_clips)


def test_audioset_gives_the_published_setting():
    recipe = chosen(SSAST, 10, 2_000_000)
    assert (recipe.num_frames, recipe.batch_size, recipe.learning_rate) == (1008, 120, 5e-4)
    assert (recipe.epochs, recipe.schedule, recipe.warmup_steps) == (10, "plateau", 1000)
    base = chosen(replace(SSAST, preset="base224"), 10, 2_000_000)
    assert (base.batch_size, base.learning_rate) == (24, 1e-4)


@pytest.mark.parametrize("recipe", [SSAST, MAE])
def test_thousands_of_words_give_a_short_run(recipe):
    found = chosen(recipe, 1, 7_200)
    assert found.num_frames == 112 and found.schedule == "cosine" and found.epochs == 100
    steps = 7_200 / found.batch_size
    assert steps >= 30 and found.warmup_epochs == 10 and not found.warmup_steps


def test_what_is_given_stays():
    given = SSAST.given(warmup_steps=50, schedule="plateau", batch_size=7)
    found = chosen(given, 1, 700)
    assert (found.warmup_steps, found.warmup_epochs) == (50, 0)
    assert (found.schedule, found.batch_size, found.epochs) == ("plateau", 7, 60)


@pytest.mark.parametrize("given", [{"warmup_steps": 0}, {"warmup_epochs": 0.0}])
@pytest.mark.parametrize("clips", [700, 2_000_000])
def test_no_warm_up_is_given_too(given, clips):
    found = chosen(SSAST.given(**given), 1, clips)
    assert (found.warmup_steps, found.warmup_epochs) == (0, 0)


def test_sound_that_is_never_heard_is_told(caplog):
    recipe = replace(SSAST, num_frames=1024)
    with caplog.at_level(logging.WARNING):
        choose._warn_of_cut(recipe, np.full(9, 1024))
        assert not caplog.messages
        choose._warn_of_cut(recipe, np.full(9, 4096))
    assert caplog.messages == [
        "75% of the sound lies beyond the input of 1024 frames and is never heard: cut the "
        "recordings into clips of that length"
    ]
