"""A table of runs as Markdown: scores and costs of its rows, and what their differences show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from train.experiments.cost import Cost
from train.experiments.statistics import Difference, Estimate, Scores, estimate
from train.experiments.table import Row, Table
from train.recipe import Recipe
from train.run.folder import RunRecord


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


class Words(NamedTuple):
    """What the intervals take as drawn by chance."""

    runs: str  # seeds, or runs of folds and seeds
    clips: str  # clips, or their groups by the name of the column


def words_for(finished: Sequence[RunRecord], has_groups: bool) -> Words:
    """The words for these runs; `has_groups`: whether clips are drawn by group."""
    recipe = finished[0].recipe
    folds = {run.fold for run in finished}
    clips = f"{recipe.group_column or 'group'}s" if has_groups else "clips"
    return Words("seeds" if len(folds) == 1 else "runs", clips)


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


def markdown(
    table: Table,
    results: Sequence[RowResult],
    versus: Mapping[str, Difference],
    finished: Sequence[RunRecord],
    chosen: Sequence[str],
    words: Words,
) -> str:
    """The table and how to read it, scores in percent."""
    recipe = finished[0].recipe
    published = [
        name for name in ("balanced", "full") if any(getattr(each.row, name) for each in results)
    ]
    header = ["row", "patches", "parameters (M)", "GFLOPs", "training clips/s", "training GB"]
    header += ["inference clips/s", "inference GB", f"{recipe.metric} (%)", "95 % interval"]
    header += ["difference", "95 % interval", "corrected", "p", "corrected p", "runs"]
    header += [f"paper: AudioSet {name} mAP" for name in published]
    rows = [header, ["---"] * len(header)]
    for result in results:
        paper = [_or_dash(getattr(result.row, name), "{:.3f}") for name in published]
        rows.append([*_cost_cells(result), *_score_cells(result, versus), *paper])
    return "\n".join(
        [
            f"### {table.title}: {recipe.name}, {recipe.corpus}",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *verdicts(table, results, versus, words),
            "",
            notes(table, results, versus, finished, chosen, words),
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
        return ["not run", *["-"] * 6, "0"]
    mean = f"{100 * score.mean:.2f}"
    mean += "" if score.sd is None else f" ± {100 * score.sd:.2f}"
    cells = [mean, _interval(score.interval())]
    if versus is None:
        cells += ["reference", *["-"] * 4]
    elif not versus.estimate.count:
        cells += ["-"] * 5
    else:
        cells += [
            f"{100 * versus.estimate.mean:+.2f}",
            _interval(versus.estimate.interval(), "+"),
            _interval(versus.corrected_interval, "+"),
            _p(versus.estimate.p),
            _p(versus.corrected_p),
        ]
    return [*cells, str(score.count)]


def _interval(bounds: tuple[float, float] | None, sign: str = "") -> str:
    if bounds is None:
        return "-"
    return f"{100 * bounds[0]:{sign}.2f} to {100 * bounds[1]:{sign}.2f}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def verdicts(
    table: Table,
    results: Sequence[RowResult],
    versus: Mapping[str, Difference],
    words: Words,
) -> list[str]:
    """A sentence a row: what its difference to the reference shows, and what it hangs on."""
    return [
        f"- {result.row.name} against {table.reference}: {versus[result.row.name].verdict(*words)}."
        if result.scores
        else f"- {result.row.name}: not run."
        for result in results
        if result.row.name != table.reference
    ]


def notes(
    table: Table,
    results: Sequence[RowResult],
    versus: Mapping[str, Difference],
    finished: Sequence[RunRecord],
    chosen: Sequence[str],
    words: Words,
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
        _about_intervals(results, words),
        f"Difference: row minus {table.reference}, paired by fold, seed and clip; corrected: for "
        f"{sum(each.corrected_p is not None for each in versus.values())} comparisons, after Holm.",
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
    if any(each.row.balanced or each.row.full for each in results):
        sentences.append(
            "The paper's figures are of base384 on AudioSet: expect their order on other data, not "
            "their height."
        )
    return " ".join(sentences)


def _about_intervals(results: Sequence[RowResult], words: Words) -> str:
    """Which chance the intervals are of."""
    groups = {int(each.score.spread.groups) for each in results if each.score.spread}
    if not any(groups):
        return (
            f"Intervals: 95 %, Student's t, of the chance of the {words.runs} alone: the clips "
            "scored are taken as they are."
        )
    number = "" if words.clips == "clips" else f"{max(groups)} "
    return (
        f"Intervals: 95 %, Student's t, of the chance of the {words.runs} and of the {number}"
        f"{words.clips} scored (jackknife over the {words.clips}; Obuchowski and Rockette 1995). "
        f"They take the {words.runs} as independent."
    )


def _listed(name: str, values: Sequence[object]) -> str:
    return f"{name}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"
