"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import weights
from ast_model import AST, Frontend
from data import Clip, Manifest
from data.augment import add_noise, roll, spec_augment
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, collate, epoch_batches
from train.device import autocast, choose_device, choose_precision
from train.evaluate import default_workers, predict_logits
from train.metrics import confusion_matrix, evaluate_scores
from train.plots import confusion, learning_curves
from train.recipe import Recipe
from train.run import METRICS, load_state, open_run, save_state, write_predictions, write_table
from train.schedule import learning_rate

Row = dict[str, float]


@dataclass
class Training:
    """A run in memory: everything that its state file holds, and where it stands."""

    recipe: Recipe
    model: AST
    frontend: Frontend
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    loss_sum: float = 0.0  # over the clips of those batches
    rows: list[Row] = field(default_factory=list)  # metrics.csv

    def state(self) -> dict[str, Any]:
        parts = {
            name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")
        }
        names = ("epoch", "batch", "loss_sum", "rows")
        return {**parts, **{name: getattr(self, name) for name in names}}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "batch", "loss_sum", "rows"):
            setattr(self, name, state[name])


def train(
    recipe: Recipe,
    manifest: Manifest,
    fold: int,
    folder: str | Path,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
) -> list[Row]:
    """Train on every fold but one, or go on where an earlier call with the same arguments stopped.

    On a CPU, a run that was killed at any point and resumed ends with the same parameters and
    metrics, bit for bit, as one that was not.

    Args:
        recipe: what to train.
        manifest: the data; `fold` is held out.
        folder: the run folder; a new one, or that of the run to resume.
        device: "auto" (GPU where there is one), "cpu", "cuda", "cuda:1".
        cache: where decoded clips are kept between epochs and runs.
        workers: decoding processes; None chooses by device.
        checkpoint_minutes: longest time between two checkpoints; one is written after every epoch.

    Returns:
        The rows of `metrics.csv`, one an epoch.

    Raises:
        ValueError: the fold does not exist, the folder holds another run, the loss is not finite.
        OSError: a file cannot be written; the last checkpoint is intact.
    """
    folder = Path(folder)
    place = choose_device(device)
    workers = default_workers(place) if workers is None else workers
    recipe = replace(recipe, precision=choose_precision(recipe.precision, place))
    training_clips, held_out = manifest.split(fold)
    training = build(recipe, len(manifest.classes), place)
    open_run(folder, recipe, manifest, fold)
    if (state := load_state(folder, place)) is not None:
        training.restore(state)
    announce(training, len(training_clips), len(held_out), folder)
    if training.epoch == recipe.epochs:
        return training.rows

    with SummaryWriter(str(folder / "tensorboard"), purge_step=training.epoch) as board:
        while training.epoch < recipe.epochs:
            start = time.monotonic()
            train_epoch(training, training_clips, folder, cache, workers, 60 * checkpoint_minutes)
            train_seconds = time.monotonic() - start
            logits, targets = predict_logits(
                training.model, training.frontend, held_out, recipe.precision,
                recipe.batch_size, cache, workers,
            )  # fmt: skip
            row = finish_epoch(training, logits, targets, len(training_clips))
            report(training, board, len(training_clips) / train_seconds)
            save_epoch(training, folder, manifest.classes, row)
            if training.epoch == recipe.epochs:
                save_results(training, folder, manifest.classes, held_out, logits, targets)
            save_state(folder, training.state())  # last: it declares everything above as done
    return training.rows


def build(recipe: Recipe, num_classes: int, device: torch.device) -> Training:
    """Model, front end, optimiser and scaler as they are before the first step."""
    if recipe.start_from != "scratch":
        raise ValueError(
            f"start_from {recipe.start_from} needs pretrained weights, which this version cannot "
            "load yet; use --start-from scratch"
        )
    torch.manual_seed(recipe.seed)
    model = AST(recipe.model_config(num_classes)).to(device)
    frontend = Frontend(recipe.frontend_config()).to(device)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    optimizer = kind(
        model.parameters(),
        recipe.learning_rate,
        recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,  # one kernel for all parameters, on a CPU too
    )
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    return Training(recipe, model, frontend, optimizer, scaler)


