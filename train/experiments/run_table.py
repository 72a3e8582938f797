"""The runs of a table: planned, checked, and trained by this process or others beside it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data import Manifest
from data.cache import ClipCache
from data.files import is_leftover, write_json
from data.splits import split_clips
from train.init_model import require_source
from train.loop import train
from train.preparation.choose import choose, chosen_before
from train.preparation.preflight import require_learnable
from train.recipe import Recipe
from train.run.folder import (
    RESULTS,
    RunRecord,
    cut_off,
    find_runs,
    fingerprint,
    read_run,
    recipe_differences,
)
from train.run.lock import RunInUse, claim, is_lock
from train.run.log import check_folder
from train.run.said_once import said_once

ROW = "row.json"  # a row's recipe, as `ast-audio train` takes it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a table, trained or still to be."""

    recipe: Recipe
    fold: int | None
    folder: Path  # OUT/ROW/seedS/foldF, or OUT/ROW/seedS/run where there are no folds

    @property
    def name(self) -> str:
        """ROW/seedS/foldF."""
        return "/".join(self.folder.parts[-3:])

    @property
    def finished(self) -> bool:
        """Whether its scores are written."""
        return (self.folder / RESULTS).is_file()

    @property
    def cut_off(self) -> bool:
        """Whether it ended between its scores and the state that is written after them."""
        return cut_off(self.folder, self.recipe.epochs)

    @property
    def settled(self) -> bool:
        """Whether it is finished, and nothing that its process left is to be put in order."""
        if not self.finished or self.cut_off:
            return False
        return not any(is_leftover(path) or is_lock(path) for path in self.folder.rglob("*"))


def plan_runs(
    recipes: Mapping[str, Recipe], out: Path, folds: Sequence[int | None], seeds: Sequence[int]
) -> list[PlannedRun]:
    """Every row with every fold and seed, in the order in which they are trained.

    All rows of one seed and fold come before the next, so that a table that is stopped early has
    rows to compare.
    """
    return [
        PlannedRun(
            replace(recipe, seed=seed),
            fold,
            out / name / f"seed{seed}" / ("run" if fold is None else f"fold{fold}"),
        )
        for seed in dict.fromkeys(seeds)
        for fold in dict.fromkeys(folds)
        for name, recipe in recipes.items()
    ]


def check_folders(
    folds: Sequence[int | None], recipes: Mapping[str, Recipe], out: Path, manifest: Manifest
) -> None:
    """Check all earlier runs of the rows, before any is trained, and write every row's recipe.

    Those of other seeds and folds too: they are tabulated with the new ones.

    Raises:
        ValueError: a folder holds a run of another recipe or other data, or a fold does not exist.
    """
    for fold in folds:
        split_clips(manifest, fold, seed=0)  # raises if there is no such fold
    for name, recipe in recipes.items():
        runs = runs_of_row(out / name, recipe)
        require_data(runs, manifest)
    for name, recipe in recipes.items():
        write_json(out / name / ROW, {"recipe": recipe.to_json(), "fold": None})


def rows_chosen_before(recipes: Mapping[str, Recipe], out: Path) -> dict[str, Recipe]:
    """The recipes of a table that was begun in `out`, with what their rows chose then.

    Of a new table, and of a new row, the recipe as it is.
    """
    if not out.is_dir() or not find_runs(out):
        return dict(recipes)
    return {
        name: chosen_before(recipe, out / name / ROW) or recipe for name, recipe in recipes.items()
    }


