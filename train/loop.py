"""The training loop: from a recipe and a manifest to a run folder, read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ast_model import AST
from ast_model.baseline import Baseline
from data import Clip, Manifest
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, collate
from data.sampling import clip_weights, epoch_batches
from data.splits import Splits, split_clips
from train.device import choose_device, choose_precision, compile_in_place, require_compiler
from train.distributed import (
    barrier,
    gather,
    is_main_process,
    main_process_first,
    on_main_process,
    rank,
    replicated,
    synchronise_buffers,
    world_size,
)
from train.evaluation import default_workers, predict_logits
from train.loss import inverse_frequency
from train.metrics import evaluate_scores
from train.preflight import inspect
from train.recipe import Recipe
from train.run_folder import load_state, open_run, save_state
from train.run_log import (
    Scorer,
    announce,
    one_hot,
    report,
    report_skipped,
    save_epoch,
    save_results,
    to_probabilities,
)
from train.step import train_step
from train.training import Row, Training, build


def train(
    recipe: Recipe,
    manifest: Manifest,
    fold: int | None,
    folder: str | Path,
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
    checkpoint_minutes: float = 10.0,
) -> list[Row]:
    """Train a recipe on a corpus, or go on where an earlier call with the same arguments stopped.

    On a CPU, a run that was killed at any point and resumed ends with the same parameters and
    metrics, bit for bit, as one that was not.

    Within `distributed.process_group`, every process makes this call and takes its part of each
    batch. The recipe's batch size is that of all together, and parameters and metrics are those of
    one process but for rounding, also where the run is resumed by another number of processes. What
    differs is drawn or looked up within a process's part of a batch: dropout, drop path, patchout,
    CutMix's partner, and a baseline's batch statistics.

    Args:
        recipe: what to train.
        manifest: the data; `split_clips` says which clips train, are watched and test.
        fold: held out, of a corpus with folds; None for its first, and for other corpora.
        folder: the run folder; a new one, or that of the run to resume.
        device: "auto" (GPU where there is one), "cpu", "cuda", "cuda:1".
        cache: where decoded clips are kept between epochs and runs.
        workers: decoding processes; None chooses by device.
        compile: train and score compiled models; parameters and metrics differ by rounding.
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
    if compile:
        require_compiler(recipe.precision)
    workers = default_workers(place) if workers is None else workers
    recipe = replace(recipe, precision=choose_precision(recipe.precision, place))
    splits = on_main_process(
        lambda: inspect(recipe, manifest, split_clips(manifest, fold, recipe.seed), cache)
    )
    with main_process_first():  # it may fetch what the model starts from
        training = build(recipe, manifest.classes, place, load_state(folder, place))
    require_one_place(training, folder)
    # after `build`, which refuses a bad start
    on_main_process(lambda: open_run(folder, recipe, manifest, splits.fold))
    training.replica = replicated(training.model)
    if compile:
        compile_in_place(training.model, training.evaluated)
    if recipe.class_weights:
        training.class_weights = inverse_frequency(splits.train, len(manifest.classes)).to(place)
    announce(training, splits, folder)
    if not training.finished:
        train_epochs(training, splits, manifest, folder, cache, workers, checkpoint_minutes)
    barrier()  # everything is written
    return training.rows


def require_one_place(training: Training, folder: Path) -> None:
    """Raises ValueError unless all processes go on from the same place."""
    places = gather((training.epoch, training.batch))
    if len(set(places)) > 1:
        raise ValueError(
            f"the processes find different states of the run in {folder} (epoch, batch: "
            f"{', '.join(map(str, places))}); give an --out that all machines share"
        )


def train_epochs(
    training: Training,
    splits: Splits,
    manifest: Manifest,
    folder: Path,
    cache: ClipCache | None,
    workers: int,
    checkpoint_minutes: float,
) -> None:
    """The epochs that are not done yet; each is scored and saved."""
    score = scorer(training, manifest, cache, workers)
    with tensorboard(training, folder) as board:
        while not training.finished:
            start = time.monotonic()
            train_epoch(training, splits.train, folder, cache, workers, 60 * checkpoint_minutes)
            if board:
                report_skipped(training, folder)
            train_seconds = time.monotonic() - start
            logits, scores = score(training.evaluated, splits.validation)
            finish_epoch(training, splits, manifest, logits, scores)
            if board:
                report(training, board, len(splits.train) / train_seconds)
                save_epoch(training, folder, manifest.classes)
            if training.finished:
                save_results(training, folder, manifest, splits, logits, score)
            if board:
                save_state(folder, training.state())  # last: it declares everything above as done


