"""A table's report from its finished runs: `table.md`, `table.csv` and `table.png`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import atomic_file
from train.experiments.cost import Cost, measure
from train.experiments.run_table import require_same
from train.experiments.runs import RunRecord, find_runs, read_run
from train.experiments.statistics import Difference, Estimate, Scores, difference, estimate
from train.experiments.table import Row, Table
from train.plots import score_against_cost
from train.recipe import Recipe
from train.run_folder import read_json, write_json, write_table

COST, COST_BATCH = "cost.json", 8  # clips at a time


@dataclass(frozen=True)
class Line:
    """What is known of one row."""

    row: Row
    cost: Cost
    scores: Scores
    unfinished: int  # runs

    @property
    def score(self) -> Estimate:
        return estimate(list(self.scores.values()))


def report(
    table: Table,
    recipes: Mapping[str, Recipe],
    out: Path,
    cost_batch: int | None = None,
    device: str = "auto",
) -> str:
    """Write the table of what is finished in `out`; what was not measured yet is measured.

    Args:
        cost_batch: clips at a time in measuring; rows measured with another number are measured
            anew. None: as measured, else 8.

    Returns:
        The table, in Markdown.

    Raises:
        FileNotFoundError, ValueError: nothing is finished, a run is of another version or recipe,
            or the runs are not of the same data.
    """
    runs = {row.name: _runs(out / row.name, recipes[row.name]) for row in table.rows}
    finished = [run for of_row in runs.values() for run in of_row if run.finished]
    if not finished:
        raise ValueError(f"{out} has no finished run of table {table.name}; run it first")
    if len({run.clips for run in finished}) > 1:
        raise ValueError(f"the runs in {out} are not of the same data; give a new --out")
    classes = _num_classes(finished[0])
    lines = [
        Line(
            row,
            _cost(out / row.name / COST, recipes[row.name], classes, cost_batch, device),
            {(run.fold, run.recipe.seed): run.score for run in runs[row.name] if run.finished},
            sum(not run.finished for run in runs[row.name]),
        )
        for row in table.rows
    ]
    differences = _differences(table, lines)
    text = markdown(table, lines, differences, finished)
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_table(out / "table.csv", [_csv_row(line, differences) for line in lines])
    _draw(table, lines, finished[0], out / "table.png")
    return text


def _differences(table: Table, lines: Sequence[Line]) -> dict[str, Difference]:
    """Of every row but the reference, by its name."""
    reference = next(line for line in lines if line.row.name == table.reference)
    return {
        line.row.name: difference(line.scores, reference.scores)
        for line in lines
        if line is not reference
    }


def _runs(folder: Path, recipe: Recipe) -> list[RunRecord]:
    runs = [read_run(run) for run in find_runs(folder)] if folder.is_dir() else []
    for run in runs:
        wanted = Recipe(**{**vars(recipe), "seed": run.recipe.seed})
        require_same(run.recipe, wanted, run.folder)
    return runs


def _num_classes(run: RunRecord) -> int:
    with (run.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return len(next(csv.reader(file))) - 2  # behind clip and target


def _cost(file: Path, recipe: Recipe, classes: int, batch_size: int | None, device: str) -> Cost:
    """Measured once, wherever that was, unless the batch is to be another."""
    if file.is_file():
        try:
            known = Cost(**read_json(file))
        except TypeError:
            raise ValueError(f"{file} is of another version; delete it to measure anew") from None
        if batch_size in (None, known.batch_size):
            return known
    cost = measure(recipe, classes, batch_size or COST_BATCH, device)
    write_json(file, vars(cost))
    return cost


def markdown(
    table: Table,
    lines: Sequence[Line],
    differences: Mapping[str, Difference],
    finished: Sequence[RunRecord],
) -> str:
    """The table and how to read it, scores in percent."""
    recipe = finished[0].recipe
    header = ["row", "patches", "parameters (M)", "GFLOPs", "training clips/s", "training GB"]
    header += ["inference clips/s", "inference GB", f"{recipe.metric} (%)", "95 % interval"]
    header += ["difference", "95 % interval", "p", "runs"]
    published = [name for name in ("balanced", "full") if any(getattr(x.row, name) for x in lines)]
    header += [f"paper: AudioSet {name} mAP" for name in published]
    cells = [header, ["---"] * len(header)]
    for line in lines:
        papers = [_number(getattr(line.row, name), "{:.3f}") for name in published]
        cells.append([*_cost_cells(line), *_score_cells(line, differences), *papers])
    return "\n".join(
        [
            f"### {table.title}: {recipe.name}, {recipe.corpus}",
            "",
            *(f"| {' | '.join(row)} |" for row in cells),
            "",
            *verdicts(table, lines, differences),
            "",
            *notes(table, lines, finished, bool(published)),
            "",
        ]
    )


def _cost_cells(line: Line) -> list[str]:
    cost = line.cost
    return [
        line.row.name,
        _number(cost.patches, "{:,}"),
        f"{cost.parameters / 1e6:.2f}",
        f"{cost.flops / 1e9:.2f}",
        f"{cost.training_speed:.1f}",
        f"{cost.training_memory / 1e9:.2f}",
        f"{cost.inference_speed:.1f}",
        f"{cost.inference_memory / 1e9:.2f}",
    ]


def _score_cells(line: Line, differences: Mapping[str, Difference]) -> list[str]:
    score, versus = line.score, differences.get(line.row.name)
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


def _interval(found: Estimate, sign: str = "") -> str:
    if found.low is None:
        return "-"
    return f"{100 * found.low:{sign}.2f} to {100 * found.high:{sign}.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def verdicts(
    table: Table, lines: Sequence[Line], differences: Mapping[str, Difference]
) -> list[str]:
    """A sentence a row: what its difference to the reference shows."""
    return [
        f"- {line.row.name} against {table.reference}: {differences[line.row.name].verdict}."
        if line.scores
        else f"- {line.row.name}: not run."
        for line in lines
        if line.row.name != table.reference
    ]


def notes(
    table: Table, lines: Sequence[Line], finished: Sequence[RunRecord], published: bool
) -> list[str]:
    """What the columns mean, and what makes them hard to compare."""
    costs = [line.cost for line in lines]
    devices = sorted({f"{cost.device}, {cost.precision}" for cost in costs})
    folds = sorted({str(run.fold) for run in finished if run.fold is not None})
    seeds = sorted({run.recipe.seed for run in finished})
    text = [
        f"Score: {finished[0].score_name}; mean ± standard deviation (n - 1) over "
        + (f"{_list('fold', folds)} and " if folds else "")
        + f"{_list('seed', seeds)}.",
        "Intervals: 95 %, Student's t; they take the runs as independent, which seeds on one fold "
        f"are only of that fold. Difference: row minus {table.reference}, paired by fold and seed, "
        "paired t test, not corrected for several comparisons.",
        "GFLOPs: forward pass of one clip, counted, a multiplication and an addition are two.",
        f"Speed and peak memory: batches of {costs[0].batch_size} on {'; '.join(devices)}; on a "
        "GPU the memory allocated there, else that of the whole process.",
    ]
    if len(devices) > 1:
        text.append("Rows were measured on different devices: their speeds do not compare.")
    precisions = sorted({run.recipe.precision for run in finished})
    if len(precisions) > 1:
        text.append(f"Runs differ in precision ({', '.join(precisions)}).")
    unfinished = [f"{line.unfinished} of {line.row.name}" for line in lines if line.unfinished]
    if unfinished:
        text.append(f"Runs not finished, so not counted: {', '.join(unfinished)}.")
    if published:
        text.append(
            "The paper's figures are those of its base384 on AudioSet: what order to expect, not "
            "what to reach on other data."
        )
    return [" ".join(text)]


def _list(name: str, values: Sequence[object]) -> str:
    return f"{name}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"


def _csv_row(line: Line, differences: Mapping[str, Difference]) -> dict[str, object]:
    score, versus = line.score, differences.get(line.row.name)
    gap = versus.estimate if versus else None
    row = {"row": line.row.name, **vars(line.cost), "runs": score.count}
    row |= {"score": score.mean if score.count else None, "score_sd": score.sd}
    row |= {"score_low": score.low, "score_high": score.high}
    row["difference"] = gap.mean if gap and gap.count else None
    row |= {f"difference_{name}": getattr(gap, name, None) for name in ("low", "high")}
    row |= {"p": versus.p if versus else None, "pairs": gap.count if gap else None}
    return row | {"paper_balanced_mAP": line.row.balanced, "paper_full_mAP": line.row.full}


def _draw(table: Table, lines: Sequence[Line], run: RunRecord, path: Path) -> None:
    points = {
        line.row.name + (" (reference)" if line.row.name == table.reference else ""): (
            line.cost.flops / 1e9,
            100 * line.score.mean,
            None if line.score.low is None else 100 * (line.score.high - line.score.mean),
        )
        for line in lines
        if line.scores
    }
    title = f"{table.title}: {run.recipe.name}, {run.recipe.corpus}"
    score_against_cost(points, path, title, f"{run.recipe.metric} (%)")