@said_once()
def choose_rows(
    recipes: Mapping[str, Recipe], manifest: Manifest, cache: ClipCache | None = None
) -> dict[str, Recipe]:
    """Every row's recipe with what it leaves to the data chosen, as if it were trained alone.

    By the training clips of one split, that of the first fold or of the recipe's own seed, for all
    folds and seeds. What does not follow from a row's own fields is equal in all rows.
    """
    chosen, first = dict(recipes), None
    for name, recipe in recipes.items():
        if not recipe.from_data:
            continue
        require_learnable(recipe, manifest)
        require_source(recipe)
        clips = split_clips(manifest, None, recipe.seed, recipe.clips_per_class).train
        chosen[name] = choose(recipe, clips, cache, manifest.classes)
        if first is None:
            first = chosen[name]
            logger.info(f"row {name}: trained with these")
            continue
        values = {each: getattr(chosen[name], each) for each in sorted(recipe.from_data)}
        otherwise = [f"{n} {v}" for n, v in values.items() if v != getattr(first, n)]
        but = f", but {', '.join(otherwise)}" if otherwise else ""
        logger.info(f"row {name}: trained with the same{but}")
    return chosen


def runs_of_row(folder: Path, recipe: Recipe) -> list[RunRecord]:
    """The runs of a row, of any seed and fold.

    Raises:
        ValueError: one is of another recipe.
    """
    runs = [read_run(run) for run in find_runs(folder)] if folder.is_dir() else []
    for run in runs:
        require_recipe(run, recipe, ignored=["seed"])
    return runs


def require_data(runs: Sequence[RunRecord], manifest: Manifest) -> None:
    """Raises ValueError unless the runs were trained on these data."""
    clips = fingerprint(manifest)
    for run in runs:
        if run.fingerprint != clips:
            raise ValueError(f"{run.folder} was trained on other data; give those, or a new --out")


def require_recipe(run: RunRecord, wanted: Recipe, ignored: Sequence[str] = ()) -> None:
    """Raises ValueError unless a run is of the wanted recipe, but for ignored fields."""
    if differences := recipe_differences(run, wanted, ignored):
        raise ValueError(
            f"{run.folder} holds a run of another recipe ({'; '.join(differences)}); give a new "
            "--out, or the options that it was trained with"
        )


@said_once()
def run_table(
    runs: Sequence[PlannedRun],
    manifest: Manifest,
    *,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
) -> dict[str, str]:
    """Train the runs that are not finished, except those that other processes are training.

    A run that fails does not stop the others. Runs in use are tried again as long as there was
    another one to train in the meantime. What a killed process left of a finished run is cleared;
    one that was killed before its last checkpoint is resumed, which writes that.

    Args:
        runs: as `plan_runs` gives them.
        device, cache, workers, compile: as `train`.

    Returns:
        The name of each run that is still in use, and by whom; empty if all runs are finished.

    Raises:
        ValueError: runs failed; the first one's reason is in the message.
    """
    options = {"device": device, "cache": cache, "workers": workers, "compile": compile}
    waiting, failures = [run for run in runs if not run.settled], {}
    in_use: dict[PlannedRun, str] = {}
    progress = True
    while waiting and progress:
        progress, in_use = False, {}
        for run in waiting:
            if run.settled:  # by another process, meanwhile
                continue
            try:
                if run.finished and not run.cut_off:
                    with claim(run.folder):
                        check_folder(run.folder, run.recipe, manifest, run.fold)
                    continue
                logger.info(f"\n{run.name}")
                train(run.recipe, manifest, run.folder, fold=run.fold, **options)
            except RunInUse as error:
                logger.info(f"left to {error.holder}")
                in_use[run] = error.holder
                continue
            except (ValueError, OSError) as error:
                logger.warning(f"{run.name} failed: {error}")
                failures[run.name] = error
            except torch.OutOfMemoryError as error:
                short = f"{str(error).partition('. ')[0]}; give a smaller --batch-size"
                logger.warning(f"{run.name} failed: {short}")
                failures[run.name] = ValueError(short)  # without the tensors that error holds on to
            progress = True
        waiting = list(in_use)
    if failures:
        name, error = next(iter(failures.items()))
        raise ValueError(
            f"{len(failures)} of {len(runs)} runs failed, first {name}: {error}; "
            "--report tabulates the finished ones"
        ) from error
    return {run.name: holder for run, holder in in_use.items()}
