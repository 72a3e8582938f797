"""Logits of a model on clips, batched on the model's device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from tqdm import tqdm

from ast_model import AST, Frontend
from ast_model.baseline import Baseline
from data import Clip
from data.audio import read_header
from data.cache import ClipCache
from data.dataset import Batch, ClipDataset, load_batches
from train.buckets import Frames, buckets, own_frames
from train.device import autocast
from train.distributed import gather, is_main_process, local_world_size, shard


@torch.no_grad()
def predict_logits(
    model: AST | Baseline,
    frontend: Frontend,
    clips: Sequence[Clip],
    precision: str,
    batch_size: int = 48,
    cache: ClipCache | None = None,
    workers: int = 0,
    pad: bool = True,
    vectors: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (clips, classes) and targets (clips, classes), float32 on the CPU, in clip order.

    The same steps as in training, without augmentation. The model is left in evaluation mode. Of
    several processes, each runs its shard of the clips, in batches of this size, and gets all.

    Args:
        pad: pad shorter clips to the model's input, as in training. Without, clips run at their own
            length, in batches of those that fill the same patches; headers are read first.
        vectors: gets what the head receives of each clip of this process, (width,) float32, of an
            AST.

    Raises:
        ValueError: `pad=False` for a model that is no AST; a clip is shorter than a window.
    """
    frames = None if pad else own_frames("the model", model, frontend)
    model.eval()
    device = next(model.parameters()).device
    own = shard(len(clips))
    clips = clips[own.start : own.stop]
    dataset = ClipDataset(clips, model.config.num_classes, frontend.config.sample_rate, cache)
    numbers = range(len(clips))
    order = [[*numbers[start : start + batch_size]] for start in numbers[::batch_size]]
    if frames:
        order = list(buckets(_samples(clips, dataset.sample_rate), batch_size, frames))
    batches = load_batches(
        dataset, batch_sampler=order, workers=workers, pin_memory=device.type == "cuda"
    )
    # Kept tensors of each batch would lie between large ones, and scatter what those free.
    logits, targets = (torch.empty(len(clips), model.config.num_classes) for _ in range(2))
    head_inputs = None if vectors is None else torch.empty(len(clips), model.config.width)
    quiet = None if is_main_process() else True
    bar = tqdm(total=len(clips), desc="evaluate", unit="clip", leave=False, disable=quiet)
    # Around all batches: under no_grad, not under inference_mode, autocast casts weights once.
    with bar, autocast(device, precision), _head_inputs(model, vectors is not None) as inputs:
        for batch_clips, batch in zip(order, batches, strict=True):
            _require_a_window(frontend, [clips[index] for index in batch_clips], batch.lengths)
            for rows, fbank in _inputs(frontend, batch, device, frames):
                places = [batch_clips[row] for row in rows]
                logits[places] = (model(fbank) if pad else model(fbank, pad=False)).float().cpu()
                targets[places] = batch.targets[rows]
                if head_inputs is not None:
                    head_inputs[places] = inputs.pop()
            bar.update(len(batch.targets))
    if vectors is not None:
        vectors += head_inputs
    logits, targets = (torch.cat(shards) for shards in zip(*gather((logits, targets)), strict=True))
    return logits, targets


def _require_a_window(frontend: Frontend, clips: Sequence[Clip], lengths: Tensor) -> None:
    """ValueError that names the first clip of which the filterbank has not one frame."""
    least, rate = frontend.fbank.window_size, frontend.config.sample_rate
    for clip, samples in zip(clips, lengths.tolist(), strict=True):
        if samples < least:
            raise ValueError(
                f"{clip.path} has {samples} samples at {rate} Hz; at least {least} are needed, one "
                "window of 25 ms: remove the clip, or leave it out with --skip-unreadable"
            )


def _inputs(
    frontend: Frontend, batch: Batch, device: torch.device, frames: Frames | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows of a batch with the network's input for them: all, or bucket by bucket.

    There is one bucket, unless a file is not as long as its header says.
    """
    waveforms, lengths = batch.waveforms.to(device, non_blocking=True), batch.lengths
    if frames is None:
        yield [*range(len(lengths))], frontend(waveforms, lengths)
        return
    samples = lengths.tolist()
    for rows in buckets(samples, len(samples), frames):
        yield rows, frontend(waveforms[rows], lengths[rows], frames(samples[rows[0]]))


def _samples(clips: Sequence[Clip], sample_rate: int) -> list[int]:
    """Of each clip, by its header, at a sample rate; 0 where loading it will say what is wrong."""
    samples = []
    for clip in clips:
        try:
            samples.append(round(read_header(clip.path).seconds * sample_rate))
        except (OSError, ValueError):
            samples.append(0)
    return samples


@contextmanager
def _head_inputs(model: AST | Baseline, wanted: bool) -> Iterator[list[Tensor]]:
    """Collects what the head receives of the clips that run through an AST meanwhile, if wanted."""
    inputs: list[Tensor] = []
    if not wanted:
        yield inputs
        return
    hook = model.head_norm.register_forward_pre_hook(
        lambda _, given: inputs.append(given[0].float().cpu())
    )
    try:
        yield inputs
    finally:
        hook.remove()


def default_workers(device: torch.device) -> int:
    """Decoding processes: none beside a CPU that trains, else one a core up to eight.

    Processes that train on one machine share its cores.
    """
    cores = (os.cpu_count() or 1) // local_world_size()
    return 0 if device.type == "cpu" else max(1, min(8, cores))
