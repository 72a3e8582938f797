"""A table's report from its finished runs: `table.md`, `table.csv` and `table.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.files import atomic_file, write_json
from train.experiments.cost import Cost, measure, read_cost
from train.experiments.jackknife import read_groups, run_score
from train.experiments.run_table import runs_of_row
from train.experiments.statistics import Difference, differences
from train.experiments.table import Table
from train.experiments.table_text import RowResult, chosen_otherwise, markdown, words_for
from train.recipe import Recipe
from train.run.folder import RunRecord, count_classes, write_table
from train.run.plots import score_against_cost

COST = "cost.json"
DEFAULT_COST_BATCH = 8  # clips at a time


def write_report(
    table: Table,
    recipes: Mapping[str, Recipe],
    out: Path,
    cost_batch: int | None = None,
    device: str = "auto",
) -> str:
    """Write the table of the finished runs in `out`, and measure the costs that are not known yet.

    Args:
        recipes: of each row, by its name.
        out: folder with the runs, as `plan_runs` lays them out.
        cost_batch: clips at a time in measuring; rows measured with another number are measured
            anew. None: as measured before, else 8.
        device: to measure on; "auto", "cpu", "cuda", "cuda:1".

    Returns:
        The table, in Markdown.

    Raises:
        FileNotFoundError, ValueError: nothing is finished, a run is of another recipe, or the runs
            are not of the same data.
    """
    runs = {row.name: runs_of_row(out / row.name, recipes[row.name]) for row in table.rows}
    finished = [run for runs_of_row in runs.values() for run in runs_of_row if run.finished]
    if not finished:
        raise ValueError(f"{out} has no finished run of table {table.name}; run it first")
    if len({run.fingerprint for run in finished}) > 1:
        raise ValueError(f"the runs in {out} are not of the same data; give a new --out")
    groups = read_groups(out)
    results = [
        RowResult(
            row,
            _cost(out / row.name / COST, recipes[row.name], finished[0], cost_batch, device),
            {
                (run.fold, run.recipe.seed): run_score(run, groups)
                for run in runs[row.name]
                if run.finished
            },
            sum(not run.finished for run in runs[row.name]),
        )
        for row in table.rows
    ]
    versus = _differences(table, results)
    words = words_for(finished, bool(groups))
    text = markdown(table, results, versus, finished, chosen_otherwise(table, recipes), words)
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_table(out / "table.csv", [_csv_row(result, versus) for result in results])
    _draw(table, results, versus, finished[0], out / "table.png")
    return text


def _differences(table: Table, results: Sequence[RowResult]) -> dict[str, Difference]:
    """Of every row but the reference, by its name."""
    reference = next(result for result in results if result.row.name == table.reference)
    others = {result.row.name: result.scores for result in results if result is not reference}
    return differences(others, reference.scores)


def _cost(file: Path, recipe: Recipe, run: RunRecord, batch_size: int | None, device: str) -> Cost:
    """The stored cost, on whatever device it was measured, unless another batch size is wanted.

    Args:
        run: a finished one, which knows the number of classes.
    """
    if file.is_file():
        stored = read_cost(file)
        if batch_size in (None, stored.batch_size):
            return stored
    num_classes = count_classes(run.folder)
    cost = measure(recipe, num_classes, batch_size or DEFAULT_COST_BATCH, device)
    write_json(file, vars(cost))
    return cost


def _csv_row(result: RowResult, differences: Mapping[str, Difference]) -> dict[str, object]:
    score, versus = result.score, differences.get(result.row.name)
    gap = versus.estimate if versus else None
    low, high = score.interval() or (None, None)
    difference_low, difference_high = (gap and gap.interval()) or (None, None)
    corrected_low, corrected_high = (versus and versus.corrected_interval) or (None, None)
    known = gap and gap.is_known
    return {
        "row": result.row.name,
        **vars(result.cost),
        "runs": score.count,
        "score": score.mean if score.count else None,
        "score_sd": score.sd,
        "score_low": low,
        "score_high": high,
        "difference": gap.mean if gap and gap.count else None,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "p": gap and gap.p,
        "pairs": gap and gap.count,
        "corrected_low": corrected_low,
        "corrected_high": corrected_high,
        "corrected_p": versus and versus.corrected_p,
        "groups_of_clips": int(gap.spread.groups) if known else None,
        "variance_of_runs": gap.spread.parts[0] if known else None,
        "variance_of_clips": gap.spread.parts[1] if known else None,
        "variance_of_both": gap.spread.parts[2] if known else None,
        "paper_balanced_mAP": result.row.balanced,
        "paper_full_mAP": result.row.full,
    }


def _draw(
    table: Table,
    results: Sequence[RowResult],
    versus: Mapping[str, Difference],
    run: RunRecord,
    path: Path,
) -> None:
    """Every row's score against its cost, with the interval by which it is judged.

    An interval is of the difference between runs of the same seeds and folds. It is drawn at that
    distance from the reference, so that it reaches its line where it covers zero.
    """
    points, level, intervals = {}, None, []
    scored = [result for result in results if result.scores]
    for result in scored:
        if result.row.name == table.reference:
            level = 100 * result.score.mean
    for result in scored:
        name, middle, half = result.row.name, 100 * result.score.mean, None
        if name == table.reference:
            name = f"{name} (reference)"
        elif interval := versus[name].corrected_interval:
            low, high = (level + 100 * end for end in interval)
            middle, half = (low + high) / 2, (high - low) / 2
            intervals.append(half)
        points[name] = (result.cost.flops / 1e9, middle, half)
    quoted = run.quoted
    split = "test" if quoted.split == "test" else "validation"
    clips = "" if quoted.clips is None else f", {quoted.clips:,} clips a run"
    bars = "none, too few runs"
    if intervals:
        bars = f"corrected 95 % interval of the difference from {table.reference} (line)"
    title = (
        f"{table.title}: {run.recipe.name}, {run.recipe.corpus}\n{split} split{clips}\nbars: {bars}"
    )
    axis = f"{run.recipe.metric} on {split} (%)"
    score_against_cost(points, path, title, axis, quoted.chance, level)
