"""A look at the data before a run: what would spoil its result silently is an error."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ast_model import Frontend
from ast_model.config import SAMPLE_RATES
from data import Clip, Clips, Manifest, load_audio
from data.audit import audit
from data.cache import ClipCache
from data.file_table import FileTable, look_at, salted
from data.splits import Splits
from data.statistics import Statistics
from train.preparation.choose import input_length, is_pretrained, masks
from train.preparation.measure import frames_of, sampled_statistics, seconds_of
from train.recipe import BaseRecipe

MOST_PADDING = 0.5  # of the input, on average
MOST_EMPTY = 0.02  # of the mel bins; of the published 128 at 16 kHz, one is empty
LEAST_BINS = 16  # the height of a patch
WITHOUT_RATE = ("scratch", "imagenet")  # initial weights that were not trained on sounds
FEWEST_STEPS = 100
DECODABLE = "decodable"  # file of a table in the cache's folder: of files that were decoded once

logger = logging.getLogger(__name__)


def preflight(
    recipe: BaseRecipe, manifest: Manifest, splits: Splits, cache: ClipCache | None = None
) -> tuple[Splits, float]:
    """Audit the clips of a run, and log the findings and where the recipe does not fit them.

    Returns:
        The splits, with `skip_unreadable` without the clips whose files are missing or broken; and
        how much of the input padding will fill in training, on average.

    Raises:
        ValueError: the recipe's loss cannot learn these labels, or the audit found an error.
    """
    require_learnable(recipe, manifest)
    rate, (_, highest) = recipe.sample_rate, recipe.frontend_config().band

    def statistics(clips: Sequence[Clip]) -> Statistics | None:
        try:
            return sampled_statistics(recipe, Clips.of(clips), cache)
        except ValueError:  # none of them can be read
            return None

    found = audit(
        manifest,
        splits,
        rate,
        statistics,
        (recipe.mean, recipe.std),
        recipe.skip_unreadable,
        cache.folder if cache else None,
        cache.load if cache else load_audio,
        highest,
    )
    for line in found.lines():
        logger.info(line)
    found.require_sound()
    frames = frames_of(found.training_seconds)
    logger.info(input_fit(recipe, frames))
    if hint := rate_fit(recipe, found.training_rates):
        logger.info(hint)
    for misfit in misfits(recipe, frames):
        logger.warning(misfit)
    padded = padding(recipe, frames) if recipe.placement == "start" else 0.0
    if not recipe.skip_unreadable:
        return splits, padded
    # A file may be broken behind a sound header. In training that is met when it comes; what is
    # scored has to be the same clips after every epoch.
    sound = decodable(found.evaluation, rate, cache)
    for path in sorted(set(found.evaluation[~sound].paths())):
        logger.info(f"unreadable, left out of validation and test: {path}")
    paths = set(found.evaluation[sound].paths())
    validation, test = (
        split[np.fromiter((path in paths for path in split.paths()), bool)]
        for split in (splits.validation, splits.test)
    )
    return replace(splits, train=found.training, validation=validation, test=test), padded


def require_learnable(recipe: BaseRecipe, manifest: Manifest) -> None:
    """ValueError where the recipe's loss cannot learn the manifest's labels. Opens no recording."""
    if recipe.loss != "cross_entropy":
        return
    if manifest.multi_label:
        raise ValueError(
            f"{manifest.name} has several classes a clip, which cross-entropy cannot learn; "
            "use --loss bce (and --metric mAP)"
        )
    if len(manifest.classes) > 1:
        return
    remedy = "add clips of another class, a folder for each"
    folders = {Path(path).parent for path in manifest.clips.paths()}
    if len(folders) > 1:
        above = os.path.commonpath(folders)
        remedy = f"to have the {len(folders)} folders in {above} as classes, give --data {above}"
    raise ValueError(
        f"{manifest.name} has one class, {manifest.classes[0]!r}, and nothing to tell it from; "
        + remedy
    )


def input_fit(recipe: BaseRecipe, frames: np.ndarray) -> str:
    """How the recipe's input fits clips of so many frames (clips,), in a line."""
    suggested = input_length(recipe, frames, len(frames)).values["num_frames"]
    line = (
        f"input of {recipe.num_frames} frames ({seconds_of(recipe.num_frames):.2f} s): "
        f"{(frames <= recipe.num_frames).mean():.0%} of the training clips fit in, "
        f"{padding(recipe, frames):.0%} of it is {around(recipe)}"
    )
    if suggested == recipe.num_frames:
        return line
    return f"{line}; by the lengths of the clips, --num-frames {suggested}"


