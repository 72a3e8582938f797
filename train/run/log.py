"""A run while it trains: its folder claimed, its progress logged, its models and results saved."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from data import Clips, Manifest
from data.files import atomic_file, is_leftover, naming, settle, write_json
from data.splits import Splits
from train.distributed import is_main_process, on_main_process, world_size
from train.metrics import confusion_matrix, one_hot, to_probabilities
from train.recipe import BaseRecipe
from train.run.board import Board
from train.run.chance import Chance, chance, is_asked, remedies
from train.run.environment import describe_environment, note_start
from train.run.folder import (
    METRICS,
    PREDICTIONS,
    RECIPE,
    RESULTS,
    SKIPPED,
    STATE,
    TEST_PREDICTIONS,
    RunRecord,
    fingerprint,
    read_run,
    require_state,
    run_differences,
    save_state,
    write_predictions,
    write_table,
)
from train.run.lock import claim, is_lock
from train.run.pace import Pace, duration
from train.run.plots import confusion, confusion_title, learning_curves
from train.run.schema import VERSION
from weights.folder import write_folder

if TYPE_CHECKING:
    from train.loop import TrainState

LOSS_STEPS = 10  # optimiser steps from one look at the loss to the next
FIRST_LOOKS = (1, 3)  # steps of an epoch that are looked at too: where steps are slow, to time them

logger = logging.getLogger(__name__)


@contextmanager
def open_run(
    folder: Path,
    recipe: BaseRecipe,
    manifest: Manifest,
    splits: Splits,
    checkpoint_minutes: float = 10.0,
) -> Iterator[Run]:
    """A new run folder, or that of the run to resume, which no other process trains meanwhile.

    All processes of one training open it; the main one alone claims and writes.

    Raises:
        ValueError: another process trains it, or the folder holds another run, or files that are
            no run, or a finished one without its state, or TensorBoard cannot write to a path of
            such a name; nothing is touched.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):  # bytes that are no UTF-8
        raise ValueError(f"{str(folder)!a} is not a path in UTF-8; give another --out")
    with claim(folder):
        record = on_main_process(lambda: check_folder(folder, recipe, manifest, splits.fold))
        on_main_process(lambda: require_state(folder, recipe.epochs))
        run = Run(folder, recipe, manifest, splits, record, 60 * checkpoint_minutes)
        try:
            yield run
        finally:
            run.close()


def check_folder(
    folder: Path, recipe: BaseRecipe, manifest: Manifest, fold: int | None
) -> RunRecord | None:
    """The run in a folder if it is this one; None where the folder is new.

    What a killed process was writing is removed.

    Raises:
        ValueError: the folder holds another run, or files that are no run.
    """
    if not (folder / RECIPE).is_file():
        if not all(is_leftover(path) or is_lock(path) for path in folder.iterdir()):
            raise ValueError(f"{folder} exists and is no run folder; give a new --out")
        _remove_leftovers(folder)
        return None
    record = read_run(folder)
    if differing := run_differences(record, recipe, fold, fingerprint(manifest)):
        raise ValueError(
            f"{folder} holds a run of a different recipe ({'; '.join(differing)}); "
            "give a new --out, or the old recipe to resume it"
        )
    _remove_leftovers(folder)
    return record


def _remove_leftovers(folder: Path) -> None:
    for leftover in filter(is_leftover, list(folder.rglob("*"))):
        settle(leftover)


