"""`ast-audio train`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes

from data import Manifest
from data.cache import ClipCache
from data.splits import split_clips
from train.cli.options import (
    TO_FOLDER,
    Compile,
    DataFolder,
    Fold,
    Reading,
    RecipeOptions,
    at_least,
    find_recipe,
    open_or_make_corpus,
    parse,
    unless_given,
)
from train.distributed import main_process_first, on_main_process
from train.init_model import require_source
from train.loop import train
from train.preparation.choose import AnyRecipe, choose, chosen_before
from train.preparation.preflight import require_learnable
from train.recipe import BaseRecipe, Recipe
from train.run.folder import RECIPE, folder_name, read_results

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainOptions:
    """Train a recipe; the same command again resumes a run that stopped."""

    data: DataFolder
    recipe: RecipeOptions
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
    options = parse(TrainOptions, rest, f"train {words[0]}", default, recipe.from_data)
    recipe = options.recipe.change(recipe)
    with main_process_first():  # that makes the synthetic data
        manifest = open_or_make_corpus(recipe, options.data)
    fold = manifest.folds[0] if options.fold is None and manifest.folds else options.fold
    folder = options.out or own_folder(recipe) / ("" if fold is None else f"fold{fold}")
    recipe = chosen(recipe, manifest, fold, [folder], options.reading.clip_cache())
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


def own_folder(recipe: BaseRecipe) -> Path:
    """Where a recipe's runs lie unless --out is given. Raises ValueError where it has none."""
    return RUNS / folder_name(recipe.name, "recipe")


def chosen(
    recipe: Recipe,
    manifest: Manifest,
    fold: int | None,
    folders: Sequence[Path],
    cache: ClipCache | None,
) -> Recipe:
    """The recipe with what it leaves to the data chosen, or as a run in one of the folders began.

    Args:
        fold: whose training clips are looked at; None as in `split_clips`.
    """

    def choose_once() -> Recipe:
        require_learnable(recipe, manifest)
        if not any((folder / RECIPE).is_file() for folder in folders):
            require_source(recipe)
        clips = split_clips(manifest, fold, recipe.seed, recipe.clips_per_class).train
        return choose(recipe, clips, cache, manifest.classes)

    return on_main_process(lambda: begun(recipe, folders) or choose_once())


def begun(recipe: AnyRecipe, folders: Iterable[Path]) -> AnyRecipe | None:
    """The recipe with what the data chose when a run in one of the folders began, if any did."""
    found = (chosen_before(recipe, folder / RECIPE) for folder in folders)
    return next(filter(None, found), None)


def describe_results(folder: Path) -> str:
    """The final scores of a finished run, and where everything is."""
    results = read_results(folder)
    name, lines = results["validation_split"], []
    epochs = {model: row["epoch"] for model, row in results["validation"].items() if "epoch" in row}
    for split in ("validation", "test"):
        clips = results.get("clips", {}).get(split)
        heading = name if split == "validation" else split
        heading += "" if clips is None else f" ({clips} clips)"
        for model, row in results.get(split, {}).items():
            epoch = f" (epoch {epochs[model]:.0f})" if model in epochs else ""
            scored = f"accuracy {row['accuracy']:.4f}, mAP {row['mAP']:.4f}"
            lines.append(f"{heading}: {model}{epoch}: {scored}")
    if "test" in results:
        lines.append(f"best is chosen on {name}, so it flatters there; quote it on test")
    else:
        model = "averaged weights" if "averaged" in results["validation"] else "last"
        lines.append(f"best is chosen on {name}, so it flatters; quote the {model}")
    return "\n".join([*lines, f"model {folder / 'last'}", f"plots {folder / 'plots'}"])
