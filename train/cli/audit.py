"""`ast-audio audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from tyro.conf import OmitArgPrefixes

from data.corpora import open_corpus
from data.splits import split_clips
from train.cli.options import Caching, DataFolder, Fold, RecipeOptions, find_recipe, parse
from train.init_model import require_source
from train.preparation.choose import choose
from train.preparation.preflight import preflight, require_learnable


@dataclass(frozen=True)
class AuditOptions:
    """Look at a data set as `train` does before it starts, without training.

    One line a finding: what a recipe for own data chooses by them and why; clips by class, their
    lengths and the input length that fits them, sample rates, loudness, clipping; files that are
    missing, broken or nearly silent, classes with few clips or none, clips in two splits, and
    whether the recipe's length, mean and std, masks and steps fit.
    """

    data: DataFolder
    recipe: RecipeOptions
    caching: OmitArgPrefixes[Caching]
    fold: Fold = None


def run(words: Sequence[str]) -> None:
    recipe, fold, rest = find_recipe("audit", words)
    default = AuditOptions(tyro.MISSING, RecipeOptions.of(recipe), Caching(), fold)
    options = parse(AuditOptions, rest, f"audit {words[0]}", default, recipe.from_data)
    recipe = options.recipe.change(recipe)
    manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
    splits = split_clips(manifest, options.fold, recipe.seed, recipe.clips_per_class)
    require_learnable(recipe, manifest)
    require_source(recipe)
    cache = options.caching.clip_cache()
    recipe = choose(recipe, splits.train, cache, manifest.classes)
    preflight(recipe, manifest, splits, cache)
    print(f"nothing stands in the way of training {recipe.name} on these data")
