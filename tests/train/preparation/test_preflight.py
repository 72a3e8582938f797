"""Where a recipe does not fit the data, in a line each, before anything is trained."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.cache import ClipCache
from data.corpora import esc50, folder
from data.splits import split_clips
from train.preparation.choose import choose
from train.preparation.preflight import (
    input_fit,
    misfits,
    preflight,
    rate_fit,
    require_learnable,
)
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
        ({"num_frames": 164}, "51% of the input is background: use --num-frames 80"),
        ({"epochs": 9}, "90 optimiser steps are few"),
        ({"from_data": frozenset({"epochs"})}, "from_scratch is trained as it stands"),
        ({"sample_rate": 8_000}, "4 of 128 mel bins lie .* are always empty: use --num-mel-bins 1"),
        ({"low_freq": 1000.0, "high_freq": 1010.0}, "128 of 128 .* use a wider band .--low-freq"),
    ],
)
def test_what_does_not_fit_is_named_with_the_option_that_does(changes, message):
    (found,) = misfits(replace(RECIPE, **changes), FRAMES)
    assert re.search(message, found), found


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000])
def test_so_many_mel_bins_as_are_named_fit_and_no_more(sample_rate):
    recipe = replace(RECIPE, sample_rate=sample_rate, num_mel_bins=300, patch=(16, 8))
    (found,) = misfits(recipe, FRAMES)
    count = int(re.search(r"--num-mel-bins (\d+)$", found)[1])
    assert misfits(replace(recipe, num_mel_bins=count), FRAMES) == []
    assert misfits(replace(recipe, num_mel_bins=count + 1), FRAMES) != []


@pytest.mark.parametrize(
    ("changes", "rates", "expected"),
    [
        ({}, (8_000, 8_000), "with --sample-rate 8000 .* at 4000 Hz instead of 8000 Hz"),
        ({}, (6_000, 4_000), "with --sample-rate 8000 .* at 4000 Hz"),
        (
            {"sample_rate": 48_000},
            (16_000, 44_100),
            "with --sample-rate 44100 .* instead of 24000 Hz",
        ),
        ({"high_freq": 6e3}, (8_000, 8_000), "with --high-freq 4000 .* instead of 6000 Hz"),
        ({"init_from": "imagenet"}, (8_000, 8_000), "--sample-rate 8000"),
        ({}, (48_000, 44_100), "recorded at 44100 Hz or more, and the model hears up to 8000 Hz"),
        ({"sample_rate": 22_050}, (44_100, 48_000), "at 44100 Hz or more, .* up to 11025 Hz: if"),
        ({"sample_rate": 32_000}, (44_100, 44_100), None),
        ({"high_freq": 6e3}, (44_100, 44_100), None),
        ({}, (8_000, 16_000), None),
        ({}, (16_000, 48_000), None),
        ({"high_freq": 4e3}, (8_000, 8_000), None),
        ({"init_from": "audioset"}, (8_000, 8_000), None),
        ({"init_from": "audioset"}, (48_000, 48_000), None),
        ({}, (), None),
    ],
)
def test_clips_of_another_rate_than_the_recipe_are_noticed(changes, rates, expected):
    found = rate_fit(replace(RECIPE, **changes), np.array(rates))
    assert found is None if expected is None else re.search(expected, found), found


def test_training_says_that_clips_are_of_another_rate(recipe, manifest, caplog):
    caplog.set_level("INFO")
    splits = split_clips(manifest, 1, seed=0)
    preflight(recipe, manifest, splits)
    assert "--sample-rate" not in caplog.text
    preflight(replace(recipe, sample_rate=32_000), manifest, splits)
    assert "ends where all training clips do, at 8000 Hz instead of 16000 Hz" in caplog.text
    assert "40 clips are recorded at 16000 Hz: nothing in them above 8000 Hz" in caplog.text


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


@pytest.fixture
def nothing_is_read(monkeypatch):
    """From when it is called, no audio file and no decoded clip can be read."""

    def forbid():
        def read(*_, **__):
            raise AssertionError("a file was read")

        monkeypatch.setattr("data.audio.soundfile.SoundFile", read)
        path_open = Path.open
        monkeypatch.setattr(
            Path,
            "open",
            lambda path, *words, **named: (read if path.suffix == ".wav" else path_open)(
                path, *words, **named
            ),
        )
        monkeypatch.setattr("data.cache._read", read)

    return forbid


@pytest.mark.parametrize("skip_unreadable", [True, False])
def test_the_second_start_reads_no_audio_and_finds_the_same(
    recipe, manifest, tmp_path, caplog, nothing_is_read, skip_unreadable
):
    caplog.set_level("INFO")
    cache, splits = ClipCache(tmp_path / "cache"), split_clips(manifest, 1, seed=0)
    recipe = replace(recipe, skip_unreadable=skip_unreadable)
    recipe = replace(recipe, from_data=frozenset({"mean", "std", "num_frames"}))
    chosen = choose(recipe, splits.train, cache)
    left = preflight(chosen, manifest, splits, cache)
    first = [record.message for record in caplog.records]
    caplog.clear()
    nothing_is_read()
    assert choose(recipe, splits.train, cache) == chosen
    assert preflight(chosen, manifest, splits, cache) == left
    assert [record.message for record in caplog.records] == first


def test_a_file_that_has_changed_is_read_again(recipe, corpus_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    manifest = esc50(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    cache, splits = ClipCache(tmp_path / "cache"), split_clips(manifest, 1, seed=0)
    preflight(recipe, manifest, splits, cache)
    assert "clips at 8000 Hz" not in caplog.text
    path, generator = splits.train[0].path, np.random.default_rng(0)
    soundfile.write(path, 0.1 * generator.standard_normal(8000), 8000)
    preflight(recipe, manifest, splits, cache)
    assert "1 clips are recorded at 8000 Hz" in caplog.text
    path.write_bytes(splits.validation[0].path.read_bytes())
    with pytest.raises(ValueError, match="1 validation and test clips are trained on as well"):
        preflight(recipe, manifest, splits, cache)


def test_one_class_is_refused_unless_it_may_be_absent(tmp_path):
    for place in ("in/owl/a.wav", "in/wren/b.wav"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    manifest, within = folder(tmp_path), tmp_path / "in"
    with pytest.raises(ValueError) as caught:
        require_learnable(RECIPE, manifest)
    remedy = f"to have the 2 folders in {within} as classes, give --data {within}"
    assert f"has one class, 'in', and nothing to tell it from; {remedy}" in str(caught.value)
    with pytest.raises(ValueError, match="add clips of another class, a folder for each"):
        require_learnable(RECIPE, replace(manifest, clips=manifest.clips[:1]))
    require_learnable(replace(RECIPE, loss="bce"), manifest)
