"""Self-supervised pretraining: what is hidden of a clip is found, or made, from the rest.

Shapes: B batch, T frames, M mel bins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ast_model import ASTConfig, AudioClassifier
from ast_model.pretraining import PretrainingConfig, pretraining_model
from data import Clips
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, load_batches
from train.device import autocast
from train.distributed import gather, is_main_process, shard, world_size
from train.init_model import initial_model
from train.pretraining.picture import draw_reconstruction
from train.run.folder import Row
from weights.card import UNTRAINED

if TYPE_CHECKING:
    from train.loop import TrainState
    from train.run.log import Run
    from train.tasks import Evaluate

PICTURES = 5  # of a run's reconstruction, evenly over its epochs


class Pretraining:
    """A `Task`: the pretext of the recipe, without labels or augmentation.

    What is hidden of a clip follows from its seed: in training from (seed, epoch, index), so that
    every epoch hides something else, in validation from (seed, 0, index).
    """

    def initial_model(self, run: Run) -> nn.Module:
        """An encoder as `init_from` says, and random layers around it."""
        encoder = initial_model(run.recipe, UNTRAINED)
        model = _without_head(replace(self.config(run), encoder=encoder.config))
        model.encoder.load_state_dict(encoder.state_dict())
        return model

    def config(self, run: Run) -> PretrainingConfig:
        """The encoder's and what is trained around it."""
        return run.recipe.pretraining_config()

    def empty_model(self, config: dict[str, Any]) -> nn.Module:
        """A model of a configuration that `asdict` wrote, to be filled with stored parameters."""
        encoder = ASTConfig(**config["encoder"])
        return _without_head(PretrainingConfig(**{**config, "encoder": encoder}))

    def class_weights(self, run: Run, device: torch.device) -> None:
        """None: there are no classes."""

    def dataset(self, state: TrainState, clips: Clips, cache: ClipCache | None) -> ClipDataset:
        """The training clips of the epoch under way, as they are."""
        return self._dataset(state, clips, cache, state.epoch, state.recipe.skip_unreadable)

    def _dataset(
        self,
        state: TrainState,
        clips: Clips,
        cache: ClipCache | None,
        epoch: int = 0,
        skip_unreadable: bool = False,
    ) -> ClipDataset:
        rate, seed = state.frontend.config.sample_rate, state.recipe.seed
        return ClipDataset(
            clips, 0, rate, cache, seed=seed, epoch=epoch, skip_unreadable=skip_unreadable
        )

    def sampling_weights(self, state: TrainState, clips: Clips) -> None:
        """None: each clip is drawn once."""

    @torch.no_grad()
    def network_input(self, state: TrainState, batch: Batch) -> tuple[Tensor, Tensor]:
        """The filterbank (B, T, M), and the seed (B,) of what is hidden of each clip."""
        device = state.device
        waveforms = batch.waveforms.to(device, non_blocking=True)
        seeds = batch.noise_seeds.to(device, non_blocking=True)
        return state.frontend(waveforms, batch.lengths), seeds

    def empty_targets(self, state: TrainState, count: int) -> Tensor:
        """Seeds, (count,)."""
        return torch.arange(count)

    def loss(self, model: nn.Module, state: TrainState, fbank: Tensor, targets: Tensor) -> Tensor:
        """The recipe's loss summed over the clips, a scalar."""
        with autocast(state.device, state.precision):
            return model(fbank, targets).loss.sum()

    @torch.no_grad()
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
        """The recipe's scores of each clip (clips, scores), in its order, and their means.

        Of several processes, each runs its shard of the clips, and gets all.

        Raises:
            ValueError: a score is not finite; the message names the model.
        """
        model.eval()
        own, names = shard(len(clips)), state.recipe.scores
        dataset, device = self._dataset(state, clips, cache), state.device
        size = -(-state.recipe.batch_size // world_size())
        order = [[*own[start : start + size]] for start in range(0, len(own), size)]
        batches = load_batches(
            dataset, batch_sampler=order, workers=workers, pin_memory=device.type == "cuda"
        )
        # Kept tensors of each batch would lie between large ones, and scatter what those free.
        found, done = torch.empty(len(own), len(names)), 0
        quiet = None if is_main_process() else True
        bar = tqdm(total=len(own), desc="evaluate", unit="clip", leave=False, disable=quiet)
        # Around all batches: under no_grad, autocast casts weights once.
        with bar, autocast(device, state.precision):
            for batch in batches:
                losses = model(*self.network_input(state, batch))
                before, done = done, done + len(batch.lengths)
                found[before:done] = torch.stack([getattr(losses, each) for each in names], 1)
                bar.update(len(batch.lengths))
        outputs = torch.cat(gather(found))
        if not outputs.isfinite().all():
            raise ValueError(
                f"{run.folder / name} in epoch {state.epoch + 1}: scores of "
                f"{int((~outputs.isfinite()).any(1).sum())} of {len(outputs)} clips are NaN or "
                "infinite; try a lower --learning-rate or --precision fp32"
            )
        means = outputs.double().mean(0).tolist()
        return outputs, dict(zip(names, means, strict=True))

    def score_epoch(self, run: Run, state: TrainState, evaluate: Evaluate) -> tuple[Tensor, Row]:
        """The scores of each validation clip, and their means."""
        return evaluate(state.eval_model, run.splits.validation)

    def show_epoch(self, run: Run, state: TrainState) -> None:
        """A picture of a validation clip, its mask and its reconstruction, every few epochs."""
        every = -(-run.recipe.epochs // PICTURES)
        due = state.finished or state.epoch % every == 0
        if not due or "reconstruction" not in run.recipe.scores or not is_main_process():
            return
        clips = run.splits.validation
        index = len(clips) // 2
        item = self._dataset(state, clips, None)[index]
        clip = item.waveform[None].to(state.device), torch.tensor([len(item.waveform)])
        fbank, seed = state.frontend(*clip), torch.tensor([item.noise_seed], device=state.device)
        draw_reconstruction(
            run.folder / "plots" / f"reconstruction-epoch{state.epoch}.png",
            state.model,
            state.frontend,
            fbank,
            seed,
            f"{run.recipe.name}, epoch {state.epoch}: {run.manifest.relative(clips[index].path)}",
        )

    def classifier(self, run: Run, state: TrainState, model: nn.Module) -> AudioClassifier:
        """The encoder behind its front end; its head of one class was not trained."""
        return AudioClassifier(model.encoder, state.frontend, UNTRAINED)

    def save_results(
        self, run: Run, state: TrainState, outputs: Tensor, evaluate: Evaluate
    ) -> None:
        """The scores of the last and the best epoch, and the learning curves."""
        if not is_main_process():
            return
        chance = {}
        if run.recipe.metric == "accuracy":
            chance = {"chance": 1 / run.recipe.pretraining_config().num_masked}
        run.draw_learning_curves(state, chance.get("chance"))
        models = {"last": state.rows[-1], "best": state.rows[state.best_epoch - 1]}
        run.write_results({"clips": {"validation": len(outputs)}, **chance, "validation": models})


def _without_head(config: PretrainingConfig) -> nn.Module:
    """A random model; its encoder's head, which no pretext trains, takes no gradient."""
    model = pretraining_model(config)
    for layer in (model.encoder.head_norm, model.encoder.head):
        layer.requires_grad_(False)
    return model