def train_epoch(
    training: Training,
    clips: Sequence[Clip],
    folder: Path,
    cache: ClipCache | None,
    workers: int,
    checkpoint_seconds: float,
) -> None:
    """The batches of one epoch that are not done yet."""
    recipe = training.recipe
    dataset = ClipDataset(
        clips,
        training.model.config.num_classes,
        training.frontend.config.sample_rate,
        cache,
        recipe.mixup_rate,
        recipe.seed,
        training.epoch,
    )
    batches = epoch_batches(len(clips), recipe.batch_size, recipe.seed, training.epoch)
    loader = DataLoader(
        dataset,
        batch_sampler=batches[training.batch :],
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    training.model.train()
    saved = time.monotonic()
    title = f"epoch {training.epoch + 1}/{recipe.epochs}"
    done = sum(map(len, batches[: training.batch]))
    with tqdm(
        total=len(clips), initial=done, desc=title, unit="clip", leave=False, disable=None
    ) as bar:
        for batch in loader:
            loss = train_step(training, batch, len(batches))
            training.batch += 1
            training.loss_sum += loss * len(batch.targets)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(len(batch.targets))
            if time.monotonic() - saved > checkpoint_seconds and training.batch < len(batches):
                save_state(folder, training.state())
                saved = time.monotonic()


def train_step(training: Training, batch: Batch, steps_per_epoch: int) -> float:
    """One optimiser step; the mean loss of the batch.

    Raises:
        ValueError: the loss is not finite; the parameters are those before the step.
    """
    recipe, model, optimizer = training.recipe, training.model, training.optimizer
    device = model.head.weight.device
    step = training.epoch * steps_per_epoch + training.batch
    rate = learning_rate(recipe, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate
    torch.manual_seed(_derived_seed(recipe.seed, step))  # dropout and drop path

    fbank = augmented_fbank(training, batch, device)
    targets = batch.targets.to(device, non_blocking=True)
    optimizer.zero_grad()
    total = torch.zeros((), device=device)
    parts = recipe.accumulation
    for fbank_part, target_part in zip(fbank.chunk(parts), targets.chunk(parts), strict=True):
        with autocast(device, recipe.precision):
            logits = model(fbank_part)
        loss = F.cross_entropy(
            logits.float(), target_part, label_smoothing=recipe.label_smoothing, reduction="sum"
        ) / len(targets)
        training.scaler.scale(loss).backward()
        total += loss.detach()
    mean_loss = total.item()
    if not math.isfinite(mean_loss):
        raise ValueError(
            f"the loss is {mean_loss} at step {step} (epoch {training.epoch + 1}); try "
            f"--learning-rate {rate / 2:.3g}, --clip-gradient 1 or --precision fp32; "
            "the last checkpoint is intact"
        )
    if recipe.clip_gradient:
        training.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_gradient)
    training.scaler.step(optimizer)
    training.scaler.update()
    return mean_loss


@torch.no_grad()
def augmented_fbank(training: Training, batch: Batch, device: torch.device) -> Tensor:
    """Waveforms to the network's input with the recipe's augmentation, (batch, frames, mels)."""
    recipe, frontend = training.recipe, training.frontend
    chances = batch.chances.to(device, non_blocking=True)
    fbank = frontend.filterbank(batch.waveforms.to(device, non_blocking=True), batch.lengths)
    fbank = spec_augment(fbank, chances[:, :4], recipe.frequency_mask, recipe.time_mask)
    fbank = frontend.normalise(fbank)
    if recipe.noise:
        fbank = add_noise(fbank, chances[:, 4], batch.noise_seeds)
    if recipe.roll_frames:
        fbank = roll(fbank, chances[:, 5], recipe.roll_frames)
    return fbank


def finish_epoch(training: Training, logits: Tensor, targets: Tensor, num_clips: int) -> Row:
    """Add the epoch's row and move on to the next epoch."""
    row = {
        "epoch": training.epoch + 1,
        "learning_rate": training.optimizer.param_groups[0]["lr"],
        "train_loss": training.loss_sum / num_clips,
        **evaluate_scores(logits.numpy(), targets.numpy()),
    }
    training.rows.append(row)
    training.epoch += 1
    training.batch = 0
    training.loss_sum = 0.0
    return row


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


def _derived_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
