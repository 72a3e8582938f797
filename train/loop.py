"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom.

Shapes: B batch, T frames, M mel bins, C classes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import weights
from ast_model import AST, Frontend
from ast_model.baseline import Baseline
from data import Clips, Manifest
from data.augment import add_noise, cutmix, spec_augment, time_shift
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, load_batches
from data.files import naming
from data.sampling import clip_weights, epoch_batches
from data.splits import split_clips
from train.device import (
    autocast,
    choose_device,
    choose_precision,
    compile_in_place,
    require_compiler,
)
from train.distributed import (
    barrier,
    broadcast_buffers,
    gather,
    gradient_sync,
    main_process_first,
    on_main_process,
    rank,
    sum_over_processes,
    world_size,
    wrap_ddp,
)
from train.evaluation import default_workers, predict_logits
from train.init_model import initial_model
from train.loss import inverse_frequency, training_loss
from train.metrics import evaluate_scores, one_hot, to_probabilities
from train.optim import learning_rate, make_optimizer, set_learning_rate
from train.preparation.preflight import preflight
from train.recipe import Recipe
from train.run.folder import Row, load_state, splits_digest
from train.run.log import Run, open_run
from train.run.resume import require_resumable, stored_model

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
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
        recipe: what to train.
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
    splits = split_clips(manifest, fold, recipe.seed)
    with open_run(Path(folder), recipe, manifest, splits, checkpoint_minutes) as run:
        splits, padded = on_main_process(lambda: preflight(recipe, manifest, splits, cache))
        run.splits, run.padded_share = splits, padded
        state = TrainState.create(run, device)
        run.begin(state)
        ddp_model = wrap_ddp(state.model)
        if compile:
            compile_in_place(state.model, state.eval_model)
        score = partial(evaluate, run=run, state=state, cache=cache, workers=workers)
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
            logits, scores = score(state.eval_model, splits.validation)
            if recipe.checkpoint_ensemble:
                scores[f"ensemble_{recipe.metric}"] = ensemble_score(run, state, logits)
            state.end_epoch(scores)
            run.log_epoch(state)
            run.save_models(state)
            if state.finished:
                save_results(run, state, logits, score)
            run.save_checkpoint(state)  # last: it declares everything above as done
        barrier()  # everything is written
    return state.rows


