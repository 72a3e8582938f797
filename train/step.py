"""One optimiser step: a batch of waveforms to a gradient, and the gradient to new parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from data.augment import add_noise, cutmix, spec_augment, time_shift
from data.dataset import Batch
from train.device import autocast
from train.distributed import mean_over_ranks, rank, reduction, world_size
from train.loss import training_loss
from train.optim import learning_rate, set_learning_rate
from train.training import Training


def train_step(
    training: Training, batch: Batch, steps_per_epoch: int, count: int | None = None
) -> float:
    """One optimiser step; the mean loss of the batch.

    Args:
        batch: this process's part.
        count: clips of the whole batch, in all processes; None: of this part.

    Raises:
        ValueError: the loss is not finite; the parameters are those before the step.
    """
    recipe, model, optimizer = training.recipe, training.model, training.optimizer
    step = training.epoch * steps_per_epoch + training.batch
    set_learning_rate(optimizer, learning_rate(recipe, step, steps_per_epoch))
    torch.manual_seed(_derived_seed(recipe.seed, step, rank()))  # dropout, drop path, patchout

    optimizer.zero_grad()
    mean_loss = mean_over_ranks(backward(training, batch, count or len(batch.targets)))
    if not math.isfinite(mean_loss):
        raise ValueError(
            f"the loss is {mean_loss} at step {step} (epoch {training.epoch + 1}); try "
            f"--learning-rate {recipe.learning_rate / 10:.3g}, --max-grad-norm 1 or "
            "--precision fp32; the last checkpoint is intact"
        )
    if recipe.max_grad_norm:
        training.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
    training.scaler.step(optimizer)
    training.scaler.update()
    if training.ema is not None:
        training.ema.update_parameters(model)
    return mean_loss


def backward(training: Training, batch: Batch, count: int) -> float:
    """Gradients of the mean loss over the `count` clips of all processes' parts of a batch.

    Returns:
        This process's share of it, such that it is the mean over the processes.
    """
    recipe = training.recipe
    device = next(training.model.parameters()).device
    divisor = count / world_size()  # gradients are averaged over the processes
    if len(batch.targets):
        fbank, targets = augmented(training, batch, device)
    else:  # the others wait for this process's gradients: those of clips that weigh nothing, two
        config, divisor = training.model.config, math.inf  # since one alone compiles anew
        fbank = torch.zeros(2, config.num_frames, config.num_mel_bins, device=device)
        targets = torch.zeros(2, config.num_classes, device=device)
    total = torch.zeros((), device=device)
    chunks = [
        *zip(
            *(whole.chunk(recipe.grad_accumulation_steps) for whole in (fbank, targets)),
            strict=True,
        )
    ]
    for number, (fbank_part, target_part) in enumerate(chunks, start=1):
        with reduction(training.replica, number == len(chunks)):
            with autocast(device, recipe.precision):
                logits = training.network(fbank_part)
            loss = training_loss(logits.float(), target_part, recipe, training.class_weights)
            loss = loss / divisor
            training.scaler.scale(loss).backward()
        total += loss.detach()
    return total.item()


@torch.no_grad()
def augmented(training: Training, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waveforms to the network's input with the recipe's augmentation, and the targets.

    Returns:
        (batch, frames, mels) and (batch, classes), on the device.
    """
    recipe, frontend = training.recipe, training.frontend
    targets = batch.targets.to(device, non_blocking=True)
    fbank = frontend.filterbank(batch.waveforms.to(device, non_blocking=True), batch.lengths)
    if recipe.cutmix_rate:
        fbank, targets = cutmix(fbank, targets, batch.uniforms, recipe.cutmix_rate)
    fbank = spec_augment(fbank, batch.uniforms, recipe.frequency_mask, recipe.time_mask)
    fbank = frontend.normalise(fbank)
    if recipe.noise:
        fbank = add_noise(fbank, batch.uniforms, batch.noise_seeds)
    if recipe.time_shift_frames:
        fbank = time_shift(fbank, batch.uniforms, recipe.time_shift_frames)
    return fbank, targets


def _derived_seed(seed: int, step: int, rank: int) -> int:
    """Every rank has its own; numpy fills up with zeros, so rank 0's is that of [seed, step]."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
