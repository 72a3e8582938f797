"""What a model card says of where a model comes from: its source, its run, its score."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from train.run.folder import (
    METRICS,
    PREDICTIONS,
    RECIPE,
    TEST_PREDICTIONS,
    Row,
    RunRecord,
    read_metrics,
    read_predictions,
    read_results,
    read_run,
)
from weights.card import Score

NO_SCORES = {"epoch", "learning_rate", "train_loss"}  # columns of metrics.csv


def provenance(
    origin: str,
    source: Path,
    run: Path | None,
    requests: dict[str, Any],
    epoch: int | None = None,
) -> dict[str, Any]:
    """Arguments of `model_card`, beside the model and its name.

    Args:
        origin: the source as it was given.
        source: the model's folder or file.
        run: the run folder that it lies in.
        requests: what was asked of the conversion; a changed model has no score.
        epoch: of the run that the model is of; the run may have gone on since it was read. None:
            an earlier version did not store it.

    Raises:
        ValueError: a record of the run is damaged.
    """
    if run is None:
        return {"origin": origin, "requests": requests}
    try:
        record = read_run(run)
        score = None if requests else _score(record, source.name, epoch)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{run} holds a damaged {RECIPE}, {METRICS} or other record ({error}); to convert the "
            f"model without its history, copy {source} elsewhere"
        ) from error
    return {"requests": requests, "recipe": record.recipe.to_json(), "score": score}


def _score(run: RunRecord, model: str, epoch: int | None) -> Score | None:
    """What the run measured of `last/`, `best/` or `averaged/`: the test split goes first."""
    results = read_results(run.folder) if run.finished else {}
    if epoch not in (None, results.get("validation", {}).get(model, {}).get("epoch")):
        results = {}  # of a later epoch's model
    if "test" in results:
        remark = "Neither training nor the choice of an epoch looked at these clips."
        row, split, predictions = results["test"][model], "test", TEST_PREDICTIONS
    else:
        row = _validation_row(run, model, results, epoch)
        if row is None:
            return None
        remark = _remark(model, row, run.recipe.metric)
        name = results.get("validation_split", "" if run.fold is None else f"fold {run.fold}")
        split = f"{name} (validation split)" if name not in ("", "validation") else "validation"
        predictions = PREDICTIONS
    metrics = {name: float(value) for name, value in row.items() if name not in NO_SCORES}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    file = run.folder / predictions
    clips = len(read_predictions(file)) if file.is_file() else None
    return Score(finite, run.recipe.corpus, split, clips, remark)


def _validation_row(
    run: RunRecord, model: str, results: dict[str, Any], epoch: int | None
) -> Row | None:
    """Scores on the validation split; None where there are none yet."""
    if results:
        return results["validation"].get(model)
    rows = list(read_metrics(run.folder))
    if not rows or model == "averaged":
        return None
    if epoch is not None:
        return next((row for row in rows if row["epoch"] == epoch), None)
    return rows[-1] if model == "last" else max(rows, key=run.recipe.better)


def _remark(model: str, row: Row, metric: str) -> str:
    """A sentence on what the figures are of."""
    if model == "averaged":
        return "The figures are of the mean of several epochs' weights."
    epoch = f"{row['epoch']:.0f}"
    if model == "last":
        return f"The figures are of the last epoch, {epoch}."
    return (
        f"The figures are of epoch {epoch}, chosen because its {metric} on these very clips was "
        "the highest, so they flatter."
    )
