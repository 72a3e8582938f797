"""`ast-audio ablate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from data import Manifest
from train.cli import PROGRAM
from train.cli.options import (
    DATA_HELP,
    TO_FOLDER,
    Compile,
    Reading,
    RecipeOptions,
    find_recipe,
    open_or_make_corpus,
    parse,
    unless_given,
)
from train.cli.train import RUNS
from train.experiments.jackknife import write_groups
from train.experiments.run_table import (
    check_folders,
    choose_rows,
    plan_runs,
    require_data,
    rows_chosen_before,
    run_table,
)
from train.experiments.table import named_checkpoints
from train.experiments.table_report import write_report
from train.experiments.tables import TABLES, load_table
from train.recipe import Recipe
from train.run.folder import find_runs, folder_name, read_run

USAGE = f"""usage: {PROGRAM} ablate TABLE RECIPE --data FOLDER [OPTIONS]

tables: {", ".join(TABLES)}, or a Python file of your own with
  from train.experiments.table import Row, Table
  TABLE = Table("lr", "Learning rate", [Row("a", {{"learning_rate": 1e-4}}), …], "a")
which is a program, and runs as you: read one that you did not write before you give it.

`{PROGRAM} ablate TABLE --help` lists the recipes, `… TABLE RECIPE --help` the options.
"""


@dataclass(frozen=True)
class AblateOptions:
    """Train every row of a table with every fold and seed, and report.

    The same command again goes on where it stopped. Processes and machines that share --out work
    on one table at a time: each run is trained by one of them, and a dead one's run is taken over.
    Fields of the recipe that are given hold for every row, save where the row has its own; what a
    recipe for own data leaves to the data is chosen once for each row.
    """

    recipe: RecipeOptions
    reading: OmitArgPrefixes[Reading]
    data: Annotated[
        Path | None,
        arg(metavar="PATH", help=DATA_HELP, help_behavior_hint="(needed unless --report)"),
    ] = None
    folds: Annotated[tuple[int, ...], unless_given("the first")] = ()
    """Folds to validate on, of a data set with folds; a run each."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each row is trained with each of them."""
    rows: Annotated[tuple[str, ...], unless_given("all")] = ()
    """Rows of the table."""
    reference: Annotated[str | None, unless_given("the table's", "ROW")] = None
    """Row that the others are compared with."""
    checkpoint: Annotated[tuple[str, ...], unless_given("none", "MODEL|NAME=MODEL …")] = ()
    """Models that rows start from (table pretraining): one, of the row checkpoint; or several, of
    rows of these names."""
    out: Annotated[Path | None, TO_FOLDER, unless_given("runs/ablate/TABLE")] = None
    """Folder of the table: ROW/seedS/foldF, table.md, .csv, .png."""
    compile: Compile = False
    report: bool = False
    """Train nothing: tabulate the finished runs again. Clips of a table of an older version get
    their groups from --data."""
    cost_batch: Annotated[int | None, unless_given("as measured before, else 8", "INT")] = None
    """Clips at a time when speed and memory are measured, once a row; another number than last
    time measures anew."""


def run(words: Sequence[str]) -> None:
    if not words or words[0].startswith("-"):
        print(USAGE, end="")
        raise SystemExit(0 if words and words[0] in ("-h", "--help") else 2)
    table = load_table(words[0])
    base, _, rest = find_recipe(f"ablate {table.name}", words[1:])
    default = AblateOptions(RecipeOptions.of(base), Reading())
    command = f"ablate {table.name} {words[1]}"
    options = parse(AblateOptions, rest, command, default, base.from_data)
    recipe = options.recipe.change(base)
    if recipe.seed != base.seed:
        raise ValueError(f"--seed {recipe.seed} is one run's seed; a table has --seeds")
    table = table.with_checkpoints(named_checkpoints(options.checkpoint))
    table = table.select(options.rows, options.reference)
    out = options.out or RUNS / "ablate" / folder_name(table.name, "table")
    recipes = rows_chosen_before(table.recipes(recipe), out)
    if options.data is None and not options.report:
        raise ValueError("training needs --data FOLDER; without it, there is --report")
    manifest = open_or_make_corpus(recipe, options.data) if options.data else None
    if options.report and manifest and out.is_dir():
        require_data([read_run(run) for run in find_runs(out)], manifest)
        write_groups(out, manifest)
    if not options.report:
        recipes = choose_rows(recipes, manifest, options.reading.clip_cache())
        if not _train(recipes, out, manifest, options):
            print("the same command comes back to what is not finished, and reports at the end")
            return
    print(f"\n{write_report(table, recipes, out, options.cost_batch, options.reading.device)}")
    print(f"table {out / 'table.md'}, {out / 'table.csv'}\nplot {out / 'table.png'}")


def _train(
    recipes: dict[str, Recipe], out: Path, manifest: Manifest, options: AblateOptions
) -> bool:
    """Train what is not finished; whether all of it is now."""
    folds = options.folds or manifest.folds[:1] or (None,)
    runs = plan_runs(recipes, out, folds, options.seeds)
    check_folders(folds, recipes, out, manifest)
    write_groups(out, manifest)
    in_use = run_table(runs, manifest, compile=options.compile, **options.reading.arguments())
    for name, holder in in_use.items():
        print(f"{name} is being trained by {holder}")
    return not in_use
