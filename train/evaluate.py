"""Scores of a model on clips, batched on the model's device."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ast_model import AST, Frontend
from data import Clip
from data.cache import ClipCache
from data.dataset import ClipDataset, collate
from train.device import autocast


@torch.inference_mode()
def predict_logits(
    model: AST,
    frontend: Frontend,
    clips: Sequence[Clip],
    precision: str,
    batch_size: int = 48,
    cache: ClipCache | None = None,
    workers: int = 0,
) -> tuple[Tensor, Tensor]:
    """Logits (clips, classes) and targets (clips, classes), float32 on the CPU, in clip order.

    The same steps as in training, without augmentation. The model is left in evaluation mode.
    """
    model.eval()
    device = next(model.parameters()).device
    num_classes = model.config.num_classes
    dataset = ClipDataset(clips, num_classes, frontend.config.sample_rate, cache)
    loader = DataLoader(dataset, batch_size, collate_fn=collate, num_workers=workers)
    logits, targets = [], []
    with tqdm(total=len(clips), desc="evaluate", unit="clip", leave=False, disable=None) as bar:
        for batch in loader:
            fbank = frontend(batch.waveforms.to(device, non_blocking=True), batch.lengths)
            with autocast(device, precision):
                logits.append(model(fbank).float().cpu())
            targets.append(batch.targets)
            bar.update(len(batch.targets))
    return torch.cat(logits), torch.cat(targets)


def default_workers(device: torch.device) -> int:
    """Decoding processes: none beside a CPU that trains, else one a core up to eight."""
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
