"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom.

Shapes: B batch, T frames, M mel bins.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ast_model import Frontend
from data import Clips, Manifest
from data.cache import ClipCache
from data.dataset import Batch, load_batches
from data.sampling import epoch_batches
from data.splits import split_clips
from train.device import (
    choose_device,
    choose_precision,
    compile_in_place,
    require_compiler,
    warn_of_slow_bf16,
)
from train.distributed import (
    barrier,
    gather,
    gradient_sync,
    main_process_first,
    on_main_process,
    rank,
    sum_over_processes,
    world_size,
    wrap_ddp,
)
from train.evaluation import default_workers
from train.optim import learning_rate, make_optimizer, set_learning_rate
from train.preparation.preflight import preflight
from train.recipe import BaseRecipe
from train.run.folder import Row, load_state, splits_digest
from train.run.log import Run, open_run
from train.run.resume import require_resumable, stored_model
from train.tasks import Task, task_of

logger = logging.getLogger(__name__)


def train(
    recipe: BaseRecipe,
    manifest: Manifest,
    folder: str | Path,
    *,
    fold: int | None = None,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
    checkpoint_minutes: float = 10.0,
) -> list[Row]:
    """Train a recipe on a corpus, or go on where an earlier call with the same arguments stopped.

    On a CPU, a run that was killed at any point and resumed ends with the same parameters and
    metrics, bit for bit, as one that was not.

    Within `distributed.process_group`, every process makes this call and takes its shard of each
    batch. The recipe's batch size is that of all together, and parameters and metrics are those of
    one process but for rounding, also where the run is resumed by another number of processes. What
    differs is drawn or looked up within a shard: dropout, drop path, patchout, CutMix's partner,
    and a baseline's batch statistics.

    Args:
        recipe: what to train: a `Recipe`, or a `PretrainingRecipe` on clips without labels.
        manifest: the data; `split_clips` says which clips train, validate and test.
        folder: the run folder; a new one, or that of the run to resume.
        fold: validates, of a corpus with folds; None for its first, and for other corpora.
        device: "auto" (GPU where there is one), "cpu", "cuda", "cuda:1".
        cache: where decoded clips are kept between epochs and runs.
        workers: decoding processes; None chooses by device.
        compile: train and score compiled models; parameters and metrics differ by rounding.
        checkpoint_minutes: time after which the next look at the loss writes a checkpoint, 0 for
            one after every step; there is one after every epoch too.

    Returns:
        The rows of `metrics.csv`, one an epoch.

    Raises:
        ValueError: the recipe does not fit the data, the data would spoil the result, the folder
            holds another run or is in use, the loss is not finite.
        OSError: a file cannot be written; the last checkpoint is intact.
    """
    if checkpoint_minutes < 0 or (workers or 0) < 0:
        raise ValueError(
            f"checkpoint_minutes is {checkpoint_minutes}, workers {workers}; use 0 or more"
        )
    device = choose_device(device)
    if compile:
        require_compiler(recipe.precision)
    workers = default_workers(device) if workers is None else workers
    splits = split_clips(manifest, fold, recipe.seed, recipe.clips_per_class)
    with open_run(Path(folder), recipe, manifest, splits, checkpoint_minutes) as run:
        splits, padded = on_main_process(lambda: preflight(recipe, manifest, splits, cache))
        run.splits, run.padded_share = splits, padded
        state = TrainState.create(run, device)
        run.begin(state)
        ddp_model = wrap_ddp(state.model)
        if compile:
            compile_in_place(state.model, state.eval_model)
        task = state.task
        evaluate = partial(task.evaluate, run=run, state=state, cache=cache, workers=workers)
        while not state.finished:
            run.begin_epoch(state)
            for batch, count in train_batches(state, splits.train, cache, workers):
                if count:
                    train_step(ddp_model, state, batch, count)
                state.batch += 1
                if run.log_due(state):
                    run.log_step(state)
                    if run.checkpoint_due(state):
                        run.save_checkpoint(state)
            run.end_steps(state)
            outputs, scores = task.score_epoch(run, state, evaluate)
            state.end_epoch(scores)
            run.log_epoch(state)
            run.save_models(state)
            task.show_epoch(run, state)
            if state.finished:
                task.save_results(run, state, outputs, evaluate)
            run.save_checkpoint(state)  # last: it declares everything above as done
        barrier()  # everything is written
    return state.rows


def train_batches(
    state: TrainState, clips: Clips, cache: ClipCache | None, workers: int
) -> Iterator[tuple[Batch, int]]:
    """This process's shard of each batch that the epoch has left, and the whole batch's clips."""
    recipe = state.recipe
    dataset = state.task.dataset(state, clips, cache)
    shards = epoch_batches(
        len(clips),
        recipe.batch_size,
        recipe.seed,
        state.epoch,
        weights=state.task.sampling_weights(state, clips),
        rank=rank(),
        world_size=world_size(),
    )
    left, pinned = shards[state.batch :], state.device.type == "cuda"
    batches = load_batches(dataset, batch_sampler=left, workers=workers, pin_memory=pinned)
    state.model.train()
    for batch in batches:
        count = min(recipe.batch_size, len(clips) - state.batch * recipe.batch_size)
        if recipe.skip_unreadable:
            state.skipped += [path for path in batch.skipped if path not in state.skipped]
            count = int(sum_over_processes(torch.tensor(len(batch.lengths))))
        yield batch, count