def tensorboard(training: Training, folder: Path) -> AbstractContextManager[SummaryWriter | None]:
    """The run's curves, to go on with; None in processes other than the writer."""
    if not is_main_process():
        return nullcontext()
    return SummaryWriter(str(folder / "tensorboard"), purge_step=training.epoch)


def scorer(training: Training, manifest: Manifest, cache: ClipCache | None, workers: int) -> Scorer:
    """A function of a model and clips that gives their logits and scores, by the run's settings."""
    recipe = training.recipe

    def score(model: AST | Baseline, clips: Sequence[Clip]) -> tuple[Tensor, Row]:
        synchronise_buffers(model)
        batch_size = -(-recipe.batch_size // world_size())
        parts = (model, training.frontend, clips, recipe.precision, batch_size)
        logits, targets = predict_logits(*parts, cache, workers)
        arrays = logits.numpy(), targets.numpy()
        sigmoid = recipe.loss == "bce"
        return logits, on_main_process(
            lambda: evaluate_scores(*arrays, manifest.multi_label, sigmoid)
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
    order = (recipe.batch_size, recipe.seed, training.epoch, weights)
    batches = epoch_batches(len(clips), *order, rank(), world_size())
    loader = DataLoader(
        dataset,
        batch_sampler=batches[training.batch :],
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    training.model.train()
    saved = time.monotonic()
    with progress(training, len(clips)) as bar:
        for batch in loader:
            count = count_clips(training, batch)
            if count:
                loss = train_step(training, batch, len(batches), count)
                training.loss_sum += loss * count
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            training.batch += 1
            training.clips += count
            bar.update(count)
            late = time.monotonic() - saved > checkpoint_seconds
            if is_main_process() and late and training.batch < len(batches):
                save_state(folder, training.state())
                saved = time.monotonic()


def progress(training: Training, num_clips: int) -> tqdm:
    """A bar over the epoch's clips, on the writer's terminal."""
    recipe = training.recipe
    return tqdm(
        total=num_clips,
        initial=min(training.batch * recipe.batch_size, num_clips),
        desc=f"epoch {training.epoch + 1}/{recipe.epochs}",
        unit="clip",
        leave=False,
        disable=None if is_main_process() else True,
    )


def count_clips(training: Training, batch: Batch) -> int:
    """Clips of the batch that could be read, in all processes; others' files are noted."""
    parts = gather((len(batch.targets), batch.skipped))
    for path in chain.from_iterable(skipped for _, skipped in parts):
        if path not in training.skipped:
            training.skipped.append(path)
    return sum(count for count, _ in parts)


def finish_epoch(
    training: Training, splits: Splits, manifest: Manifest, logits: Tensor, scores: Row
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
        row[f"ensemble_{recipe.metric}"] = ensemble_score(training, splits, manifest, logits)
    training.rows.append(row)
    training.epoch += 1
    training.batch = 0
    training.loss_sum, training.clips = 0.0, 0
    first, last = recipe.average_epochs
    if training.average is not None and first <= training.epoch <= last:
        training.average.update_parameters(training.evaluated)


def ensemble_score(training: Training, splits: Splits, manifest: Manifest, logits: Tensor) -> float:
    """The recipe's metric for the mean of the probabilities of every epoch so far."""
    probabilities = to_probabilities(logits, training.recipe.loss == "bce")
    training.ensemble = probabilities + (0 if training.ensemble is None else training.ensemble)
    targets = one_hot(splits.validation, len(manifest.classes))
    # ranked by themselves: neither log nor sigmoid changes the order of these
    mean = (training.ensemble / (training.epoch + 1)).numpy()
    scores = on_main_process(
        lambda: evaluate_scores(mean, targets, manifest.multi_label, sigmoid=True)
    )
    return scores[training.recipe.metric]