@dataclass
class Run:
    """What a run shows and leaves behind. Processes other than the main one write nothing."""

    folder: Path
    recipe: BaseRecipe
    manifest: Manifest
    splits: Splits
    record: RunRecord | None  # of the run to resume
    checkpoint_seconds: float
    padded_share: float = 0.0  # of the input, in training
    board: Board | None = None
    bar: tqdm | None = None
    pace: Pace | None = None
    saved: float = 0.0  # when the last checkpoint was, by the monotonic clock
    began: float = 0.0  # when the epoch did, or was resumed
    clips_before: int = 0  # clips of the epoch that were trained before it was resumed
    speed: float = 0.0  # clips/s of the epoch

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes it this run: a state of another one is not gone on with."""
        recipe, clips = self.recipe.to_json(), fingerprint(self.manifest)
        return {"version": VERSION, "recipe": recipe, "fold": self.splits.fold, "clips": clips}

    def begin(self, state: TrainState) -> None:
        """Write what the run is, and say what runs on what, from where."""
        if is_main_process():
            if self.record is None:
                content = {**self.identity, "precision": state.precision}
                write_json(self.folder / RECIPE, content)
            if not state.finished:
                # There from the start: without it, a state was removed, and not cut off.
                (self.folder / STATE).parent.mkdir(exist_ok=True)
                start = describe_environment(state.device, state.precision, world_size())
                note_start(self.folder, start)
            next_epoch = state.epoch + 1  # what an interrupted run wrote from there on goes
            self.board = Board(self.folder / "tensorboard", purge_step=next_epoch)
        self.pace = Pace(self.recipe.epochs, state.steps_per_epoch)
        logger.info(_description(self, state))

    def begin_epoch(self, state: TrainState) -> None:
        """Show a bar over the epoch's clips."""
        self.saved = self.began = time.monotonic()
        self.clips_before = state.clips
        self.pace.begin_epoch(state.batch)
        self.bar = tqdm(
            total=len(self.splits.train),
            initial=state.clips,
            desc=f"epoch {state.epoch + 1}/{self.recipe.epochs}",
            unit="clip",
            leave=False,
            disable=None if is_main_process() else True,
        )

    def log_due(self, state: TrainState) -> bool:
        """Whether the losses are to be read after this step; the same in all processes."""
        last = state.batch == state.steps_per_epoch
        regular = state.batch % LOSS_STEPS == 0 or state.batch in FIRST_LOOKS
        return last or not self.checkpoint_seconds or regular

    def log_step(self, state: TrainState) -> None:
        """Read the losses since the last look, in all processes, and show their mean.

        The time to the end is told as soon as it is known.

        Raises:
            ValueError: a loss is not finite; the message names the run.
        """
        with naming(self.folder):
            loss = state.read_losses()
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.bar.update(state.clips - self.bar.n)
        if epoch_seconds := self.pace.look(state.step):
            epochs_left = self.recipe.epochs - state.step / state.steps_per_epoch
            logger.info(self.pace.announce(epoch_seconds, epochs_left, evaluated=False))

    def checkpoint_due(self, state: TrainState) -> bool:
        """Whether it is time for a checkpoint within the epoch; asked after `log_step`."""
        if state.batch == state.steps_per_epoch:
            return False  # the end of the epoch is one
        late = time.monotonic() - self.saved >= self.checkpoint_seconds
        return on_main_process(lambda: late)

    def save_checkpoint(self, state: TrainState) -> None:
        """Write the state to resume from; after an epoch the last of its files.

        Raises:
            ValueError: a weight is not finite; the checkpoint before stays.
        """
        with naming(self.folder):
            state.require_finite()
        if is_main_process():
            content = {"version": VERSION, "run": self.identity, **state.state_dict()}
            save_state(self.folder, content)
        self.saved = time.monotonic()

    def end_steps(self, state: TrainState) -> None:
        """The epoch's optimiser steps are done: take the bar away and note their speed."""
        self.speed = (state.clips - self.clips_before) / (time.monotonic() - self.began)
        self.pace.end_steps()
        self.bar.close()

    def log_epoch(self, state: TrainState) -> None:
        """The epoch's row as a line, in `metrics.csv` and on TensorBoard."""
        if self.board is None:
            return
        row = state.rows[-1]
        write_table(self.folder / METRICS, state.rows)
        scores = {name: value for name, value in row.items() if name != "epoch"}
        self.board.add({**scores, "clips_per_second": self.speed}, state.epoch)
        self._log_line(state)
        if state.skipped:
            self._list_skipped(state.skipped)

    def _log_line(self, state: TrainState) -> None:
        row, metric, split = state.rows[-1], self.recipe.metric, self.splits.validation_name
        told, epoch_seconds = self.pace.announced, self.pace.end_epoch()
        epochs_left = 0 if state.finished else self.recipe.epochs - state.epoch
        left = f", {duration(epoch_seconds * epochs_left)} left" if told and epochs_left else ""
        logger.info(
            f"epoch {state.epoch:3d}/{self.recipe.epochs}  train loss {row['train_loss']:.3f}  "
            f"{split} loss {row['loss']:.3f}, {metric} {row[metric]:.4f}  "
            f"{self.speed:.1f} clips/s{left}"
        )
        if epochs_left and not told:
            logger.info(self.pace.announce(epoch_seconds, epochs_left, evaluated=True))

    def warn_at_chance(self, state: TrainState) -> None:
        """Once in a run, where what it scores by then is what guessing would."""
        recipe, validation = self.recipe, self.splits.validation
        if not is_asked(recipe, state.epoch, state.steps_per_epoch, state.finished):
            return
        score, guess = state.rows[-1][recipe.metric], self._chance(validation)
        if score > guess.luck:
            return
        tries = remedies(recipe, state.rows, state.steps_per_epoch)
        logger.warning(
            f"still at chance after {state.epoch} epochs: {recipe.metric} {score:.4f} on "
            f"{self.splits.validation_name} ({len(validation)} clips), where chance gives "
            f"{guess.score:.4f}, with luck {guess.luck:.4f}; try {'; or '.join(tries)}"
        )

    def _chance(self, clips: Clips) -> Chance:
        return chance(one_hot(clips, len(self.manifest.classes)), self.recipe.metric)

    def _list_skipped(self, skipped: list[str]) -> None:
        with atomic_file(self.folder / SKIPPED) as temporary:
            text = "".join(f"{path}\n" for path in skipped)
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        logger.info(f"{len(skipped)} unreadable files left out so far: {self.folder / SKIPPED}")

    def save_models(self, state: TrainState) -> None:
        """`last/`, and `best/` where the validation score is the highest so far."""
        self.save_model("last", state, state.eval_model)
        if state.best_epoch == state.epoch:
            self.save_model("best", state, state.eval_model)

    def save_model(self, name: str, state: TrainState, model: torch.nn.Module) -> None:
        """One model folder of the run."""
        if is_main_process():
            epoch = None if name == "averaged" else state.epoch
            classifier = state.task.classifier(self, state, model)
            write_folder(self.folder / name, classifier, epoch=epoch)

    def save_results(
        self, state: TrainState, logits: Tensor, scores: dict[str, Any], test_logits: Tensor | None
    ) -> None:
        """Once, after the last epoch: predictions, plots, and `results.json`.

        Args:
            logits: (validation clips, classes) of the final model.
            scores: by split, of each model.
            test_logits: (test clips, classes) of the best epoch's model; None without a test split.
        """
        if not is_main_process():
            return
        validation, test = self.splits.validation, self.splits.test
        name, clips = self.splits.validation_name, {"validation": len(validation)}
        self._save_predictions(PREDICTIONS, validation, logits)
        self._draw_confusion("confusion", name, validation, logits, "last", state.epoch)
        if test_logits is not None:
            clips["test"] = len(test)
            self._save_predictions(TEST_PREDICTIONS, test, test_logits)
            best = state.best_epoch
            self._draw_confusion("confusion_test", "test", test, test_logits, "best", best)
        guess = self._chance(validation).score
        self.draw_learning_curves(state, guess)
        self.write_results({"clips": clips, "chance": guess, **scores})

    def draw_learning_curves(self, state: TrainState, guess: float | None) -> None:
        """Of all epochs; `guess` is what chance scores."""
        name, clips = self.splits.validation_name, len(self.splits.validation)
        title = f"{self.recipe.name}: {len(self.splits.train):,} training clips; {name}, "
        learning_curves(
            {self.folder.name: state.rows},
            self.folder / "plots" / "learning_curves.png",
            self.recipe.metric,
            f"{title}{clips:,} clips",
            name,
            guess,
        )

    def write_results(self, content: dict[str, Any]) -> None:
        """`results.json`, which makes the run a finished one."""
        head = {"version": VERSION, "validation_split": self.splits.validation_name}
        write_json(self.folder / RESULTS, {**head, **content})

    def _save_predictions(self, file: str, clips: Clips, logits: Tensor) -> None:
        probabilities = to_probabilities(logits, self.manifest.multi_label)
        write_predictions(self.folder / file, self.manifest, clips, probabilities)

    def _draw_confusion(
        self, file: str, split: str, clips: Clips, logits: Tensor, model: str, epoch: int
    ) -> None:
        """Of the predictions of a model on a split, where a clip has one class."""
        if self.manifest.multi_label:
            return
        classes = self.manifest.classes
        matrix = confusion_matrix(logits.numpy(), one_hot(clips, len(classes)))
        title = confusion_title(self.recipe.name, split, matrix, f"{model} (epoch {epoch})")
        confusion(matrix, classes, self.folder / "plots" / f"{file}.png", title)

    def close(self) -> None:
        """Let go of the terminal and of TensorBoard's file."""
        for shown in (self.bar, self.board):
            if shown is not None:
                shown.close()


def _description(run: Run, state: TrainState) -> str:
    model, splits = state.model, run.splits
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = f" ({trained:,} trained)" if trained < parameters else ""
    device = state.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    kind = run.recipe.model
    if run.recipe.model == "ast":
        kind = f"{run.recipe.preset}, {run.recipe.model_config(num_classes=1).num_tokens} tokens"
    test = f", {len(splits.test)} test" if splits.test else ""
    which = "" if splits.validation_name == "validation" else f" ({splits.validation_name})"
    resumed = f"; resuming after epoch {state.epoch}" if state.epoch else ""
    resumed = "; finished before, nothing is left to train" if state.finished else resumed
    return (
        f"{run.recipe.name}: {kind}, {parameters:,} parameters{frozen}; {len(splits.train)} "
        f"training clips, {len(splits.validation)} validation{which}{test}; "
        f"{name}, {state.precision}; {run.folder}{resumed}"
    )
