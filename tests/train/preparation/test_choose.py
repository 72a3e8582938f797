"""What a recipe for own data chooses by the data: each choice, and that what is given wins."""

from dataclasses import fields, replace
from math import sqrt

import numpy as np
import pytest

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data.files import write_json
from data.splits import split_clips
from train.preparation import choose as module
from train.preparation.choose import CHOSEN, apply, choose, chosen_before
from train.preparation.measure import measure_statistics
from train.recipe import Recipe
from train.recipes import RECIPES
from train.recipes.finetune import FINETUNE, FROM_SCRATCH
from train.run.folder import RECIPE

WORDS = np.array([30] * 5 + [44] * 90 + [120] * 5)  # frames: 95 of 100 words last 44 or less
LONG = np.full(100, 498)


def values(choice, recipe, frames=WORDS, num_clips=100):
    return choice(recipe, frames, num_clips).values


def test_published_recipes_leave_nothing_to_the_data():
    assert {name for name, recipe in RECIPES.items() if recipe.from_data} == {
        "birdclef",
        "birdclef_cnn",
        "finetune",
        "from_scratch",
        "keyword_spotting",
    }
    assert FINETUNE.from_data == FROM_SCRATCH.from_data == CHOSEN
    assert {field.name for field in fields(Recipe)} >= CHOSEN


@pytest.mark.parametrize(("frames", "width"), [(WORDS, 4), (LONG, 8)])
def test_from_random_weights_the_network_is_small_with_patches_as_high_as_the_input(frames, width):
    recipe = replace(FROM_SCRATCH, num_mel_bins=64, frequency_mask=8, patch=(64, 4))
    assert values(module.network, recipe, frames) == {
        "preset": "tiny224",
        "patch": (64, width),
        "pooling": "patches",
    }
    assert values(module.stride, replace(recipe, patch=(64, width))) == {"stride": (64, width)}


def test_pretrained_weights_and_baselines_keep_their_network():
    baseline = replace(FROM_SCRATCH, model="tf_efficientnet_b0")
    for recipe in (FINETUNE, baseline):
        assert values(module.network, recipe) == values(module.stride, recipe) == {}


def test_a_model_of_ones_own_brings_its_network(tmp_path):
    changes = {"patch": (128, 2), "stride": (128, 1), "pooling": "patches", "num_frames": 64}
    model = AST(ASTConfig.preset("small224", num_classes=2, **changes))
    classifier = AudioClassifier(model, Frontend(FrontendConfig(64)), ("a", "b"))
    weights.save(tmp_path / "run" / "last", classifier)
    (tmp_path / "run" / "recipe.json").write_text("{}")  # which makes it a run folder
    network = {"patch": (128, 2), "stride": (128, 1), "pooling": "patches"}
    for folder in (tmp_path / "run", tmp_path / "run" / "last"):
        recipe = FINETUNE.given(init_from=str(folder))
        assert values(module.network, recipe) == {"preset": "small224", **network}
    assert values(module.network, recipe.given(model="tf_efficientnet_b0")) == {}
    stated = apply(recipe.given(stride=(128, 2)), module.network(recipe, WORDS, 100))
    assert (stated.preset, stated.patch, stated.stride) == ("small224", (128, 2), (128, 2))


def test_a_folder_with_the_name_of_published_weights_is_not_looked_into(tmp_path, monkeypatch):
    (tmp_path / "audioset").mkdir()
    monkeypatch.chdir(tmp_path)
    assert values(module.network, FINETUNE) == {}


@pytest.mark.parametrize(
    ("patch", "stride", "frames", "length"),
    [
        (4, 4, 43, 44),
        (4, 4, 44, 44),
        (16, 10, 498, 506),  # 50 patches
        (16, 10, 3, 16),  # one patch, the least
        (16, 10, 9999, 1016),  # the most whole patches in 1024
    ],
)
def test_the_input_holds_most_clips_in_whole_patches(patch, stride, frames, length):
    recipe = replace(FROM_SCRATCH, num_frames=512, patch=(128, patch), stride=(128, stride))
    assert values(module.input_length, recipe, np.full(9, frames)) == {"num_frames": length}


