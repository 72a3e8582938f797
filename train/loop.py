"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ast_model import AST
from ast_model.baseline import Baseline
from data import Clip, Manifest
from data.augment import add_noise, cutmix, roll, spec_augment
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, collate
from data.sampling import clip_weights, epoch_batches
from train.device import autocast, choose_device, choose_precision
from train.division import Division, divide
from train.evaluate import default_workers, predict_logits
from train.inspection import inspect
from train.metrics import evaluate_scores
from train.objective import inverse_frequency, objective
from train.optimizer import set_learning_rate
from train.recipe import Recipe
from train.results import (
    Scorer,
    announce,
    one_hot,
    report,
    report_skipped,
    save_epoch,
    save_results,
    to_probabilities,
)
from train.run import load_state, open_run, save_state
from train.schedule import learning_rate
from train.training import Row, Training, build


def train(
    recipe: Recipe,
    manifest: Manifest,
    fold: int | None,
    folder: str | Path,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
) -> list[Row]:
    """Train a recipe on a corpus, or go on where an earlier call with the same arguments stopped.

    On a CPU, a run that was killed at any point and resumed ends with the same parameters and
    metrics, bit for bit, as one that was not.

    Args:
        recipe: what to train.
        manifest: the data; `divide` says which clips train, are watched and test.
        fold: held out, of a corpus with folds; None for its first, and for other corpora.
        folder: the run folder; a new one, or that of the run to resume.
        device: "auto" (GPU where there is one), "cpu", "cuda", "cuda:1".
        cache: where decoded clips are kept between epochs and runs.
        workers: decoding processes; None chooses by device.
        checkpoint_minutes: longest time between two checkpoints; one is written after every epoch.

    Returns:
        The rows of `metrics.csv`, one an epoch.

    Raises:
        ValueError: the recipe does not fit the data, the data would spoil the result, the folder
            holds another run, the loss is not finite.
        OSError: a file cannot be written; the last checkpoint is intact.
    """
    folder = Path(folder)
    place = choose_device(device)
    workers = default_workers(place) if workers is None else workers
    recipe = replace(recipe, precision=choose_precision(recipe.precision, place))
    division = inspect(recipe, manifest, divide(manifest, fold, recipe.seed), cache)
    training = build(recipe, manifest.classes, place, load_state(folder, place))
    open_run(folder, recipe, manifest, division.fold)  # after `build`, which refuses a bad start
    if recipe.class_weights:
        training.class_weights = inverse_frequency(division.training, len(manifest.classes)).to(
            place
        )
    announce(training, division, folder)
    if training.finished:
        return training.rows

    score = scorer(training, manifest, cache, workers)
    with SummaryWriter(str(folder / "tensorboard"), purge_step=training.epoch) as board:
        while not training.finished:
            start = time.monotonic()
            train_epoch(
                training, division.training, folder, cache, workers, 60 * checkpoint_minutes
            )
            report_skipped(training, folder)
            train_seconds = time.monotonic() - start
            logits, scores = score(training.evaluated, division.held_out)
            finish_epoch(training, division, manifest, logits, scores)
            report(training, board, len(division.training) / train_seconds)
            save_epoch(training, folder, manifest.classes)
            if training.finished:
                save_results(training, folder, manifest, division, logits, score)
            save_state(folder, training.state())  # last: it declares everything above as done
    return training.rows


