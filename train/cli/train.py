"""`ast-audio train`."""

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
    Fold,
    OfRecipe,
    Reading,
    RecipeOptions,
    at_least,
    find_recipe,
    open_or_make_corpus,
    parse,
    unless_given,
)
from train.distributed import main_process_first
from train.loop import train
from train.run_folder import read_results

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainOptions:
    """Train a recipe; the same command again resumes a run that stopped."""

    data: DataFolder
    recipe: OfRecipe
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
    compile: Compile = False


def run(words: Sequence[str]) -> None:
    recipe, fold, rest = find_recipe("train", words)
    default = TrainOptions(tyro.MISSING, RecipeOptions.of(recipe), Reading(), fold)
    options = parse(TrainOptions, rest, f"train {words[0]}", default)
    recipe = options.recipe.change(recipe)
    with main_process_first():  # that makes the synthetic data
        manifest = open_or_make_corpus(recipe, options.data)
    fold = manifest.folds[0] if options.fold is None and manifest.folds else options.fold
    folder = options.out or RUNS / recipe.name / ("" if fold is None else f"fold{fold}")
    train(
        recipe,
        manifest,
        folder,
        fold=fold,
        compile=options.compile,
        checkpoint_minutes=options.checkpoint_minutes,
        **options.reading.arguments(),
    )
    print(describe_results(folder))


def describe_results(folder: Path) -> str:
    """The final scores of a finished run, and where everything is."""
    results = read_results(folder)
    name, lines = results["validation_split"], []
    for split, scores in ((name, results["validation"]), ("test", results.get("test", {}))):
        for model, row in scores.items():
            epoch = f" (epoch {row['epoch']:.0f})" if "epoch" in row else ""
            scored = f"accuracy {row['accuracy']:.4f}, mAP {row['mAP']:.4f}"
            lines.append(f"{split}: {model}{epoch}: {scored}")
    if "test" not in results:
        lines.append(f"best is chosen on {name}, so it flatters; quote the last")
    return "\n".join([*lines, f"model {folder / 'last'}", f"plots {folder / 'plots'}"])
