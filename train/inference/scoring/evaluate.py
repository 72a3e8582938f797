"""The scores of a trained model on a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ast_model import AST, Frontend
from data.cache import ClipCache
from train.buckets import own_frames
from train.evaluation import default_workers, predict_logits
from train.inference.scoring.selection import Selection, Trained, load_trained, select
from train.metrics import evaluate_scores, padded_cmap, to_probabilities
from train.preparation.preflight import decodable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What a model says of clips, and how good that is."""

    model: str
    selection: Selection  # its clips are those that were scored
    logits: Tensor  # (clips, classes) float32
    targets: Tensor  # (clips, classes) float32, 0 or 1
    sigmoid: bool  # trained with binary cross-entropy, so ranked by logits
    probabilities: Tensor  # (clips, classes) float32
    scores: dict[str, float]
    unreadable: tuple[Path, ...] = ()  # files of clips that were left out
    vectors: Tensor | None = None  # (clips, width), what the head receives; if asked for, of an AST
    pad: bool = True  # whether short clips were padded to the model's input
    keep_tokens: float = 1.0  # share of the patch tokens that the last block saw

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each clip, (clips,) int64."""
        return self.logits.argmax(dim=1)


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    corpus: str | None = None,
    fold: int | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    skip_unreadable: bool | None = None,
    precision: str = "fp32",
    device: str = "auto",
    cache: ClipCache | None = None,
    workers: int | None = None,
    compile: bool = False,
    keep_tokens: float = 1.0,
    pad: bool = True,
    vectors: bool = False,
) -> Evaluation:
    """Score a model, by default on clips that it was not trained on.

    Args:
        model: run folder (its `last/`), or what `weights.load` takes.
        data: folder of the data set; a table's file, a hub id of hugging_face.
        corpus: which data set it is; None: the run's.
        fold, split: one of them, to choose the clips, as `select` explains.
        columns: of a table, which holds what, as `select` explains.
        skip_unreadable: leave out clips whose files cannot be decoded, and log which, instead of
            an error; None: as the run did.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        cache: where decoded clips are kept.
        workers: decoding processes; None chooses by device.
        compile: compile the model first.
        keep_tokens: share of the patch tokens that the last block sees, as `AST.merge_tokens`.
        pad: with False, clips shorter than the model's input run at their own length, in batches of
            the same number of patches.
        vectors: give what the head receives of each clip, too.

    Raises:
        FileNotFoundError, ValueError: the model or the data cannot be read, or do not fit.
    """
    trained = load_trained(model, device, precision, compile, keep_tokens)
    selection = select(trained, data, corpus, fold, split, columns)
    return score(trained, selection, skip_unreadable, cache, workers, pad, vectors)


def score(
    trained: Trained,
    selection: Selection,
    skip_unreadable: bool | None = None,
    cache: ClipCache | None = None,
    workers: int | None = None,
    pad: bool = True,
    vectors: bool = False,
) -> Evaluation:
    """Run a model on the clips; the arguments are those of `evaluate`."""
    classifier, run = trained.classifier, trained.run
    if not pad:
        own_frames(trained.name, classifier.model, classifier.frontend)  # before clips are decoded
    if skip_unreadable is None:
        skip_unreadable = run is not None and run.recipe.skip_unreadable
    unreadable: tuple[Path, ...] = ()
    if skip_unreadable:
        selection, unreadable = _readable(selection, classifier.frontend, cache)
    if workers is None:
        workers = default_workers(next(classifier.parameters()).device)
    collected: list[Tensor] | None = None
    if vectors and isinstance(classifier.model, AST):
        collected = []
    logits, targets = predict_logits(
        classifier.model,
        classifier.frontend,
        selection.clips,
        trained.precision,
        cache=cache,
        workers=workers,
        pad=pad,
        vectors=collected,
    )
    classifier.require_finite(logits)
    sigmoid = classifier.multi_label if run is None else run.recipe.loss == "bce"
    multi_label = selection.manifest.multi_label
    probabilities = to_probabilities(logits, classifier.multi_label)
    scores = evaluate_scores(logits.numpy(), targets.numpy(), multi_label, sigmoid)
    if multi_label:
        scores["padded_cmAP"] = padded_cmap(probabilities.numpy(), targets.numpy())
    return Evaluation(
        trained.name,
        selection,
        logits,
        targets,
        sigmoid,
        probabilities,
        scores,
        unreadable,
        classifier.require_finite(torch.stack(collected)) if collected else None,
        pad,
        trained.keep_tokens,
    )


def _readable(
    selection: Selection, frontend: Frontend, cache: ClipCache | None
) -> tuple[Selection, tuple[Path, ...]]:
    """The selection without clips that cannot be decoded or fill no window, and their files."""
    clips = selection.clips
    sound = decodable(clips, frontend.config.sample_rate, cache, frontend.fbank.window_size)
    if sound.all():
        return selection, ()
    rest, files = clips[sound], tuple(sorted({clip.path for clip in clips[~sound]}))
    if not rest:
        raise ValueError(f"none of {len(clips)} clips can be read; the first: {files[0]}")
    listed = "".join(f"\n  {path}" for path in files)
    count = f"{len(clips) - len(rest)} of {len(clips)}"
    logger.warning(
        f"{count} clips left out, which cannot be read or are shorter than 25 ms:{listed}"
    )
    return replace(selection, clips=rest), files
