"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data import Clip, Manifest
from data.augment import add_noise, roll, spec_augment
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, collate, epoch_batches
from train.device import autocast, choose_device, choose_precision
from train.evaluate import default_workers, predict_logits
from train.metrics import evaluate_scores
from train.recipe import Recipe
from train.results import announce, report, save_epoch, save_results
from train.run import load_state, open_run, save_state
from train.schedule import learning_rate
from train.training import Row, Training, build


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
    training = build(recipe, manifest.classes, place, load_state(folder, place))
    open_run(folder, recipe, manifest, fold)  # after `build`, which refuses a bad start
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
            f"--learning-rate {recipe.learning_rate / 10:.3g}, --clip-gradient 1 or "
            "--precision fp32; the last checkpoint is intact"
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


def _derived_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
