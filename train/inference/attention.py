"""What a model looks at in a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from train.device import autocast
from train.inference.models import load_model
from train.inference.recordings import Recordings, find_recordings
from train.inference.spectrogram import attention_figure
from train.run.plots import save_figure

TITLES = {"rollout": "attention rollout", "last": "attention of the last layer"}


@dataclass(frozen=True)
class Attention:
    """How much each patch of one window of a recording counts for the class tokens."""

    path: Path
    start: float  # of the window, seconds
    waveform: Tensor  # (samples,), up to the model's input
    patches: Tensor  # (frequency, time), sum 1
    label: str  # the likeliest class of the window
    probability: float


def attention(
    model: str | Path,
    file: str | Path,
    *,
    kind: str = "rollout",
    at: float = 0.0,
    precision: str = "fp32",
    device: str = "auto",
    out: Path | None = None,
) -> Attention:
    """The attention of a model over one window of a recording.

    Args:
        model: run folder (its `last/`), or what `weights.load` takes; an AST.
        file: the recording.
        kind: rollout (followed through all layers) or last (of the last layer alone).
        at: seconds into the recording where the window begins.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        out: a PNG file to draw it in, over the window's spectrogram; None draws nothing.

    Raises:
        FileNotFoundError, ValueError: the model or the recording cannot be read, the model is no
            AST, or there is nothing at that time.
    """
    file = Path(file)
    if out and out.suffix.lower() != ".png":
        raise ValueError(f"{out} is to be a picture; give a name that ends in .png")
    if file.is_dir():
        raise ValueError(f"{file} is a folder; name one audio file")
    files = find_recordings(file)  # before a model is fetched
    classifier, precision = load_model(model, device, precision, needs_head=False)
    recordings = Recordings(files, classifier)
    rate, seconds = recordings.sample_rate, recordings.seconds[file]
    if not 0 <= at < seconds:
        raise ValueError(f"--at {at:g} is not within {file}, 0 to {seconds:g} s")
    waveform = excerpt(recordings.stream(file), round(at * rate), classifier.window_size)
    recordings.require_length(file, waveform)
    with autocast(next(classifier.parameters()).device, precision):
        ((label, probability),) = classifier.classify(waveform, top_k=1)
        patches = classifier.attention_map(waveform[None], kind=kind)[0].cpu()
    if out:
        title = f"{file.name}: {label} {probability:.1%} ({TITLES[kind]})"
        save_figure(attention_figure(classifier, waveform, patches, at, title), out)
    return Attention(file, at, waveform, patches, label, probability)


def excerpt(blocks: Iterable[Tensor], start: int, size: int) -> Tensor:
    """Samples from `start` on, `size` of them or as many as there are, of consecutive blocks."""
    pieces, position = [torch.zeros(0)], 0
    for block in blocks:
        pieces.append(block[max(0, start - position) : max(0, start + size - position)])
        position += len(block)
        if position >= start + size:
            break
    return torch.cat(pieces)
