"""`ast-audio pretrain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes

from data.splits import split_clips
from train.cli.options import (
    TO_FOLDER,
    DataFolder,
    Fold,
    PretrainingOptions,
    Reading,
    at_least,
    find_recipe,
    parse,
    unless_given,
)
from train.cli.train import begun, own_folder
from train.distributed import main_process_first, on_main_process
from train.loop import train
from train.pretraining.choose import choose_for_pretraining
from train.pretraining.clips import open_unlabelled
from train.recipes.pretraining import PRETRAINING_RECIPES
from train.run.folder import read_results


@dataclass(frozen=True)
class PretrainOptions:
    """Train an encoder on recordings without labels; the same command again resumes a run that
    stopped. `ast-audio train RECIPE --init-from RUN` fine-tunes it."""

    data: DataFolder
    recipe: PretrainingOptions
    reading: OmitArgPrefixes[Reading]
    fold: Fold = None
    out: Annotated[
        Path | None,
        TO_FOLDER,
        unless_given("runs/RECIPE/foldN, or runs/RECIPE where there are no folds"),
    ] = None
    """Run folder."""
    checkpoint_minutes: Annotated[float, at_least(0.0)] = 10.0
    """Longest time between two checkpoints; 0: one after every step. There is one after every
    epoch, too."""


def run(words: Sequence[str]) -> None:
    recipe, fold, rest = find_recipe("pretrain", words, PRETRAINING_RECIPES)
    default = PretrainOptions(tyro.MISSING, PretrainingOptions.of(recipe), Reading(), fold)
    options = parse(PretrainOptions, rest, f"pretrain {words[0]}", default, recipe.from_data)
    recipe = options.recipe.change(recipe)
    with main_process_first():  # that makes the synthetic data
        manifest = open_unlabelled(recipe, options.data)
    splits = split_clips(manifest, options.fold, recipe.seed)
    folder = options.out or own_folder(recipe)
    if options.out is None and splits.fold is not None:
        folder /= f"fold{splits.fold}"
    cache = options.reading.clip_cache()
    recipe = on_main_process(
        lambda: begun(recipe, [folder]) or choose_for_pretraining(recipe, splits.train, cache)
    )
    train(
        recipe,
        manifest,
        folder,
        fold=splits.fold,
        checkpoint_minutes=options.checkpoint_minutes,
        **options.reading.arguments(),
    )
    print(describe_results(folder))


def describe_results(folder: Path) -> str:
    """The final scores of a finished run, and how to go on from it."""
    results = read_results(folder)
    heading = f"{results['validation_split']} ({results['clips']['validation']} clips)"
    lines = []
    for model, row in results["validation"].items():
        scores = {name: row[name] for name in row if name not in ("epoch", "learning_rate")}
        scored = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        lines.append(f"{heading}: {model} (epoch {row['epoch']:.0f}): {scored}")
    lines += [f"encoder {folder / 'last'}", f"plots {folder / 'plots'}"]
    return "\n".join([*lines, f"fine-tune it with `ast-audio train RECIPE --init-from {folder}`"])
