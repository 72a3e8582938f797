"""A table's report from its finished runs: `table.md`, `table.csv` and `table.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import atomic_file, write_json
from train.experiments.cost import Cost, measure, read_cost
from train.experiments.run_table import require_recipe
from train.experiments.statistics import Difference, Estimate, Scores, difference, estimate
from train.experiments.table import Row, Table
from train.recipe import Recipe
from train.run.folder import RunRecord, count_classes, find_runs, read_run, write_table
from train.run.plots import score_against_cost

COST = "cost.json"
DEFAULT_COST_BATCH = 8  # clips at a time


@dataclass(frozen=True)
class RowResult:
    """What the runs of one row and its measured cost say."""

    row: Row
    cost: Cost
    scores: Scores  # of the finished runs
    num_unfinished: int

    @property
    def score(self) -> Estimate:
        return estimate(list(self.scores.values()))


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
    runs = {row.name: _runs(out / row.name, recipes[row.name]) for row in table.rows}
    finished = [run for runs_of_row in runs.values() for run in runs_of_row if run.finished]
    if not finished:
        raise ValueError(f"{out} has no finished run of table {table.name}; run it first")
    if len({run.fingerprint for run in finished}) > 1:
        raise ValueError(f"the runs in {out} are not of the same data; give a new --out")
    num_classes = count_classes(finished[0].folder)
    results = [
        RowResult(
            row,
            _cost(out / row.name / COST, recipes[row.name], num_classes, cost_batch, device),
            {(run.fold, run.recipe.seed): run.score for run in runs[row.name] if run.finished},
            sum(not run.finished for run in runs[row.name]),
        )
        for row in table.rows
    ]
    differences = _differences(table, results)
    text = markdown(table, results, differences, finished, chosen_otherwise(table, recipes))
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_table(out / "table.csv", [_csv_row(result, differences) for result in results])
    _draw(table, results, finished[0], out / "table.png")
    return text


def chosen_otherwise(table: Table, recipes: Mapping[str, Recipe]) -> list[str]:
    """In what else than their own fields rows differ from the reference: "none (epochs 40)".

    A recipe for own data chooses, for each row, what goes with the row's fields.
    """
    own = {row.name: set(row.changes) for row in table.rows}
    fields = {name: recipe.to_json() for name, recipe in recipes.items()}
    reference, found = fields[table.reference], []
    for name in own:
        others = fields[name].keys() - own[name] - own[table.reference]
        values = [
            f"{n} {fields[name][n]}" for n in sorted(others) if fields[name][n] != reference[n]
        ]
        found += [f"{name} ({', '.join(values)})"] if values else []
    return found


def _differences(table: Table, results: Sequence[RowResult]) -> dict[str, Difference]:
    """Of every row but the reference, by its name."""
    reference = next(result for result in results if result.row.name == table.reference)
    return {
        result.row.name: difference(result.scores, reference.scores)
        for result in results
        if result is not reference
    }


def _runs(folder: Path, recipe: Recipe) -> list[RunRecord]:
    runs = [read_run(run) for run in find_runs(folder)] if folder.is_dir() else []
    for run in runs:
        require_recipe(run, recipe, ignored=["seed"])
    return runs


def _cost(
    file: Path, recipe: Recipe, num_classes: int, batch_size: int | None, device: str
) -> Cost:
    """The stored cost, on whatever device it was measured, unless another batch size is wanted."""
    if file.is_file():
        stored = read_cost(file)
        if batch_size in (None, stored.batch_size):
            return stored
    cost = measure(recipe, num_classes, batch_size or DEFAULT_COST_BATCH, device)
    write_json(file, vars(cost))
    return cost


def markdown(
    table: Table,
    results: Sequence[RowResult],
    differences: Mapping[str, Difference],
    finished: Sequence[RunRecord],
    chosen: Sequence[str] = (),
) -> str:
    """The table and how to read it, scores in percent."""
    recipe = finished[0].recipe
    published = [
        name for name in ("balanced", "full") if any(getattr(each.row, name) for each in results)
    ]
    header = ["row", "patches", "parameters (M)", "GFLOPs", "training clips/s", "training GB"]
    header += ["inference clips/s", "inference GB", f"{recipe.metric} (%)", "95 % interval"]
    header += ["difference", "95 % interval", "p", "runs"]
    header += [f"paper: AudioSet {name} mAP" for name in published]
    rows = [header, ["---"] * len(header)]
    for result in results:
        paper = [_or_dash(getattr(result.row, name), "{:.3f}") for name in published]
        rows.append([*_cost_cells(result), *_score_cells(result, differences), *paper])
    return "\n".join(
        [
            f"### {table.title}: {recipe.name}, {recipe.corpus}",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *verdicts(table, results, differences),
            "",
            notes(table, results, finished, bool(published), chosen),
            "",
        ]
    )


def _cost_cells(result: RowResult) -> list[str]:
    cost = result.cost
    return [
        result.row.name,
        _or_dash(cost.patches, "{:,}"),
        f"{cost.parameters / 1e6:.2f}",
        f"{cost.flops / 1e9:.2f}",
        f"{cost.training_speed:.1f}",
        f"{cost.training_memory / 1e9:.2f}",
        f"{cost.inference_speed:.1f}",
        f"{cost.inference_memory / 1e9:.2f}",
    ]


def _score_cells(result: RowResult, differences: Mapping[str, Difference]) -> list[str]:
    score, versus = result.score, differences.get(result.row.name)
    if not score.count:
        return ["not run", "-", "-", "-", "-", "0"]
    mean = f"{100 * score.mean:.2f}"
    mean += "" if score.sd is None else f" ± {100 * score.sd:.2f}"
    cells = [mean, _interval(score)]
    if versus is None:
        cells += ["reference", "-", "-"]
    elif not versus.estimate.count:
        cells += ["-", "-", "-"]
    else:
        p = "-" if versus.p is None else "< 0.001" if versus.p < 0.001 else f"{versus.p:.3f}"
        cells += [f"{100 * versus.estimate.mean:+.2f}", _interval(versus.estimate, "+"), p]
    return [*cells, str(score.count)]


def _interval(values: Estimate, sign: str = "") -> str:
    if values.low is None:
        return "-"
    return f"{100 * values.low:{sign}.2f} to {100 * values.high:{sign}.2f}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def verdicts(
    table: Table, results: Sequence[RowResult], differences: Mapping[str, Difference]
) -> list[str]:
    """A sentence a row: what its difference to the reference shows."""
    return [
        f"- {result.row.name} against {table.reference}: {differences[result.row.name].verdict}."
        if result.scores
        else f"- {result.row.name}: not run."
        for result in results
        if result.row.name != table.reference
    ]


def notes(
    table: Table,
    results: Sequence[RowResult],
    finished: Sequence[RunRecord],
    published: bool,
    chosen: Sequence[str],
) -> str:
    """What the columns mean, and what makes the rows hard to compare."""
    costs = [result.cost for result in results]
    devices = sorted({f"{cost.device}, {cost.precision}" for cost in costs})
    folds = sorted({str(run.fold) for run in finished if run.fold is not None})
    seeds = sorted({run.recipe.seed for run in finished})
    sentences = [
        f"Score: {finished[0].score_name}; mean ± standard deviation (n - 1) over "
        + (f"{_listed('fold', folds)} and " if folds else "")
        + f"{_listed('seed', seeds)}.",
        "Intervals: 95 %, Student's t; they take the runs as independent, which seeds on one fold "
        f"are only of that fold. Difference: row minus {table.reference}, paired by fold and seed, "
        "paired t test, not corrected for several comparisons.",
        "GFLOPs: forward pass of one clip, counted, a multiplication and an addition are two.",
        f"Speed and peak memory: batches of {costs[0].batch_size} on {'; '.join(devices)}; on a "
        "GPU the memory allocated there, else that of the whole process.",
    ]
    if chosen:
        sentences.append(
            f"Beside its own fields a row has what the data chose for it, otherwise than for "
            f"{table.reference}: {'; '.join(chosen)}."
        )
    if len(devices) > 1:
        sentences.append("Rows were measured on different devices: their speeds do not compare.")
    precisions = sorted({run.precision for run in finished})
    if len(precisions) > 1:
        sentences.append(f"Runs differ in precision ({', '.join(precisions)}).")
    unfinished = [
        f"{each.num_unfinished} of {each.row.name}" for each in results if each.num_unfinished
    ]
    if unfinished:
        sentences.append(f"Runs not finished, so not counted: {', '.join(unfinished)}.")
    if published:
        sentences.append(
            "The paper's figures are of base384 on AudioSet: expect their order on other data, not "
            "their height."
        )
    return " ".join(sentences)


def _listed(name: str, values: Sequence[object]) -> str:
    return f"{name}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"


def _csv_row(result: RowResult, differences: Mapping[str, Difference]) -> dict[str, object]:
    score, versus = result.score, differences.get(result.row.name)
    gap = versus.estimate if versus else None
    return {
        "row": result.row.name,
        **vars(result.cost),
        "runs": score.count,
        "score": score.mean if score.count else None,
        "score_sd": score.sd,
        "score_low": score.low,
        "score_high": score.high,
        "difference": gap.mean if gap and gap.count else None,
        "difference_low": gap and gap.low,
        "difference_high": gap and gap.high,
        "p": versus and versus.p,
        "pairs": gap and gap.count,
        "paper_balanced_mAP": result.row.balanced,
        "paper_full_mAP": result.row.full,
    }


def _draw(table: Table, results: Sequence[RowResult], run: RunRecord, path: Path) -> None:
    points = {
        result.row.name + (" (reference)" if result.row.name == table.reference else ""): (
            result.cost.flops / 1e9,
            100 * result.score.mean,
            None if result.score.low is None else 100 * (result.score.high - result.score.mean),
        )
        for result in results
        if result.scores
    }
    quoted = run.quoted
    split = "test" if quoted.split == "test" else "validation"
    clips = "" if quoted.clips is None else f", {quoted.clips:,} clips a run"
    intervals = any(half is not None for _, _, half in points.values())
    bars = "95 % interval of the mean" if intervals else "none, a row has one run"
    title = (
        f"{table.title}: {run.recipe.name}, {run.recipe.corpus}\n{split} split{clips}; bars: {bars}"
    )
    axis = f"{run.recipe.metric} on {split} (%)"
    score_against_cost(points, path, title, axis, quoted.chance)
