"""`ast-audio crossval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes

from train.cli.options import (
    TO_FOLDER,
    Compile,
    DataFolder,
    Reading,
    RecipeOptions,
    find_recipe,
    open_or_make_corpus,
    parse,
    unless_given,
)
from train.cli.train import chosen, own_folder
from train.crossval import cross_validate
from train.distributed import main_process_first


@dataclass(frozen=True)
class CrossvalOptions:
    """Train once for every fold, which that run validates on; the same command again resumes."""

    data: DataFolder
    recipe: RecipeOptions
    reading: OmitArgPrefixes[Reading]
    folds: Annotated[tuple[int, ...], unless_given("all")] = ()
    """Folds to run."""
    out: Annotated[Path | None, TO_FOLDER, unless_given("runs/RECIPE")] = None
    """Folder for the runs and the table."""
    compile: Compile = False


def run(words: Sequence[str]) -> None:
    recipe, _, rest = find_recipe("crossval", words)
    default = CrossvalOptions(tyro.MISSING, RecipeOptions.of(recipe), Reading())
    options = parse(CrossvalOptions, rest, f"crossval {words[0]}", default, recipe.from_data)
    recipe = options.recipe.change(recipe)
    folder = options.out or own_folder(recipe)
    with main_process_first():  # that makes the synthetic data
        manifest = open_or_make_corpus(recipe, options.data)
    if manifest.folds:  # one recipe for all folds, so that their scores can be averaged
        first = (options.folds or manifest.folds)[0]
        folders = [folder / f"fold{fold}" for fold in manifest.folds]
        recipe = chosen(recipe, manifest, first, folders, options.reading.clip_cache())
    table = cross_validate(
        recipe,
        manifest,
        folder,
        folds=options.folds,
        compile=options.compile,
        **options.reading.arguments(),
    )
    print(f"\n{table}")
    print(f"table {folder / 'crossval.md'}\nplots {folder / 'plots'}\nmodels {folder}/fold*/last")
