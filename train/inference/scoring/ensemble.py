"""The mean of several models' probabilities, and what it gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.cache import ClipCache
from train.inference.scoring.evaluate import score
from train.inference.scoring.selection import Selection, load_trained, select
from train.metrics import evaluate_scores, to_probabilities


@dataclass(frozen=True)
class Ensemble:
    """What several models say of the same clips together, and how good each of them is."""

    selection: Selection  # its clips are those that were scored
    model_scores: dict[str, dict[str, float]]  # by the model as it was given
    scores: dict[str, float]  # of the ensemble; without a loss, since it has no logits
    probabilities: Tensor  # (clips, classes) float64, the mean


def ensemble(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    corpus: str | None = None,
    fold: int | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    skip_unreadable: bool | None = None,
    precision: str = "fp32",
    device: str = "auto",
    keep_tokens: float = 1.0,
    cache: ClipCache | None = None,
    workers: int | None = None,
) -> Ensemble:
    """Score several models and the mean of their probabilities.

    Models may differ in everything but their classes: each has its own front end.

    Args:
        models: two or more, as the one of `evaluate`, which explains the other arguments too.

    Raises:
        FileNotFoundError, ValueError: a model or the data cannot be read or do not fit, fewer than
            two models, or runs that validated on different clips.
    """
    if len(models) < 2:
        raise ValueError("an ensemble is of two models or more; name them")
    first: Selection | None = None
    model_scores: dict[str, dict[str, float]] = {}
    total = torch.zeros(())
    for source in models:  # one model in memory at a time
        trained = load_trained(source, device, precision, keep_tokens=keep_tokens)
        selection = select(trained, data, corpus, fold, split, columns)
        first = first or selection
        _require_same_clips(source, selection, models[0], first)
        evaluation = score(trained, selection, skip_unreadable, cache, workers)
        model_scores[str(source)] = evaluation.scores
        # float64: in float32, a sure model's other classes would all be 0, and not be ranked
        logits, multi_label = evaluation.logits.double(), trained.classifier.multi_label
        total = total + to_probabilities(logits, multi_label)
    mean = total / len(models)
    limits = torch.finfo(mean.dtype)  # of probabilities: torch.logit has one bound for both ends
    logits = mean.clamp(min=limits.tiny).log() - (-mean.clamp(max=1 - limits.eps)).log1p()
    scores = evaluate_scores(
        logits.numpy(), evaluation.targets.numpy(), first.manifest.multi_label, sigmoid=True
    )
    del scores["loss"]
    return Ensemble(evaluation.selection, model_scores, scores, mean)


def _require_same_clips(
    source: str | Path, selection: Selection, first_source: str | Path, first: Selection
) -> None:
    if selection.clips != first.clips:
        raise ValueError(
            f"{first_source} validated on {first.name} and {source} on {selection.name}, so each "
            "was trained on what another one validated on; give --fold or --split to choose, and "
            "models that were not trained on it"
        )
