"""Supervised training: a class, or several, for every clip.

Shapes: B batch, T frames, M mel bins, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import weights
from ast_model import AST, ASTConfig, AudioClassifier
from ast_model.baseline import Baseline, BaselineConfig
from data import Clips
from data.augment import (
    add_noise,
    cutmix,
    spec_augment,
    time_shift,
    warp_frequency,
    warp_time,
)
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset
from data.files import naming
from data.sampling import clip_weights
from train.device import autocast
from train.distributed import barrier, broadcast_buffers, on_main_process, world_size
from train.evaluation import predict_logits
from train.init_model import empty_model, initial_model
from train.loss import inverse_frequency, training_loss
from train.metrics import evaluate_scores, one_hot, to_probabilities
from train.run.folder import Row

if TYPE_CHECKING:
    from train.loop import TrainState
    from train.run.log import Run
    from train.tasks import Evaluate


class Classification:
    """A `Task`: classes of clips, by the recipe's loss and augmentation."""

    def initial_model(self, run: Run) -> AST | Baseline:
        """The recipe's AST or baseline as `init_from` says."""
        return initial_model(run.recipe, run.manifest.classes)

    def config(self, run: Run) -> ASTConfig | BaselineConfig:
        """Of the recipe's AST or baseline."""
        recipe, classes = run.recipe, len(run.manifest.classes)
        if recipe.model == "ast":
            return recipe.model_config(classes)
        return BaselineConfig(recipe.model, classes, recipe.num_frames, recipe.num_mel_bins)

    def empty_model(self, config: dict[str, Any]) -> AST | Baseline:
        """A model of a configuration that `asdict` wrote, to be filled with stored parameters."""
        return empty_model(config)

    def class_weights(self, run: Run, device: torch.device) -> Tensor | None:
        """(C,), inverse to how frequent a class is, where the recipe wants it."""
        if not run.recipe.class_weights:
            return None
        return inverse_frequency(run.splits.train, len(run.manifest.classes)).to(device)

    def dataset(self, state: TrainState, clips: Clips, cache: ClipCache | None) -> ClipDataset:
        """The training clips of the epoch under way, augmented, mixed and placed on waveforms."""
        recipe, num_classes = state.recipe, state.model.config.num_classes
        return ClipDataset(
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

    def sampling_weights(self, state: TrainState, clips: Clips) -> np.ndarray | None:
        """(clips,), by how rare their classes are, where the recipe balances them."""
        if not state.recipe.balanced_sampling:
            return None
        return clip_weights(clips, state.model.config.num_classes)

    @torch.no_grad()
    def network_input(self, state: TrainState, batch: Batch) -> tuple[Tensor, Tensor]:
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
        if recipe.frequency_warp:
            band = frontend.fbank.band
            fbank = warp_frequency(fbank, uniforms, recipe.frequency_warp, band)
        if recipe.time_warp:
            fbank = warp_time(fbank, uniforms, recipe.time_warp)
        fbank = spec_augment(fbank, uniforms, recipe.frequency_mask, recipe.time_mask)
        fbank = frontend.normalise(fbank)
        if recipe.noise:
            fbank = add_noise(fbank, uniforms, batch.noise_seeds)
        if recipe.time_shift_frames:
            fbank = time_shift(fbank, uniforms, recipe.time_shift_frames)
        return fbank, targets

    def empty_targets(self, state: TrainState, count: int) -> Tensor:
        """Of no class, (count, C)."""
        return torch.zeros(count, state.model.config.num_classes)

    def loss(self, model: nn.Module, state: TrainState, fbank: Tensor, targets: Tensor) -> Tensor:
        """The recipe's loss summed over the clips, a scalar."""
        with autocast(state.device, state.precision):
            logits = model(fbank)
        return training_loss(logits.float(), targets, state.recipe, state.class_weights)

    def evaluate(
        self,
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

    def score_epoch(self, run: Run, state: TrainState, evaluate: Evaluate) -> tuple[Tensor, Row]:
        """Logits (validation clips, C) and scores, with that of the epochs' ensemble if wanted."""
        logits, scores = evaluate(state.eval_model, run.splits.validation)
        if state.recipe.checkpoint_ensemble:
            scores[f"ensemble_{state.recipe.metric}"] = ensemble_score(run, state, logits)
        return logits, scores

    def show_epoch(self, run: Run, state: TrainState) -> None:
        """Once in a run, a warning where it is still at chance."""
        run.warn_at_chance(state)

    def classifier(self, run: Run, state: TrainState, model: AST | Baseline) -> AudioClassifier:
        """The model behind its front end, with the names of the classes."""
        classes, multi_label = run.manifest.classes, run.manifest.multi_label
        return AudioClassifier(model, state.frontend, classes, multi_label)

    def save_results(
        self, run: Run, state: TrainState, outputs: Tensor, evaluate: Evaluate
    ) -> None:
        """Score what the finished run has made on all its splits, and write it.

        Args:
            outputs: logits (validation clips, C) of the final model.
        """
        validation = {"last": state.rows[-1], "best": state.rows[state.best_epoch - 1]}
        if state.average is not None and state.average.n_averaged:
            run.save_model("averaged", state, state.average.module)
            model = state.average.module
            validation["averaged"] = evaluate(model, run.splits.validation, name="averaged")[1]
        scores, test_logits = {"validation": validation}, None
        if run.splits.test:
            barrier()  # the models are written
            scores["test"] = {}
            for name in validation:
                model = weights.load(run.folder / name, device=state.device).model
                logits_of_test, scores["test"][name] = evaluate(model, run.splits.test, name=name)
                test_logits = logits_of_test if name == "best" else test_logits
        run.save_results(state, outputs, scores, test_logits)


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