def train_batches(
    state: TrainState, clips: Clips, cache: ClipCache | None, workers: int
) -> Iterator[tuple[Batch, int]]:
    """This process's shard of each batch that the epoch has left, and the whole batch's clips."""
    recipe, num_classes = state.recipe, state.model.config.num_classes
    dataset = ClipDataset(
        clips,
        num_classes,
        state.frontend.config.sample_rate,
        cache,
        recipe.mixup_rate,
        recipe.seed,
        state.epoch,
        recipe.waveform_augmentation(),
        recipe.skip_unreadable,
        recipe.placement_in(state.frontend.fbank.num_samples(recipe.num_frames), num_classes),
    )
    shards = epoch_batches(
        len(clips),
        recipe.batch_size,
        recipe.seed,
        state.epoch,
        weights=clip_weights(clips, num_classes) if recipe.balanced_sampling else None,
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
            count = int(sum_over_processes(torch.tensor(len(batch.targets))))
        yield batch, count


def train_step(ddp_model: nn.Module, state: TrainState, batch: Batch, count: int) -> None:
    """One optimiser step; the device is not waited for, and the loss is left to be read later.

    Args:
        ddp_model: the state's model, or the wrapper that averages its gradients over processes.
        batch: this process's shard.
        count: clips of the whole batch, in all processes.
    """
    recipe, model, optimizer = state.recipe, state.model, state.optimizer
    set_learning_rate(optimizer, learning_rate(recipe, state.step, state.steps_per_epoch))
    torch.manual_seed(step_seed(recipe.seed, state.step, rank()))  # dropout, drop path, patchout

    optimizer.zero_grad()
    if len(batch.targets):
        fbank, targets = network_input(state, batch)
    else:  # no clips for this process, but the others wait for its gradients
        fbank, targets = placeholder_clips(state)
    divisor = count / world_size()  # gradients are averaged over the processes
    loss_sum = torch.zeros((), device=state.device)
    fbank_parts = fbank.chunk(recipe.grad_accumulation_steps)
    target_parts = targets.chunk(recipe.grad_accumulation_steps)
    for number, fbank_part in enumerate(fbank_parts):
        with gradient_sync(ddp_model, enabled=number + 1 == len(fbank_parts)):
            with autocast(state.device, state.precision):
                logits = ddp_model(fbank_part)
            loss = training_loss(logits.float(), target_parts[number], recipe, state.class_weights)
            loss = loss * (len(batch.targets) > 0)  # 0 for placeholders
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


@torch.no_grad()
def network_input(state: TrainState, batch: Batch) -> tuple[Tensor, Tensor]:
    """Waveforms to the network's input with the recipe's augmentation, and the targets.

    Returns:
        (B, T, M) and (B, C), on the device.
    """
    recipe, frontend, device = state.recipe, state.frontend, state.device
    uniforms = batch.uniforms
    targets = batch.targets.to(device, non_blocking=True)
    fbank = frontend.filterbank(batch.waveforms.to(device, non_blocking=True), batch.lengths)
    if recipe.cutmix_rate:
        fbank, targets = cutmix(fbank, targets, uniforms, recipe.cutmix_rate)
    fbank = spec_augment(fbank, uniforms, recipe.frequency_mask, recipe.time_mask)
    fbank = frontend.normalise(fbank)
    if recipe.noise:
        fbank = add_noise(fbank, uniforms, batch.noise_seeds)
    if recipe.time_shift_frames:
        fbank = time_shift(fbank, uniforms, recipe.time_shift_frames)
    return fbank, targets


def placeholder_clips(state: TrainState) -> tuple[Tensor, Tensor]:
    """Input and targets of two empty clips, whose loss is not counted.

    Two, since a batch of one clip would be compiled anew.
    """
    config, device = state.model.config, state.device
    fbank = torch.zeros(2, config.num_frames, config.num_mel_bins, device=device)
    return fbank, torch.zeros(2, config.num_classes, device=device)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Every rank has its own; numpy fills up with zeros, so rank 0's is that of [seed, step]."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def evaluate(
    model: AST | Baseline,
    clips: Clips,
    *,
    run: Run,
    state: TrainState,
    cache: ClipCache | None,
    workers: int,
    name: str = "last",
) -> tuple[Tensor, Row]:
    """Logits (clips, classes) of a model, and their scores, by the run's settings.

    Args:
        name: of the model in the run folder.

    Raises:
        ValueError: a logit is not finite; the message names the model.
    """
    broadcast_buffers(model)
    batch_size = -(-state.recipe.batch_size // world_size())
    logits, targets = predict_logits(
        model, state.frontend, clips, state.precision, batch_size, cache, workers
    )
    arrays = logits.numpy(), targets.numpy()
    multi_label, sigmoid = run.manifest.multi_label, state.recipe.loss == "bce"
    with naming(f"{run.folder / name} in epoch {state.epoch + 1}"):
        return logits, on_main_process(lambda: evaluate_scores(*arrays, multi_label, sigmoid))


def ensemble_score(run: Run, state: TrainState, logits: Tensor) -> float:
    """The recipe's metric for the mean of the probabilities of every epoch so far."""
    probabilities = to_probabilities(logits, state.recipe.loss == "bce")
    state.ensemble = probabilities + (0 if state.ensemble is None else state.ensemble)
    mean = (state.ensemble / (state.epoch + 1)).numpy()
    targets = one_hot(run.splits.validation, len(run.manifest.classes))
    multi_label = run.manifest.multi_label
    # ranked by themselves: neither log nor sigmoid changes the order of these
    scores = on_main_process(lambda: evaluate_scores(mean, targets, multi_label, sigmoid=True))
    return scores[state.recipe.metric]


def save_results(
    run: Run,
    state: TrainState,
    logits: Tensor,
    score: Callable[..., tuple[Tensor, Row]],
) -> None:
    """Score what the finished run has made on all its splits, and write it.

    Args:
        logits: (validation clips, C) of the final model.
        score: gives logits and scores of a model on clips; `name` of another than the last.
    """
    validation = {"last": state.rows[-1], "best": state.rows[state.best_epoch - 1]}
    if state.average is not None and state.average.n_averaged:
        run.save_model("averaged", state, state.average.module)
        model = state.average.module
        validation["averaged"] = score(model, run.splits.validation, name="averaged")[1]
    scores, test_logits = {"validation": validation}, None
    if run.splits.test:
        barrier()  # the models are written
        scores["test"] = {}
        for name in validation:
            model = weights.load(run.folder / name, device=state.device).model
            logits_of_test, scores["test"][name] = score(model, run.splits.test, name=name)
            test_logits = logits_of_test if name == "best" else test_logits
    run.save_results(state, logits, scores, test_logits)


@dataclass
class TrainState:
    """A run in memory: everything that its state file holds, and where it stands."""

    recipe: Recipe
    precision: str  # fp32, bf16 or fp16: what the recipe's auto is here
    device: torch.device
    steps_per_epoch: int
    model: AST | Baseline
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
        recipe: Recipe,
        precision: str,
        device: torch.device,
        model: AST | Baseline,
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
        recipe, classes, train = run.recipe, run.manifest.classes, run.splits.train
        precision = run_precision(run, device)
        saved = load_state(run.folder)
        torch.manual_seed(recipe.seed)
        with main_process_first():  # it may fetch the initial weights
            model = stored_model(saved, run) if saved else initial_model(recipe, classes)
        steps_per_epoch = -(-len(train) // recipe.batch_size)
        state = cls.before_training(
            recipe, precision, device, model.to(device), steps_per_epoch, run.padded_share
        )
        if recipe.class_weights:
            state.class_weights = inverse_frequency(train, len(classes)).to(device)
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
    def eval_model(self) -> AST | Baseline:
        """The model that is scored and saved."""
        return self.model if self.ema is None else self.ema.module

    @property
    def step(self) -> int:
        """Optimiser steps done, which is the number of the next one."""
        return self.epoch * self.steps_per_epoch + self.batch

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) of the highest validation score; the earliest of equals."""
        scores = [row[self.recipe.metric] for row in self.rows]
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
