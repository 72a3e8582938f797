"""What a run shows and leaves behind: lines, curves, tables, models, plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import weights
from data import Clip
from train.metrics import confusion_matrix
from train.plots import confusion, learning_curves
from train.run import METRICS, write_predictions, write_table
from train.training import Row, Training


def announce(training: Training, num_training: int, num_held_out: int, folder: Path) -> None:
    """What runs, on what, and from where."""
    recipe, config = training.recipe, training.model.config
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    device = training.model.head.weight.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{recipe.name}: {recipe.preset}, {parameters:,} parameters, {config.num_tokens} tokens; "
        f"{num_training} training clips, {num_held_out} held out; {name}, {recipe.precision}; "
        f"{folder}" + (f"; resuming after epoch {training.epoch}" if training.epoch else ""),
        flush=True,
    )


def report(training: Training, board: SummaryWriter, clips_per_second: float) -> None:
    """The epoch's row as a line on the terminal and as TensorBoard scalars."""
    row = training.rows[-1]
    for name, value in row.items():
        if name != "epoch":
            board.add_scalar(name, value, training.epoch)
    board.add_scalar("clips_per_second", clips_per_second, training.epoch)
    board.flush()
    print(
        f"epoch {training.epoch:3d}/{training.recipe.epochs}  "
        f"train loss {row['train_loss']:.3f}  loss {row['loss']:.3f}  "
        f"accuracy {row['accuracy']:.4f}  {clips_per_second:.1f} clips/s",
        flush=True,
    )


def save_epoch(training: Training, folder: Path, classes: Sequence[str], row: Row) -> None:
    """`metrics.csv`, `last/`, and `best/` where the held-out accuracy is the highest so far."""
    write_table(folder / METRICS, training.rows)
    weights.save(folder / "last", training.model, training.frontend, classes)
    if row["accuracy"] > max((old["accuracy"] for old in training.rows[:-1]), default=-1.0):
        weights.save(folder / "best", training.model, training.frontend, classes)


def save_results(
    training: Training,
    folder: Path,
    classes: Sequence[str],
    held_out: Sequence[Clip],
    logits: Tensor,
    targets: Tensor,
) -> None:
    """Predictions and plots of the last epoch."""
    write_predictions(folder / "predictions.csv", held_out, classes, logits.softmax(dim=-1))
    learning_curves({folder.name: training.rows}, folder / "plots" / "learning_curves.png")
    matrix = confusion_matrix(logits.numpy(), targets.numpy())
    title = f"{training.recipe.name}, {folder.name}, epoch {training.epoch}"
    confusion(matrix, classes, folder / "plots" / "confusion.png", title)