def test_the_longest_clips_do_not_decide_the_input_length():
    choice = module.input_length(FROM_SCRATCH, WORDS, 100)
    assert choice.values == {"num_frames": 44 + 4}  # the percentile lies between 44 and 120
    assert choice.reason.startswith("95 % of the training clips last at most 0.")


def test_of_clips_longer_than_the_longest_input_it_says_what_is_heard():
    assert "longer ones are cut" in module.input_length(FINETUNE, np.full(9, 6000), 9).reason


@pytest.mark.parametrize(
    ("recipe", "num_clips", "size"),
    [
        (FROM_SCRATCH, 640, 32),
        (FROM_SCRATCH, 639, 16),
        (FROM_SCRATCH, 10, 8),
        (FROM_SCRATCH, 1_000_000, 32),
        (FINETUNE, 1_000_000, 16),
    ],
)
def test_batches_are_smaller_where_an_epoch_would_have_few_steps(recipe, num_clips, size):
    assert values(module.batch_size, recipe, num_clips=num_clips) == {"batch_size": size}


@pytest.mark.parametrize(
    ("recipe", "num_clips", "number"),
    [
        (FROM_SCRATCH, 1600, 32),  # 50 steps an epoch, 1600 in all
        (FROM_SCRATCH, 100, 80),
        (FROM_SCRATCH, 1_000_000, 30),
        (FINETUNE, 1600, 10),
        (FINETUNE, 100, 30),
        (FINETUNE, 1_000_000, 5),
    ],
)
def test_epochs_follow_from_the_steps_that_the_start_needs(recipe, num_clips, number):
    assert values(module.epochs, recipe, num_clips=num_clips) == {"epochs": number}


def test_warm_up_is_a_tenth_unless_given_in_steps():
    assert values(module.warmup, FROM_SCRATCH) == {"warmup_epochs": 4.0}
    in_steps = FROM_SCRATCH.given(warmup_steps=100)
    assert values(module.warmup, in_steps) == {"warmup_epochs": 0.0}


def test_the_learning_rate_follows_the_start_and_the_root_of_the_batch():
    assert values(module.learning_rate, FROM_SCRATCH) == {
        "learning_rate": 5e-4,
        "layer_decay": 1.0,
    }
    assert values(module.learning_rate, FINETUNE) == {"learning_rate": 5e-5, "layer_decay": 0.75}
    half = values(module.learning_rate, replace(FROM_SCRATCH, batch_size=16))["learning_rate"]
    assert half == pytest.approx(5e-4 / sqrt(2), rel=0.02)
    baseline = replace(FINETUNE, model="tf_efficientnet_b0", init_from="imagenet")
    assert values(module.learning_rate, baseline)["layer_decay"] == 1.0


def test_mixup_needs_steps():
    recipe = replace(FROM_SCRATCH, batch_size=10, epochs=10)
    assert values(module.mixup, recipe, num_clips=1000) == {"mixup_rate": 0.5}
    assert values(module.mixup, recipe, num_clips=990) == {"mixup_rate": 0.0}


