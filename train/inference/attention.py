"""`ast-audio attention`: what a model looks at in a recording, drawn over its spectrogram."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

import weights
from ast_model import AST
from train.cli.options import AttentionOptions
from train.device import choose_device
from train.inference.export import find_model
from train.inference.recordings import Recordings, find_recordings
from train.inference.spectrogram import attention_figure
from train.plots import save_figure


def attention(options: AttentionOptions) -> None:
    """Draw the map of one window of a recording.

    Raises:
        FileNotFoundError, ValueError: the model or the recording cannot be read, the model is no
            AST, or there is nothing at that time.
    """
    if options.out.suffix.lower() != ".png":
        raise ValueError(f"{options.out} is to be a picture; give a name that ends in .png")
    if options.file.is_dir():
        raise ValueError(f"{options.file} is a folder; name one audio file")
    files = find_recordings([options.file])  # before a model is fetched
    classifier = weights.load(find_model(options.model)[0], device=choose_device(options.device))
    if not isinstance(classifier.model, AST):
        raise ValueError(f"{options.model} is a baseline of timm, without attention; give an AST")
    recordings = Recordings(files, classifier)
    rate, size = recordings.sample_rate, classifier.window_size
    if not 0 <= options.at < recordings.seconds[options.file]:
        seconds = recordings.seconds[options.file]
        raise ValueError(f"--at {options.at:g} is not within {options.file}, 0 to {seconds:g} s")
    waveform = excerpt(recordings.stream(options.file), round(options.at * rate), size)
    recordings.require_length(options.file, waveform)
    ((name, probability),) = classifier(waveform, top_k=1)
    relevance = classifier.attention_map(waveform[None], kind=options.kind)[0].cpu()
    kind = {"rollout": "attention rollout", "last": "attention of the last layer"}[options.kind]
    title = f"{options.file.name}: {name} {probability:.1%} ({kind})"
    figure = attention_figure(classifier, waveform, relevance, options.at, title)
    save_figure(figure, options.out)
    print(f"wrote {options.out}: {name} {probability:.1%}")


def excerpt(blocks: Iterable[Tensor], start: int, size: int) -> Tensor:
    """Samples from `start` on, `size` of them or as many as there are, of consecutive blocks."""
    parts, position = [torch.zeros(0)], 0
    for block in blocks:
        parts.append(block[max(0, start - position) : max(0, start + size - position)])
        position += len(block)
        if position >= start + size:
            break
    return torch.cat(parts)
