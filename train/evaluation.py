"""Logits of a model on clips, batched on the model's device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from tqdm import tqdm

from ast_model import AST, Frontend
from ast_model.baseline import Baseline
from data import Clip
from data.cache import ClipCache
from data.dataset import ClipDataset, load_batches
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
) -> tuple[Tensor, Tensor]:
    """Logits (clips, classes) and targets (clips, classes), float32 on the CPU, in clip order.

    The same steps as in training, without augmentation. The model is left in evaluation mode. Of
    several processes, each runs its shard of the clips, in batches of this size, and gets all.
    """
    model.eval()
    device = next(model.parameters()).device
    own = shard(len(clips))
    clips = clips[own.start : own.stop]
    dataset = ClipDataset(clips, model.config.num_classes, frontend.config.sample_rate, cache)
    batches = load_batches(
        dataset, batch_size=batch_size, workers=workers, pin_memory=device.type == "cuda"
    )
    logits, targets = [], []
    quiet = None if is_main_process() else True
    bar = tqdm(total=len(clips), desc="evaluate", unit="clip", leave=False, disable=quiet)
    # Around all batches: under no_grad, not under inference_mode, autocast casts weights once.
    with bar, autocast(device, precision):
        for batch in batches:
            fbank = frontend(batch.waveforms.to(device, non_blocking=True), batch.lengths)
            logits.append(model(fbank).float().cpu())
            targets.append(batch.targets)
            bar.update(len(batch.targets))
    shards = zip(*gather((logits, targets)), strict=True)
    logits, targets = (torch.cat([*chain.from_iterable(each)]) for each in shards)
    return logits, targets


def default_workers(device: torch.device) -> int:
    """Decoding processes: none beside a CPU that trains, else one a core up to eight.

    Processes that train on one machine share its cores.
    """
    cores = (os.cpu_count() or 1) // local_world_size()
    return 0 if device.type == "cpu" else max(1, min(8, cores))