def rate_fit(recipe: BaseRecipe, rates: np.ndarray) -> str | None:
    """What the clips' own sample rates (clips,) say about the recipe's; None where they fit.

    Weights that were pretrained on sounds hear at their own rate, whatever the clips have.
    """
    if recipe.init_from not in WITHOUT_RATE or not len(rates):
        return None
    _, highest = recipe.frontend_config().band
    rate = max(int(rates.max()), SAMPLE_RATES[0])
    if rate / 2 < highest:
        remedy = f"--high-freq {rate // 2}" if recipe.high_freq else f"--sample-rate {rate}"
        return (
            f"with {remedy} the spectrogram ends where all training clips do, at {rate // 2} Hz "
            f"instead of {highest:g} Hz"
        )
    if rates.min() >= 2 * recipe.sample_rate and not recipe.high_freq:
        return (
            f"every training clip is recorded at {rates.min()} Hz or more, and the model hears up "
            f"to {highest:g} Hz: if the classes differ above, use a higher --sample-rate"
        )
    return None


def misfits(recipe: BaseRecipe, frames: np.ndarray) -> list[str]:
    """What about a recipe does not suit training clips of so many frames (clips,)."""
    found = []
    if recipe.from_data:
        found.append(
            f"recipe {recipe.name} is trained as it stands, without what it would choose by the "
            "data; choose with train.preparation.choose.choose, or take the recipe.json of a run"
        )
    if recipe.layer_decay < 1 and not is_pretrained(recipe):
        found.append(
            f"layer_decay {recipe.layer_decay} keeps lower blocks near where they start, which is "
            "random from scratch: use --layer-decay 1"
        )
    median = int(np.median(frames))
    if recipe.time_mask > median:
        fitting = masks(recipe, frames, len(frames)).values["time_mask"]
        found.append(
            f"a time mask of up to {recipe.time_mask} frames can hide a whole clip: half of them "
            f"have {median} frames or fewer; use --time-mask {fitting}"
        )
    empty = empty_bins(recipe, recipe.num_mel_bins)
    if empty > MOST_EMPTY * recipe.num_mel_bins:
        found.append(
            f"{empty} of {recipe.num_mel_bins} mel bins lie between two bins of the Fourier "
            f"transform and are always empty: {enough_bins(recipe)}"
        )
    padded = padding(recipe, frames)
    if padded > MOST_PADDING:
        length = input_length(recipe, frames, len(frames)).values["num_frames"]
        found.append(f"{padded:.0%} of the input is {around(recipe)}: use --num-frames {length}")
    steps = recipe.epochs * -(-len(frames) // recipe.batch_size)
    if steps < FEWEST_STEPS:
        found.append(
            f"{steps} optimiser steps are few to learn from: use more --epochs or a smaller "
            "--batch-size"
        )
    return found


def empty_bins(recipe: BaseRecipe, num_mel_bins: int) -> int:
    """How many of so many mel bins would be empty at the recipe's rate and edges."""
    config = replace(recipe.frontend_config(), num_mel_bins=num_mel_bins)
    return Frontend(config).fbank.empty_bins


def enough_bins(recipe: BaseRecipe) -> str:
    """The option against empty mel bins."""
    for count in range(recipe.num_mel_bins, LEAST_BINS - 1, -1):
        if empty_bins(recipe, count) <= MOST_EMPTY * count:
            return f"use --num-mel-bins {count}"
    return "use a wider band (--low-freq, --high-freq)"


def around(recipe: BaseRecipe) -> str:
    """What the part of the input is that a clip does not fill, in a word."""
    return "padding" if recipe.placement == "start" else "background"


def padding(recipe: BaseRecipe, frames: np.ndarray) -> float:
    """Share of the input that the clips do not fill, on average."""
    return 1 - float(np.minimum(frames, recipe.num_frames).mean()) / recipe.num_frames


def decodable(
    clips: Clips, sample_rate: int, cache: ClipCache | None, least: int = 1
) -> np.ndarray:
    """Which files can be decoded, which headers alone do not tell: (clips,) bool.

    Args:
        cache: of decoded clips; in its folder, what is found out is kept.
        least: samples that a clip is to have.
    """
    load = cache.load if cache else load_audio

    def decodes(row: int) -> tuple[bool] | None:
        try:
            samples = len(load(clips[row].path, sample_rate))
        except (OSError, ValueError):
            return None
        return (True,) if samples >= least else None

    table = FileTable(cache.folder / DECODABLE if cache else None, [("sound", "?")])
    keys = salted(look_at(clips)["key"], sample_rate, least)
    return table.values(keys, decodes, "decode")["sound"]
