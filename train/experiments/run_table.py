"""`ast-audio ablate`: train a table's rows, alone or with other processes, and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data import Manifest
from data.cache import ClipCache
from data.splits import split_clips
from train.experiments.runs import is_same_recipe, read_run
from train.lock import claimed
from train.loop import train
from train.recipe import Recipe
from train.run_folder import RECIPE, RESULTS, fingerprint, write_json

ROW = "row.json"  # a row's recipe, as `train` takes it


@dataclass(frozen=True)
class Run:
    """One training of a table."""

    recipe: Recipe
    fold: int | None
    folder: Path  # OUT/ROW/seedS/foldF, or OUT/ROW/seedS/run where there are no folds

    @property
    def name(self) -> str:
        return "/".join(self.folder.parts[-3:])

    @property
    def finished(self) -> bool:
        return (self.folder / RESULTS).is_file()


def planned_runs(
    recipes: Mapping[str, Recipe], out: Path, folds: Sequence[int | None], seeds: Sequence[int]
) -> list[Run]:
    """Every row with every fold and seed; all rows of one seed and fold before the next, so that a
    table that is stopped early has rows to compare."""
    return [
        Run(
            replace(recipe, seed=seed),
            fold,
            out / name / f"seed{seed}" / ("run" if fold is None else f"fold{fold}"),
        )
        for seed in dict.fromkeys(seeds)
        for fold in dict.fromkeys(folds)
        for name, recipe in recipes.items()
    ]


def check_folders(
    runs: Sequence[Run], recipes: Mapping[str, Recipe], out: Path, manifest: Manifest
) -> None:
    """Check what earlier commands left, before anything is trained, and write down every row.

    Raises:
        ValueError: a folder holds a run of another version, recipe or data, or a fold does not
            exist.
    """
    for fold in {run.fold for run in runs}:
        split_clips(manifest, fold, seed=0)  # that there is such a fold
    clips = fingerprint(manifest)
    for run in runs:
        if not (run.folder / RECIPE).is_file():
            continue
        past = read_run(run.folder)
        require_same(past.recipe, run.recipe, run.folder)
        if past.clips != clips:
            raise ValueError(f"{run.folder} was trained on other data; give a new --out")
    for name, recipe in recipes.items():
        write_json(out / name / ROW, {"recipe": recipe.to_json(), "fold": None})


def require_same(stored: Recipe, wanted: Recipe, folder: Path) -> None:
    """Raises ValueError unless the run in `folder` is of the wanted recipe."""
    if is_same_recipe(stored, wanted):
        return
    old, new = stored.to_json(), wanted.to_json()
    differing = [f"{name} {old[name]!r} -> {new[name]!r}" for name in new if old[name] != new[name]]
    raise ValueError(
        f"{folder} holds a run of another recipe ({'; '.join(differing)}); give a new --out, or "
        "the options that it was trained with"
    )


def run_table(
    runs: Sequence[Run],
    manifest: Manifest,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
) -> bool:
    """Train what is not finished; what another process trains is left to it.

    A run that fails does not stop the others. Runs that others held are looked at again as long as
    there was something to train meanwhile.

    Returns:
        Whether all runs are finished; if not, what others are still at has been printed.

    Raises:
        ValueError: runs failed; the first one's reason is in the message.
    """
    waiting, failures = [run for run in runs if not run.finished], {}
    progress = True
    while waiting and progress:
        progress, held = False, {}
        for run in waiting:
            with claimed(run.folder) as holder:
                if run.finished:  # by another process, meanwhile
                    continue
                if holder:
                    held[run] = holder
                    continue
                progress = True
                try:
                    _train(run, manifest, device, cache, workers, compile)
                except (ValueError, OSError) as error:
                    print(f"{run.name} failed: {error}", flush=True)
                    failures[run.name] = error
        waiting = list(held)
    for run in waiting:
        print(f"{run.name} is being trained by {held[run]}")
    if failures:
        name, error = next(iter(failures.items()))
        raise ValueError(
            f"{len(failures)} of {len(runs)} runs failed, first {name}: {error}; "
            "--report tabulates the finished ones"
        )
    return not waiting


def _train(
    run: Run,
    manifest: Manifest,
    device: str,
    cache: ClipCache | None,
    workers: int | None,
    compile: bool,
) -> None:
    print(f"\n{run.name}", flush=True)
    recipe = run.recipe
    if (run.folder / RECIPE).is_file():  # go on in the precision that it began in
        recipe = replace(recipe, precision=read_run(run.folder).recipe.precision)
    train(recipe, manifest, run.fold, run.folder, device, cache, workers, compile)
