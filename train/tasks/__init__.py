"""What the loop trains: classification of clips, or a pretext on clips without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ast_model import AudioClassifier
from data import Clips
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset
from train.recipe import BaseRecipe
from train.run.folder import Row
from train.tasks.classification import Classification
from train.tasks.pretraining import Pretraining

if TYPE_CHECKING:
    from train.loop import TrainState
    from train.run.log import Run

Evaluate = Callable[..., tuple[Tensor, Row]]
"""`Task.evaluate` of a run: takes a model, clips and, of another than the last, its name."""


class Task(Protocol):
    """What is learnt: the model, its input and loss, its scores and what they are worth showing.

    Shapes: B batch, T frames, M mel bins.
    """

    def initial_model(self, run: Run) -> nn.Module:
        """The model before the first step."""

    def config(self, run: Run) -> Any:
        """The configuration, a dataclass, that a model of this run has."""

    def empty_model(self, config: dict[str, Any]) -> nn.Module:
        """A model of a configuration that `asdict` wrote, to be filled with stored parameters."""

    def class_weights(self, run: Run, device: torch.device) -> Tensor | None:
        """Factors on the loss of each class; None for none."""

    def dataset(self, state: TrainState, clips: Clips, cache: ClipCache | None) -> ClipDataset:
        """The training clips of the epoch under way."""

    def sampling_weights(self, state: TrainState, clips: Clips) -> np.ndarray | None:
        """How often each clip is drawn; None: each once."""

    def network_input(self, state: TrainState, batch: Batch) -> tuple[Tensor, Tensor]:
        """The filterbank (B, T, M) of a batch, and what the loss needs beside it (B, …)."""

    def empty_targets(self, state: TrainState, count: int) -> Tensor:
        """What the loss needs beside the filterbank of so many clips that are not counted."""

    def loss(self, model: nn.Module, state: TrainState, fbank: Tensor, targets: Tensor) -> Tensor:
        """The loss summed over the clips, a scalar in float32."""

    def evaluate(
        self,
        model: nn.Module,
        clips: Clips,
        *,
        run: Run,
        state: TrainState,
        cache: ClipCache | None,
        workers: int,
        name: str = "last",
    ) -> tuple[Tensor, Row]:
        """What a model gives for each clip (clips, …), and its scores by the run's settings.

        Args:
            name: of the model in the run folder.

        Raises:
            ValueError: a number is not finite; the message names the model.
        """

    def score_epoch(self, run: Run, state: TrainState, evaluate: Evaluate) -> tuple[Tensor, Row]:
        """`evaluate` on the validation clips after an epoch."""

    def show_epoch(self, run: Run, state: TrainState) -> None:
        """What the user should see after an epoch, beside its row."""

    def classifier(self, run: Run, state: TrainState, model: nn.Module) -> AudioClassifier:
        """What is saved of a model."""

    def save_results(
        self, run: Run, state: TrainState, outputs: Tensor, evaluate: Evaluate
    ) -> None:
        """Score what the finished run has made, and write it.

        Args:
            outputs: for the validation clips, of the final model.
        """


TASKS: dict[str, Task] = {"training": Classification(), "pretraining": Pretraining()}


def task_of(recipe: BaseRecipe) -> Task:
    """What a recipe trains."""
    return TASKS[recipe.kind]
