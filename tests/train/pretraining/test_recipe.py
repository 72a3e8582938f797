"""A recipe of pretraining is whole, comes back from its file, and refuses what cannot be."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from train.pretraining.recipe import PretrainingRecipe
from train.recipe import Recipe
from train.recipes.keywords import KEYWORD_SPOTTING
from train.recipes.pretraining import MAE, PRETRAINING_RECIPES, SSAST, SSAST_FRAMES
from train.run.folder import read_fields


@pytest.mark.parametrize("name", PRETRAINING_RECIPES)
def test_a_recipe_comes_back_from_its_file(name):
    recipe = PRETRAINING_RECIPES[name]
    assert read_fields(recipe.to_json(), Path("recipe.json")) == recipe


@pytest.mark.parametrize("corpus", ["table", "hugging_face"])
def test_a_column_of_labels_is_not_read(corpus):
    assert SSAST.given(corpus=corpus).columns()["label_column"] == "none"


def test_keywords_start_from_what_is_pretrained_for_words():
    encoder = PRETRAINING_RECIPES["ssast_words"]
    assert KEYWORD_SPOTTING.init_from == f"runs/{encoder.name}/last"
    for field in ("preset", "patch", "pooling", "window", "num_mel_bins"):
        assert getattr(KEYWORD_SPOTTING, field) == getattr(encoder, field), field


def test_every_field_is_in_a_group():
    names = [each.name for group in PretrainingRecipe.groups for each in fields(group)]
    own = {each.name for each in fields(PretrainingRecipe)} - {"name", "summary", "from_data"}
    assert sorted(names) == sorted(own)


def test_a_file_says_whether_it_is_of_training():
    recipe = Recipe(name="classes")
    assert type(read_fields(recipe.to_json(), Path("recipe.json"))) is Recipe


def test_patches_do_not_overlap():
    assert SSAST.pretraining_config().encoder.stride == (16, 16)
    assert SSAST_FRAMES.pretraining_config().encoder.stride == (128, 2)


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (SSAST, {"mask_share": 0.0}, r"--mask-share is 0.0, must be in \(0, 1\)"),
        (SSAST, {"mask_share": 1.0}, r"--mask-share is 1.0, must be in \(0, 1\)"),
        (SSAST, {"mask_share": "much"}, "mask_share is 'much', must be float"),
        (SSAST, {"decoder_depth": 2}, "--decoder-depth is 2, must be 0 with --method ssast"),
        (MAE, {"decoder_width": 0}, "--decoder-width is 0, must be above 0 with --method mae"),
        (MAE, {"loss": "joint"}, "--loss is joint, must be reconstruction with --method mae"),
        (SSAST, {"patch": (256, 2)}, "--num-mel-bins 128 is smaller than one patch of 256"),
        (SSAST, {"num_frames": 32}, "--num-frames|--patch|--clusters|--mask-share"),
    ],
)
def test_what_cannot_be_is_refused_by_the_option(recipe, change, message):
    with pytest.raises(ValueError, match=message) as raised:
        replace(recipe, **change)
    assert "\n" not in str(raised.value)


def test_the_lower_error_is_better_where_nothing_is_told_apart():
    assert SSAST.metric == "accuracy" and MAE.metric == "reconstruction"
    assert SSAST.better({"accuracy": 0.5}) > SSAST.better({"accuracy": 0.4})
    assert MAE.better({"reconstruction": 0.4}) > MAE.better({"reconstruction": 0.5})
