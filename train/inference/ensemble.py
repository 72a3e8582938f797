"""`ast-audio ensemble`: the mean of several models' probabilities, and what it gains."""

from __future__ import annotations

import torch
from torch import Tensor

from train.cli.options import EnsembleOptions
from train.device import choose_device, choose_precision
from train.inference.report import Evaluation, score
from train.inference.selection import Selection, load_trained, select
from train.metrics import evaluate_scores
from train.run_folder import write_predictions
from train.run_log import to_probabilities

SCORES = ("accuracy", "mAP", "AUC")


def ensemble(options: EnsembleOptions) -> None:
    """Print the scores of each model and of the ensemble, and write its predictions with `out`.

    Models may differ in everything but their classes: each has its own front end.

    Raises:
        FileNotFoundError, ValueError: a model or the data cannot be read or do not fit, fewer than
            two models, or runs that held out different clips.
    """
    if len(options.models) < 2:
        raise ValueError("an ensemble is of two models or more; name them")
    device = choose_device(options.reading.device)
    precision = choose_precision(options.precision, device)
    first: Selection | None = None
    rows: dict[str, dict[str, float]] = {}
    total = torch.zeros(())
    for source in options.models:  # one model in memory at a time
        trained = load_trained(source, device)
        selection = select(trained, options.data, options.corpus, options.fold, options.split)
        first = first or selection
        _require_same_clips(source, selection, options.models[0], first)
        evaluation = score(trained, selection, options.reading, precision)
        rows[source] = evaluation.scores
        total = total + _probabilities(evaluation)
    mean = total / len(options.models)
    # Ranked by themselves: these scores do not change with a logarithm or a sigmoid.
    rows["ensemble"] = evaluate_scores(
        mean.numpy(), evaluation.targets.numpy(), first.manifest.multi_label, sigmoid=True
    )
    print(f"{first.corpus}, {first.name}, {len(first.clips)} clips")
    print(_table(rows))
    if options.out:
        file = options.out / "predictions.csv"
        write_predictions(file, first.clips, first.manifest.classes, mean)
        print(f"wrote {file}")


def _probabilities(evaluation: Evaluation) -> Tensor:
    """float64: in float32, a sure model's other classes would all be 0, and not be ranked."""
    return to_probabilities(evaluation.logits.double(), evaluation.sigmoid)


def _require_same_clips(
    source: str, selection: Selection, first_source: str, first: Selection
) -> None:
    if selection.clips != first.clips:
        raise ValueError(
            f"{first_source} held out {first.name} and {source} {selection.name}, so each was "
            "trained on what another one holds out; give --fold or --split to choose, and models "
            "that were not trained on it"
        )


def _table(rows: dict[str, dict[str, float]]) -> str:
    width = max(map(len, rows))
    header = f"{'':{width}}  " + "  ".join(f"{name:>8}" for name in SCORES)
    lines = [
        f"{name:{width}}  " + "  ".join(f"{scores[key]:8.4f}" for key in SCORES)
        for name, scores in rows.items()
    ]
    return "\n".join([header, *lines])
