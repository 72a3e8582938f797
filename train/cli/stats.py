"""`ast-audio stats`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from tyro.conf import OmitArgPrefixes

from data.corpora import open_corpus
from data.splits import split_clips
from train.cli.options import DataFolder, Fold, Reading, RecipeOptions, find_recipe, parse
from train.device import choose_device
from train.evaluation import default_workers
from train.preparation.choose import choose
from train.preparation.measure import SAMPLED_CLIPS, evenly, measure_statistics


@dataclass(frozen=True)
class StatsOptions:
    """Mean and standard deviation of a recipe's training clips as its network would see them.

    Measured in one pass over the log-mel values of at most 1,000 training clips, evenly taken, cut
    at the recipe's length, without augmentation: the numbers that `audit` shows and that a recipe
    for own data trains with. The clips' own frames count, not the padding after them; published
    statistics count the padding, so those are shown as well.
    """

    data: DataFolder
    recipe: RecipeOptions
    reading: OmitArgPrefixes[Reading]
    fold: Fold = None


def run(words: Sequence[str]) -> None:
    recipe, fold, rest = find_recipe("stats", words)
    default = StatsOptions(tyro.MISSING, RecipeOptions.of(recipe), Reading(), fold)
    options = parse(StatsOptions, rest, f"stats {words[0]}", default, recipe.from_data)
    recipe = options.recipe.change(recipe)
    manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
    clips = split_clips(manifest, options.fold, recipe.seed, recipe.clips_per_class).train
    recipe = choose(recipe, clips, options.reading.clip_cache(), manifest.classes)
    clips = evenly(clips, SAMPLED_CLIPS)
    device = choose_device(options.reading.device)
    workers = options.reading.workers
    measured = measure_statistics(
        recipe,
        clips,
        options.reading.clip_cache(),
        default_workers(device) if workers is None else workers,
        device,
        recipe.skip_unreadable,
    )
    mean, std = measured.with_padding()
    print(f"{len(clips)} training clips: mean {measured.mean:.4f}, std {measured.std:.4f}")
    print(f"with the padding, {measured.padding:.0%} of the input: mean {mean:.4f}, std {std:.4f}")
    print(f"recipe {recipe.name} has mean {recipe.mean:.4f}, std {recipe.std:.4f}")
    print(f"to train with the measured ones: --mean {measured.mean:.4f} --std {measured.std:.4f}")
