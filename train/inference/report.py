"""`ast-audio evaluate`: a trained model's scores on a data set, and where they come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torch import Tensor, nn

from ast_model import AST
from ast_model.quantise import quantise
from train.cli.options import EvaluateOptions, Reading
from train.device import choose_device, choose_precision, compile_in_place
from train.evaluation import default_workers, predict_logits
from train.inference.selection import Selection, Trained, load_trained, select
from train.metrics import confusion_matrix, evaluate_scores
from train.plots import confusion
from train.run_folder import write_json, write_predictions
from train.run_log import to_probabilities
from train.tables import INSTALL, has_pyarrow, write_csv, write_parquet

ROWS_AT_ONCE = 1000  # of predictions.parquet


@dataclass(frozen=True)
class Evaluation:
    """What a model says of clips, and how good that is."""

    selection: Selection
    logits: Tensor  # (clips, classes) float32
    targets: Tensor  # (clips, classes) float32, 0 or 1
    sigmoid: bool
    scores: dict[str, float]
    vectors: Tensor | None = None  # (clips, width), what the head receives; None for a baseline

    @property
    def probabilities(self) -> Tensor:
        return to_probabilities(self.logits, self.sigmoid)

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each clip, (clips,) int64."""
        return self.logits.argmax(dim=1)


def evaluate(options: EvaluateOptions) -> None:
    """Print the scores, and write the report with `out`.

    Raises:
        FileNotFoundError, ValueError: the model or the data cannot be read, or do not fit.
    """
    device = choose_device(options.reading.device)
    trained = load_trained(options.model, device)
    selection = select(trained, options.data, options.corpus, options.fold, options.split)
    precision = choose_precision(options.precision, device)
    if precision == "int8":
        quantise(trained.classifier.model)
    if options.compile:
        compile_in_place(trained.classifier.model)
    evaluation = score(trained, selection, options.reading, precision)
    content = {
        "model": options.model,
        "corpus": selection.corpus,
        "part": selection.name,
        "fold": selection.fold,
        "clips": len(selection.clips),
        **evaluation.scores,
    }
    if options.out:
        write_report(evaluation, content, options.out)
    if options.json:
        print(json.dumps(content, indent=2))
        return
    print(f"{selection.corpus}, {selection.name}, {len(selection.clips)} clips")
    for name, value in evaluation.scores.items():
        print(f"  {name:10} {value:.4f}")
    if options.out:
        print(f"report {options.out}: {', '.join(sorted(p.name for p in options.out.iterdir()))}")


def score(trained: Trained, selection: Selection, reading: Reading, precision: str) -> Evaluation:
    """Run a model on the clips."""
    classifier = trained.classifier
    device = choose_device(reading.device)
    with _vectors_of(classifier.model) as vectors:
        logits, targets = predict_logits(
            classifier.model,
            classifier.frontend,
            selection.clips,
            precision,
            cache=reading.clip_cache(),
            workers=default_workers(device) if reading.workers is None else reading.workers,
        )
    sigmoid = classifier.multi_label
    scores = evaluate_scores(
        logits.numpy(), targets.numpy(), selection.manifest.multi_label, sigmoid
    )
    joined = torch.cat(vectors) if vectors else None
    return Evaluation(selection, logits, targets, sigmoid, scores, joined)


@contextmanager
def _vectors_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what an AST's head receives, its `embed`, while clips run through it anyway."""
    vectors: list[Tensor] = []
    if not isinstance(model, AST):
        yield vectors
        return
    hook = model.head_norm.register_forward_pre_hook(
        lambda _, inputs: vectors.append(inputs[0].float().cpu())
    )
    try:
        yield vectors
    finally:
        hook.remove()