def test_a_time_mask_is_in_proportion_to_the_clips():
    assert values(module.masks, FROM_SCRATCH) == {"time_mask": 44 // 5}
    cut = replace(FROM_SCRATCH, num_frames=100)
    assert values(module.masks, cut, LONG) == {"time_mask": 20}


def test_sounds_shift_anywhere_words_a_little_pretrained_not_at_all():
    at_start = replace(FROM_SCRATCH, placement="start", background_rate=0.0)
    long = replace(FROM_SCRATCH, num_frames=500)
    assert values(module.time_shift, long) == {"time_shift_frames": 250}
    assert values(module.time_shift, at_start) == {"time_shift_frames": 12}
    assert values(module.time_shift, FROM_SCRATCH) == {"time_shift_frames": 0}  # placed anywhere
    assert values(module.time_shift, FINETUNE) == {"time_shift_frames": 0}


def test_background_is_learnt_unless_it_is_a_class_or_clips_lie_at_the_start():
    at_start = replace(FROM_SCRATCH, placement="start", background_rate=0.0)

    def rate(recipe, classes):
        return module.background(recipe, classes).values["background_rate"]

    assert rate(FROM_SCRATCH, ["dog", "noisy street"]) == module.BACKGROUND
    for name in ("silence", "_background_noise_", "Background"):
        assert rate(FROM_SCRATCH, ["dog", name]) == 0
    assert rate(at_start, ["dog"]) == 0


def test_clips_at_the_start_are_asked_for_with_one_option(clips):
    recipe = choose(FROM_SCRATCH.given(placement="start"), clips)
    assert (recipe.placement, recipe.background_rate) == ("start", 0.0)
    with pytest.raises(ValueError, match=r"--background-rate is 0\.2, must be 0 unless placement"):
        FROM_SCRATCH.given(placement="start", background_rate=0.2)


@pytest.fixture
def clips(manifest):
    return split_clips(manifest, 1, seed=0).train


def test_every_choice_is_made_logged_and_part_of_the_recipe(clips, caplog):
    caplog.set_level("INFO")
    recipe = choose(FROM_SCRATCH, clips)
    assert recipe.from_data == frozenset()
    lines = [
        record.message for record in caplog.records if record.name == "train.preparation.choose"
    ]
    said = {word for line in lines for word in line.partition(":")[0].replace(",", "").split()}
    assert said >= CHOSEN
    assert all(line.partition(": ")[2] for line in lines)  # a reason
    assert f"num_frames {recipe.num_frames}: 95 % of the training clips" in caplog.text
    measured = measure_statistics(recipe, clips)
    assert (recipe.mean, recipe.std) == (round(measured.mean, 4), round(measured.std, 4))
    caplog.clear()
    assert choose(recipe, clips) == recipe  # what has chosen chooses nothing
    assert not caplog.records


def test_a_script_chooses_the_same_for_either_recipe_from_scratch(clips):
    finetune = choose(FINETUNE.given(init_from="scratch"), clips)
    scratch = choose(FROM_SCRATCH, clips)
    assert replace(finetune, name="from_scratch", window="hamming") == replace(
        scratch, mean=finetune.mean, std=finetune.std
    )


def test_what_is_given_wins_and_the_other_choices_start_from_it(clips, caplog):
    caplog.set_level("INFO")
    recipe = choose(FROM_SCRATCH.given(patch=(16, 16), batch_size=4, mean=-5.0), clips)
    assert (recipe.patch, recipe.batch_size, recipe.mean) == ((16, 16), 4, -5.0)
    assert recipe.stride == (16, 16)
    assert recipe.num_frames % 16 == 0
    assert recipe.learning_rate == pytest.approx(5e-4 * sqrt(4 / 32), rel=0.02)
    assert "patch (" not in caplog.text and "mean " not in caplog.text


def test_a_given_value_that_does_not_fit_what_was_chosen_is_refused(clips):
    with pytest.raises(ValueError, match="--time-mask is 900, must be between 0 and"):
        choose(FINETUNE.given(time_mask=900), clips)


def test_without_a_readable_clip_nothing_is_chosen(clips, tmp_path):
    lost = clips.of(replace(clip, path=tmp_path / clip.path.name) for clip in clips)
    assert choose(FROM_SCRATCH, lost) == FROM_SCRATCH
    assert choose(FROM_SCRATCH, lost).from_data == frozenset()


def test_a_run_that_goes_on_has_what_it_began_with_and_what_is_given_now(tmp_path):
    assert chosen_before(FROM_SCRATCH, tmp_path / RECIPE) is None
    begun = replace(FROM_SCRATCH, num_frames=60, epochs=33, from_data=frozenset())
    write_json(tmp_path / "recipe.json", {"recipe": begun.to_json(), "fold": None})
    assert chosen_before(FROM_SCRATCH, tmp_path / RECIPE) == begun
    assert chosen_before(FROM_SCRATCH.given(epochs=4), tmp_path / RECIPE) == replace(
        begun, epochs=4
    )