def train_step(ddp_model: nn.Module, state: TrainState, batch: Batch, count: int) -> None:
    """One optimiser step; the device is not waited for, and the loss is left to be read later.

    Args:
        ddp_model: the state's model, or the wrapper that averages its gradients over processes.
        batch: this process's shard.
        count: clips of the whole batch, in all processes.
    """
    recipe, task = state.recipe, state.task
    model, optimizer = state.model, state.optimizer
    rate = learning_rate(recipe, state.step, state.steps_per_epoch, state.rows)
    set_learning_rate(optimizer, rate)
    torch.manual_seed(step_seed(recipe.seed, state.step, rank()))  # dropout, drop path, patchout

    optimizer.zero_grad()
    if len(batch.lengths):
        fbank, targets = task.network_input(state, batch)
    else:  # no clips for this process, but the others wait for its gradients
        fbank, targets = placeholder_clips(state)
    divisor = count / world_size()  # gradients are averaged over the processes
    loss_sum = torch.zeros((), device=state.device)
    fbank_parts = fbank.chunk(recipe.grad_accumulation_steps)
    target_parts = targets.chunk(recipe.grad_accumulation_steps)
    for number, fbank_part in enumerate(fbank_parts):
        with gradient_sync(ddp_model, enabled=number + 1 == len(fbank_parts)):
            loss = task.loss(ddp_model, state, fbank_part, target_parts[number])
            loss = loss * (len(batch.lengths) > 0)  # 0 for placeholders
            state.scaler.scale(loss / divisor).backward()
        loss_sum += loss.detach()
    if recipe.max_grad_norm:
        state.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
    state.scaler.step(optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update_parameters(model)
    state.unread_losses.append((state.step, count, loss_sum))
    state.clips += count


def placeholder_clips(state: TrainState) -> tuple[Tensor, Tensor]:
    """Input and targets of two empty clips, whose loss is not counted.

    Two, since a batch of one clip would be compiled anew.
    """
    config, device = state.frontend.config, state.device
    fbank = torch.zeros(2, config.num_frames, config.num_mel_bins, device=device)
    return fbank, state.task.empty_targets(state, 2).to(device)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Every rank has its own; numpy fills up with zeros, so rank 0's is that of [seed, step]."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


@dataclass
class TrainState:
    """A run in memory: everything that its state file holds, and where it stands."""

    recipe: BaseRecipe
    precision: str  # fp32, bf16 or fp16: what the recipe's auto is here
    device: torch.device
    steps_per_epoch: int
    model: nn.Module
    frontend: Frontend
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None = None  # moving average over the steps
    average: AveragedModel | None = None  # mean over the epochs of `average_epochs`
    class_weights: Tensor | None = None  # (C,)
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    loss_sum: float = 0.0  # over the clips of those batches
    clips: int = 0  # in those batches
    rows: list[Row] = field(default_factory=list)  # metrics.csv
    ensemble: Tensor | None = None  # probabilities (validation clips, C), summed over epochs
    skipped: list[str] = field(default_factory=list)  # files that could not be decoded
    splits: str | None = None  # digest of the readable clips, with `skip_unreadable`
    # step, clips of the batch, and sum of this shard's losses, since the losses were last read
    unread_losses: list[tuple[int, int, Tensor]] = field(default_factory=list)

    @classmethod
    def before_training(
        cls,
        recipe: BaseRecipe,
        precision: str,
        device: torch.device,
        model: nn.Module,
        steps_per_epoch: int,
        padded_share: float = 0.0,
    ) -> TrainState:
        """Before the first step of a model, which is on the device."""
        frontend = Frontend(replace(recipe.frontend_config(), padded_share=padded_share))
        state = cls(
            recipe,
            precision,
            device,
            steps_per_epoch,
            model,
            frontend=frontend.to(device),
            optimizer=make_optimizer(recipe, model),
            scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
        )
        if recipe.ema_decay:
            rule = get_ema_multi_avg_fn(recipe.ema_decay)
            state.ema = AveragedModel(model, multi_avg_fn=rule)
        if recipe.average_epochs[0]:
            state.average = AveragedModel(model)
        return state

    @classmethod
    def create(cls, run: Run, device: torch.device) -> TrainState:
        """Before the first step of a run, or where its last checkpoint was.

        Raises:
            FileNotFoundError, ValueError: as `initial_model`; a checkpoint is damaged; processes
                find different checkpoints.
        """
        recipe, task, train = run.recipe, task_of(run.recipe), run.splits.train
        precision = run_precision(run, device)
        warn_of_slow_bf16(device, precision)
        saved = load_state(run.folder)
        torch.manual_seed(recipe.seed)
        with main_process_first():  # it may fetch the initial weights
            model = stored_model(saved, run) if saved else task.initial_model(run)
        steps_per_epoch = -(-len(train) // recipe.batch_size)
        state = cls.before_training(
            recipe, precision, device, model.to(device), steps_per_epoch, run.padded_share
        )
        state.class_weights = task.class_weights(run, device)
        if recipe.skip_unreadable:
            state.splits = splits_digest(run.splits)
        if saved:
            if saved.get("splits", state.splits) != state.splits:
                raise ValueError(
                    f"other files are readable than when {run.folder} began, so its splits are "
                    "others: bring the files back to what they were, or give a new --out"
                )
            require_resumable(saved, state, run)
            state.load_state_dict(saved)
        state._require_same_position(run.folder)
        return state

    @property
    def task(self) -> Task:
        """What is learnt."""
        return task_of(self.recipe)

    @property
    def eval_model(self) -> nn.Module:
        """The model that is scored and saved."""
        return self.model if self.ema is None else self.ema.module

    @property
    def step(self) -> int:
        """Optimiser steps done, which is the number of the next one."""
        return self.epoch * self.steps_per_epoch + self.batch

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) of the highest validation score; the earliest of equals."""
        scores = [self.recipe.better(row) for row in self.rows]
        return scores.index(max(scores)) + 1

    @property
    def finished(self) -> bool:
        """All epochs done, or `patience` of them without a better one."""
        if self.epoch >= self.recipe.epochs:
            return True
        waited = self.epoch - self.best_epoch if self.rows else 0
        return 0 < self.recipe.patience <= waited

    def read_losses(self) -> float:
        """Add the losses since the last reading to the epoch's; all processes take part.

        Returns:
            Their mean over the clips.

        Raises:
            ValueError: one is not finite; what was saved is from before.
        """
        if not self.unread_losses:
            return math.nan
        steps, counts, sums = zip(*self.unread_losses, strict=True)
        self.unread_losses = []
        losses = sum_over_processes(torch.stack(sums).double()).tolist()
        for step, count, loss in zip(steps, counts, losses, strict=True):
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss / count} at step {step} (epoch {self.epoch + 1}); "
                    f"{self._remedy()}"
                )
            self.loss_sum += loss
        if self.recipe.skip_unreadable:
            self.skipped = [*dict.fromkeys(chain.from_iterable(gather(self.skipped)))]
        return sum(losses) / sum(counts)

    def require_finite(self) -> None:
        """Raise a ValueError if a weight, or a moment of the optimiser, is NaN or infinite."""
        models = filter(None, (self.model, self.ema, self.average))
        tensors = [tensor for model in models for tensor in model.state_dict().values()]
        for moments in self.optimizer.state.values():
            tensors += moments.values()
        largest = torch.nn.utils.get_total_norm(filter(torch.is_floating_point, tensors), math.inf)
        if not largest.isfinite():
            raise ValueError(
                f"weights or moments are no longer finite after step {self.step - 1} (epoch "
                f"{self.epoch + 1}); {self._remedy()}"
            )

    def _remedy(self) -> str:
        rate = self.recipe.learning_rate / 10
        return (
            f"try --learning-rate {rate:.3g}, --max-grad-norm 1 or --precision fp32; the last "
            "checkpoint is intact"
        )

    def end_epoch(self, scores: Row) -> None:
        """Add the epoch's row, and its model to the average, and move on to the next epoch."""
        row = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": self.loss_sum / max(self.clips, 1),
            **scores,
        }
        self.rows.append(row)
        self.epoch += 1
        self.batch = 0
        self.loss_sum, self.clips = 0.0, 0
        first, last = self.recipe.average_epochs
        if self.average is not None and first <= self.epoch <= last:
            self.average.update_parameters(self.eval_model)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from; tensors, numbers and plain containers."""
        state = {
            "config": asdict(self.model.config),  # the initial weights may be gone by then
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "clips": self.clips,
            "rows": self.rows,
            "ensemble": self.ensemble,
            "skipped": self.skipped,
            "splits": self.splits,
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, by a state of the same recipe."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.loss_sum, self.clips = state["loss_sum"], state["clips"]
        self.rows, self.ensemble = state["rows"], state["ensemble"]
        self.skipped = state["skipped"]

    def _require_same_position(self, folder: Path) -> None:
        positions = gather((self.epoch, self.batch))
        if len(set(positions)) > 1:
            raise ValueError(
                f"the processes find different states of the run in {folder} (epoch, batch: "
                f"{', '.join(map(str, positions))}); give an --out that all machines share"
            )


def run_precision(run: Run, device: torch.device) -> str:
    """What a run computes in: auto is what it began in, where the device has that.

    Raises:
        ValueError: the device does not compute in the precision that the recipe names.
    """
    began_in = run.record.precision if run.record else None
    if run.recipe.precision != "auto" or began_in in (None, "auto"):
        return choose_precision(run.recipe.precision, device)
    try:
        return choose_precision(began_in, device)
    except ValueError:
        precision = choose_precision("auto", device)
        logger.warning(f"{run.folder} began in {began_in}, goes on in {precision} on this device")
        return precision
