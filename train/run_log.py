"""What a run shows and leaves behind: lines, curves, tables, models, plots, final scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import weights
from ast_model import AST
from ast_model.baseline import Baseline
from data import Clip, Manifest
from data.files import atomic_file
from data.splits import Splits
from train.distributed import barrier, is_main_process
from train.metrics import confusion_matrix
from train.plots import confusion, learning_curves
from train.run_folder import (
    METRICS,
    RESULTS,
    SKIPPED,
    read_json,
    write_json,
    write_predictions,
    write_table,
)
from train.training import Row, Training

Scorer = Callable[[AST | Baseline, Sequence[Clip]], tuple[Tensor, Row]]


def announce(training: Training, splits: Splits, folder: Path) -> None:
    """What runs, on what, and from where."""
    recipe, model = training.recipe, training.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = f" ({trained:,} trained)" if trained < parameters else ""
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    kind = recipe.model
    if recipe.model == "ast":
        kind = f"{recipe.preset}, {model.config.num_tokens} tokens"
    test = f", {len(splits.test)} to test" if splits.test else ""
    print(
        f"{recipe.name}: {kind}, {parameters:,} parameters{frozen}; "
        f"{len(splits.train)} training clips, "
        f"{len(splits.validation)} held out ({splits.validation_name}){test}; "
        f"{name}, {recipe.precision}; {folder}"
        + (f"; resuming after epoch {training.epoch}" if training.epoch else ""),
        flush=True,
    )


def report(training: Training, board: SummaryWriter, clips_per_second: float) -> None:
    """The epoch's row as a line on the terminal and as TensorBoard scalars."""
    row, metric = training.rows[-1], training.recipe.metric
    for name, value in row.items():
        if name != "epoch":
            board.add_scalar(name, value, training.epoch)
    board.add_scalar("clips_per_second", clips_per_second, training.epoch)
    board.flush()
    print(
        f"epoch {training.epoch:3d}/{training.recipe.epochs}  "
        f"train loss {row['train_loss']:.3f}  loss {row['loss']:.3f}  "
        f"{metric} {row[metric]:.4f}  {clips_per_second:.1f} clips/s",
        flush=True,
    )


def report_skipped(training: Training, folder: Path) -> None:
    """How many files could not be decoded so far, and the list of them."""
    if not training.skipped:
        return
    with atomic_file(folder / SKIPPED) as temporary:
        temporary.write_text("\n".join(training.skipped) + "\n", encoding="utf-8")
    print(f"{len(training.skipped)} unreadable files left out so far: {folder / SKIPPED}")


def save_epoch(training: Training, folder: Path, classes: Sequence[str]) -> None:
    """`metrics.csv`, `last/`, and `best/` where the held-out score is the highest so far."""
    write_table(folder / METRICS, training.rows)
    parts = (training.evaluated, training.frontend, classes, training.recipe.loss == "bce")
    weights.save(folder / "last", *parts)
    if training.best_epoch == training.epoch:
        weights.save(folder / "best", *parts)


def save_results(
    training: Training,
    folder: Path,
    manifest: Manifest,
    splits: Splits,
    logits: Tensor,
    score: Scorer,
) -> None:
    """Once, after the last epoch: predictions, plots, and `results.json` with every final score.

    Args:
        logits: (held-out clips, classes) of the last epoch.
        score: logits of a model on clips, (clips, classes), and their scores.
    """
    classes, sigmoid = manifest.classes, training.recipe.loss == "bce"
    held_out = {"last": training.rows[-1], "best": training.rows[training.best_epoch - 1]}
    models = {"best": folder / "best", "last": folder / "last"}
    if training.average is not None:
        averaged = training.average.module
        if is_main_process():
            weights.save(folder / "averaged", averaged, training.frontend, classes, sigmoid)
        held_out["averaged"] = score(averaged, splits.validation)[1]
        models["averaged"] = folder / "averaged"
    results: dict[str, Any] = {"held out": splits.validation_name, **held_out}
    test_logits = None
    if splits.test:
        barrier()  # the models are written
        device = next(training.model.parameters()).device
        results["test"] = {}
        for name, model_folder in models.items():
            model = weights.load(model_folder, device=device).model
            logits_of_one, results["test"][name] = score(model, splits.test)
            test_logits = logits_of_one if name == "best" else test_logits
    if is_main_process():
        draw_results(training, folder, manifest, splits, logits, test_logits)
        write_json(folder / RESULTS, results)


def draw_results(
    training: Training,
    folder: Path,
    manifest: Manifest,
    splits: Splits,
    logits: Tensor,
    test_logits: Tensor | None,
) -> None:
    """Predictions and plots; logits (clips, classes) of held-out clips and of the test part."""
    recipe, classes = training.recipe, manifest.classes
    sigmoid = recipe.loss == "bce"
    if test_logits is not None:
        file = folder / "test_predictions.csv"
        write_predictions(file, splits.test, classes, to_probabilities(test_logits, sigmoid))
    file = folder / "predictions.csv"
    write_predictions(file, splits.validation, classes, to_probabilities(logits, sigmoid))
    learning_curves({folder.name: training.rows}, folder / "plots" / "learning_curves.png")
    if not manifest.multi_label:
        matrix = confusion_matrix(logits.numpy(), one_hot(splits.validation, len(classes)))
        title = f"{recipe.name}, {folder.name}, epoch {training.epoch}"
        confusion(matrix, classes, folder / "plots" / "confusion.png", title)


def print_results(folder: Path) -> None:
    """The final scores of a finished run, and where everything is."""
    results = read_json(folder / RESULTS)
    scores = {name: row for name, row in results.items() if name not in ("held out", "test")}
    lines = [(results["held out"], name, row) for name, row in scores.items()]
    lines += [("test", name, row) for name, row in results.get("test", {}).items()]
    for part, name, row in lines:
        epoch = f" (epoch {row['epoch']})" if "epoch" in row else ""
        print(f"{part}: {name}{epoch}: accuracy {row['accuracy']:.4f}, mAP {row['mAP']:.4f}")
    if "test" not in results:
        print(f"best is chosen on {results['held out']}, so it flatters; quote the last")
    print(f"model {folder / 'last'}\nplots {folder / 'plots'}")


def to_probabilities(logits: Tensor, sigmoid: bool) -> Tensor:
    """As the model was trained: independent classes, or classes that sum to one."""
    return logits.sigmoid() if sigmoid else logits.softmax(dim=-1)


def one_hot(clips: Sequence[Clip], num_classes: int) -> np.ndarray:
    """Targets (clips, classes), 0 or 1."""
    targets = np.zeros((len(clips), num_classes), dtype=np.float32)
    for row, clip in zip(targets, clips, strict=True):
        row[list(clip.targets)] = 1
    return targets
