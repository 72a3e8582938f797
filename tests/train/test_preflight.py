"""Where a recipe does not fit the data, in a line each, before anything is trained."""

import re
from dataclasses import replace

import numpy as np
import pytest

from data.splits import split_clips
from train.preflight import input_fit, misfits, preflight
from train.recipes.finetune import FROM_SCRATCH

RECIPE = replace(
    FROM_SCRATCH, num_frames=100, time_mask=20, epochs=10, batch_size=10, from_data=frozenset()
)
FRAMES = np.full(100, 80)


def test_a_recipe_that_fits_is_not_warned_about():
    assert misfits(RECIPE, FRAMES) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_decay": 0.75}, "layer_decay 0.75 keeps lower blocks near where they start"),
        ({"time_mask": 81}, "a time mask of up to 81 frames .*use --time-mask 16"),
        ({"num_frames": 164}, "51% of the input is padding: use --num-frames 80"),
        ({"epochs": 9}, "90 optimiser steps are few"),
        ({"from_data": frozenset({"epochs"})}, "from_scratch is trained as it stands"),
    ],
)
def test_what_does_not_fit_is_named_with_the_option_that_does(changes, message):
    (found,) = misfits(replace(RECIPE, **changes), FRAMES)
    assert re.search(message, found), found


def test_layer_decay_suits_pretrained_weights():
    assert misfits(replace(RECIPE, layer_decay=0.75, init_from="imagenet"), FRAMES) == []


def test_the_input_is_compared_with_the_lengths_of_the_clips():
    at_start = replace(RECIPE, placement="start", background_rate=0.0)
    assert "20% of it is padding" in input_fit(at_start, FRAMES)
    assert input_fit(RECIPE, FRAMES) == (
        "input of 100 frames (1.01 s): 100% of the training clips fit in, 20% of it is background; "
        "by the lengths of the clips, --num-frames 80"
    )
    assert input_fit(replace(RECIPE, num_frames=80), FRAMES).endswith("0% of it is background")


def test_padding_is_what_clips_at_the_start_leave_empty(recipe, manifest):
    splits = split_clips(manifest, 1, seed=0)
    frames = 198  # of 2 s
    at_start = replace(recipe, num_frames=300)
    assert preflight(at_start, manifest, splits)[1] == pytest.approx(1 - frames / 300)
    assert preflight(replace(at_start, placement="random"), manifest, splits)[1] == 0


def test_warnings_come_before_training_and_mean_and_std_are_measured(recipe, manifest, caplog):
    caplog.set_level("INFO")
    splits = split_clips(manifest, 1, seed=0)
    preflight(replace(recipe, layer_decay=0.5), manifest, splits)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split()[0] for line in warnings] == ["layer_decay", "4"]  # 4 optimiser steps
    assert "loudness of 32 training clips" in caplog.text
    assert "padding included" in caplog.text
