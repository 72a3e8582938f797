"""Recipes: the authors' figures, honest errors, and a round trip through JSON."""

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from train.recipe import GROUPS, Recipe
from train.recipes import RECIPES
from train.recipes.esc50 import ESC50, ESC50_IMAGENET, ESC50_SCRATCH


def test_esc50_is_the_authors_recipe():
    assert (ESC50.learning_rate, ESC50.init_from) == (1e-5, "audioset")
    assert (ESC50_IMAGENET.learning_rate, ESC50_IMAGENET.init_from) == (1e-4, "imagenet")
    assert (ESC50.window, ESC50_IMAGENET.window) == ("hanning", "hamming")
    assert replace(ESC50_IMAGENET, name="esc50_scratch", init_from="scratch") == ESC50_SCRATCH
    assert (ESC50.batch_size, ESC50.epochs, ESC50.num_frames) == (48, 25, 512)
    assert (ESC50.betas, ESC50.weight_decay) == ((0.95, 0.999), 5e-7)
    assert (ESC50.frequency_mask, ESC50.time_mask, ESC50.mixup_rate) == (24, 96, 0)
    assert not ESC50.noise
    assert ESC50.time_shift_frames == 0
    assert (ESC50.mean, ESC50.std) == (-6.6268077, 5.358466)
    assert ESC50.model_config(50).num_tokens == 602


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    stored = json.loads(json.dumps(recipe.to_json()))
    assert Recipe.from_json(stored, Path("recipe.json")) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs is 0, must be above 0"),
        ({"epochs": "ten"}, "epochs is 'ten', must be int"),
        ({"epochs": True}, "epochs is True, must be int"),
        ({"epochs": 10**10}, "epochs is 10000000000, must be int of at most 1,000,000,000"),
        ({"learning_rate": math.inf}, "learning_rate is inf, must be float of at most"),
        ({"weight_decay": math.nan}, "weight_decay is nan, must be float of at most"),
        ({"seed": 2**63}, "seed is 9223372036854775808, must be int of at most"),
        ({"betas": (0.9, 1.0)}, r"--betas is \(0.9, 1.0\), must be two in \[0, 1\)"),
        ({"mean": math.nan}, "mean is nan, must be float"),
        ({"std": 1e9}, "std 1000000000.0 is not a number in"),
        ({"stride": (10,)}, r"stride is \(10,\), must be \(int, int\)"),
        ({"mixup_rate": 1.5}, r"--mixup-rate is 1.5, must be in \[0, 1\]"),
        ({"clips_per_class": -1}, "--clips-per-class is -1, must be 0 or more"),
        ({"frequency_warp": 1.0}, r"--frequency-warp is 1.0, must be in \[0, 1\)"),
        ({"time_mask": 513}, "--time-mask is 513, must be between 0 and 512"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', must be .'adam', 'adamw'."),
        ({"preset": "huge"}, "preset 'huge' is unknown; use one of tiny224"),
        ({"sample_rate": 96_000}, "^--sample-rate 96000 is not an integer from 8,000 to 48,000$"),
        ({"sample_rate": 7_999}, "^--sample-rate 7999 is not an integer"),
        ({"high_freq": 8_001.0}, "^--low-freq 20 and --high-freq 8001 Hz do not fit --sample-rate"),
        ({"sample_rate": 8_000, "high_freq": 4_001.0}, "use --low-freq < --high-freq <= 4000 Hz"),
        ({"low_freq": 500.0, "high_freq": 500.0}, "--low-freq 500 and --high-freq 500 Hz do not"),
        ({"low_freq": 8_000.0}, "--low-freq 8000 and --high-freq 8000 Hz do not fit"),
        ({"low_freq": -1.0}, r"^--low-freq -1.0 is not a number in \[0, 48000\]$"),
        ({"num_frames": 8, "time_mask": 0}, "--num-frames 8 is smaller than one patch"),
        ({"positions": "cubic"}, "positions is 'cubic', must be .'bilinear'"),
    ],
)
def test_impossible_field_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ESC50, **changes)


def test_a_recipe_file_with_an_unknown_field_is_refused():
    content = {**ESC50.to_json(), "learning_rat": 1.0}
    with pytest.raises(
        ValueError, match=r"recipe\.json has fields that no recipe has \('learning_r"
    ):
        Recipe.from_json(content, Path("recipe.json"))


@pytest.mark.parametrize(
    "value",
    [None, -1, 2**63, 1e308, math.nan, math.inf, True, "x" * 9999, [], [[1]], [1e308, 1], {"a": 1}],
    ids=lambda value: f"{value!r:.9}",
)
def test_a_recipe_file_with_any_value_is_sound_or_refused_by_file_and_field(value):
    content, file = ESC50.to_json(), Path("folder/recipe.json")
    for name in content:
        try:
            recipe = Recipe.from_json(content | {name: value}, file)
        except ValueError as error:
            assert str(error).startswith(f"{file}")
            assert re.search(rf"\b{name}\b|--{name.replace('_', '-')}\b", str(error))
            assert len(str(error)) < 300
        else:
            numbers = [each for each in vars(recipe).values() if isinstance(each, float)]
            assert all(map(math.isfinite, numbers))


def test_a_recipe_of_an_earlier_version_hears_as_it_did():
    content = ESC50.to_json()
    for name in ("sample_rate", "low_freq", "high_freq"):
        del content[name]
    recipe = Recipe.from_json(content, Path("recipe.json"))
    assert recipe == ESC50
    config = recipe.frontend_config()
    assert (config.sample_rate, config.band) == (16_000, (20, 8_000))


def test_rate_and_band_of_a_recipe_are_those_of_its_front_end():
    recipe = replace(ESC50, sample_rate=32_000, low_freq=50.0, high_freq=14e3)
    config = Recipe.from_json(recipe.to_json(), Path("recipe.json")).frontend_config()
    assert (config.sample_rate, config.band) == (32_000, (50, 14_000))


def test_every_field_belongs_to_one_subject():
    names = [field.name for group in GROUPS for field in fields(group)]
    names += ["name", "summary", "from_data"]
    assert sorted(names) == sorted(field.name for field in fields(Recipe))


def test_what_is_given_is_not_left_to_the_data_and_a_stored_recipe_leaves_nothing():
    recipe = replace(ESC50, from_data=frozenset({"epochs", "time_mask"}))
    assert recipe.given(epochs=3).from_data == {"time_mask"}
    stored = Recipe.from_json(recipe.to_json(), Path("recipe.json"))
    assert stored.from_data == frozenset()


def test_a_field_that_is_left_to_the_data_is_not_checked_against_given_ones():
    short = {"num_frames": 64, "frequency_mask": 8}
    open_fields = frozenset({"time_mask", "epochs", "warmup_epochs"})
    recipe = replace(ESC50, warmup_epochs=1.0, from_data=open_fields)
    recipe.given(**short, average_epochs=(30, 40), warmup_steps=5)
    with pytest.raises(ValueError, match="--time-mask is 96"):
        recipe.given(**short, time_mask=96)


def test_every_recipe_says_what_it_is_for():
    assert all(recipe.summary for recipe in RECIPES.values())