def scorer(training: Training, manifest: Manifest, cache: ClipCache | None, workers: int) -> Scorer:
    """A function of a model and clips that gives their logits and scores, by the run's settings."""
    recipe = training.recipe

    def score(model: AST | Baseline, clips: Sequence[Clip]) -> tuple[Tensor, Row]:
        parts = (model, training.frontend, clips, recipe.precision, recipe.batch_size)
        logits, targets = predict_logits(*parts, cache, workers)
        return logits, evaluate_scores(
            logits.numpy(), targets.numpy(), manifest.multi_label, recipe.loss == "bce"
        )

    return score


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
        recipe.waveform_augmentation(),
        recipe.skip_unreadable,
    )
    weights = clip_weights(clips, dataset.num_classes) if recipe.balanced_sampling else None
    batches = epoch_batches(len(clips), recipe.batch_size, recipe.seed, training.epoch, weights)
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
            training.skipped += [path for path in batch.skipped if path not in training.skipped]
            if len(batch.targets):  # else none of its clips could be read
                loss = train_step(training, batch, len(batches))
                training.loss_sum += loss * len(batch.targets)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            training.batch += 1
            training.clips += len(batch.targets)
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
    device = next(model.parameters()).device
    step = training.epoch * steps_per_epoch + training.batch
    set_learning_rate(optimizer, learning_rate(recipe, step, steps_per_epoch))
    torch.manual_seed(_derived_seed(recipe.seed, step))  # dropout and drop path

    fbank, targets = augmented(training, batch, device)
    optimizer.zero_grad()
    total = torch.zeros((), device=device)
    parts = recipe.accumulation
    for fbank_part, target_part in zip(fbank.chunk(parts), targets.chunk(parts), strict=True):
        with autocast(device, recipe.precision):
            logits = model(fbank_part)
        loss = objective(logits.float(), target_part, recipe, training.class_weights)
        loss = loss / len(targets)
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
    if training.ema is not None:
        training.ema.update_parameters(model)
    return mean_loss


@torch.no_grad()
def augmented(training: Training, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waveforms to the network's input with the recipe's augmentation, and the targets.

    Returns:
        (batch, frames, mels) and (batch, classes), on the device.
    """
    recipe, frontend = training.recipe, training.frontend
    chances = batch.chances.to(device, non_blocking=True)
    targets = batch.targets.to(device, non_blocking=True)
    fbank = frontend.filterbank(batch.waveforms.to(device, non_blocking=True), batch.lengths)
    if recipe.cutmix_rate:
        fbank, targets = cutmix(fbank, targets, chances[:, 6:], recipe.cutmix_rate)
    fbank = spec_augment(fbank, chances[:, :4], recipe.frequency_mask, recipe.time_mask)
    fbank = frontend.normalise(fbank)
    if recipe.noise:
        fbank = add_noise(fbank, chances[:, 4], batch.noise_seeds)
    if recipe.roll_frames:
        fbank = roll(fbank, chances[:, 5], recipe.roll_frames)
    return fbank, targets


def finish_epoch(
    training: Training, division: Division, manifest: Manifest, logits: Tensor, scores: Row
) -> None:
    """Add the epoch's row, and its model to the averages, and move on to the next epoch."""
    recipe = training.recipe
    row = {
        "epoch": training.epoch + 1,
        "learning_rate": training.optimizer.param_groups[0]["lr"],
        "train_loss": training.loss_sum / max(training.clips, 1),
        **scores,
    }
    if recipe.checkpoint_ensemble:
        row[f"ensemble_{recipe.metric}"] = ensemble_score(training, division, manifest, logits)
    training.rows.append(row)
    training.epoch += 1
    training.batch = 0
    training.loss_sum, training.clips = 0.0, 0
    first, last = recipe.average_epochs
    if training.average is not None and first <= training.epoch <= last:
        training.average.update_parameters(training.evaluated)


def ensemble_score(
    training: Training, division: Division, manifest: Manifest, logits: Tensor
) -> float:
    """The recipe's metric for the mean of the probabilities of every epoch so far."""
    probabilities = to_probabilities(logits, training.recipe.loss == "bce")
    training.ensemble = probabilities + (0 if training.ensemble is None else training.ensemble)
    targets = one_hot(division.held_out, len(manifest.classes))
    # ranked by themselves: neither log nor sigmoid changes the order of these
    mean = (training.ensemble / (training.epoch + 1)).numpy()
    return evaluate_scores(mean, targets, manifest.multi_label, sigmoid=True)[
        training.recipe.metric
    ]


def _derived_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