def write_report(evaluation: Evaluation, content: dict[str, Any], folder: Path) -> None:
    """The files of a report.

    scores.json          what is printed
    per_class.csv        clips, average precision, precision, recall and F1 of each class
    confusion.csv, .png  clips by target and predicted class, of a corpus with one class a clip
    worst.csv            clips whose likeliest class they do not have, the most confident first
    predictions.csv      clip, target, probability of each class
    predictions.parquet  the same with paths and vectors, where pyarrow is installed
    """
    selection = evaluation.selection
    clips, classes = selection.clips, selection.manifest.classes
    write_json(folder / "scores.json", content)
    write_csv(folder / "per_class.csv", PER_CLASS, per_class(evaluation))
    write_csv(folder / "worst.csv", WORST, worst(evaluation))
    write_predictions(folder / "predictions.csv", clips, classes, evaluation.probabilities)
    if not selection.manifest.multi_label:
        matrix = confusion_matrix(evaluation.logits.numpy(), evaluation.targets.numpy())
        rows = ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
        write_csv(folder / "confusion.csv", ("target", *classes), rows)
        title = f"{selection.corpus}, {selection.name}, {len(clips)} clips"
        confusion(matrix, classes, folder / "confusion.png", title)
    if has_pyarrow():
        write_parquet(folder / "predictions.parquet", _tables(evaluation))
    else:
        print(f"note: predictions.parquet left out: it needs pyarrow; {INSTALL}", file=sys.stderr)


PER_CLASS = ("class", "clips", "average_precision", "precision", "recall", "f1")


def per_class(evaluation: Evaluation) -> list[tuple[Any, ...]]:
    """Rows of `PER_CLASS`, as `evaluate_scores` averages them; None where there are no clips."""
    manifest = evaluation.selection.manifest
    targets = evaluation.targets.numpy() > 0
    logits = evaluation.logits.double()
    scores = (logits if evaluation.sigmoid else logits.log_softmax(dim=1)).numpy()
    top = evaluation.predicted.numpy()[:, None] == np.arange(len(manifest.classes))
    predicted = logits.numpy() > 0 if manifest.multi_label else top
    rows = []
    for index, name in enumerate(manifest.classes):
        target, count = targets[:, index], int(targets[:, index].sum())
        if not count:
            rows.append((name, 0, None, None, None, None))
            continue
        precision, recall, f1, _ = precision_recall_fscore_support(
            target, predicted[:, index], average="binary", zero_division=0
        )
        area = average_precision_score(target, scores[:, index])
        rows.append((name, count, *map(float, (area, precision, recall, f1))))
    return rows


WORST = ("clip", "target", "predicted", "probability")


def worst(evaluation: Evaluation) -> list[tuple[str, str, str, float]]:
    """Rows of `WORST`: the clips whose likeliest class they do not have, most confident first."""
    classes = evaluation.selection.manifest.classes
    mistakes = []
    for clip, index, probabilities in zip(
        evaluation.selection.clips,
        evaluation.predicted.tolist(),
        evaluation.probabilities,
        strict=True,
    ):
        if index not in clip.targets:
            target = "|".join(classes[target] for target in clip.targets)
            mistakes.append((str(clip.path), target, classes[index], float(probabilities[index])))
    return sorted(mistakes, key=lambda row: -row[3])


def _tables(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Columns that Renumics Spotlight shows: `path` as sound, `embedding` as a point on a map."""
    classes, clips = evaluation.selection.manifest.classes, evaluation.selection.clips
    for start in range(0, len(clips), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        probabilities = evaluation.probabilities[part].numpy()
        table: dict[str, Any] = {
            "path": [str(clip.path.resolve()) for clip in clips[part]],
            "target": ["|".join(classes[t] for t in clip.targets) for clip in clips[part]],
            "predicted": [classes[index] for index in evaluation.predicted[part].tolist()],
        }
        for index, name in enumerate(classes):
            table[f"probability {name}"] = probabilities[:, index].copy()
        if evaluation.vectors is not None:
            table["embedding"] = evaluation.vectors[part].numpy()
        yield table
