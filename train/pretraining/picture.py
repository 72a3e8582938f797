"""A clip, what is hidden of it, and what a model makes of that, as a PNG file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ast_model import Frontend
from train.run.plots import save_figure
from train.run.spectrogram import draw_spectrogram, time_axis

TITLES = ("clip", "what the model sees", "reconstruction of what is hidden")


@torch.no_grad()
def draw_reconstruction(
    path: Path, model: nn.Module, frontend: Frontend, fbank: Tensor, seed: Tensor, title: str
) -> None:
    """Draw a clip, its mask and its reconstruction side by side.

    Args:
        model: a model of pretraining, which is left in evaluation mode.
        frontend: that made the filterbank.
        fbank: (1, frames, mels), normalised.
        seed: (1,), of the mask.
    """
    made, mask = model.eval().reconstruct(fbank, seed)
    patch = model.config.encoder.patch
    figure = reconstruction_figure(
        fbank[0].cpu().numpy(), made[0].float().cpu().numpy(), mask[0].cpu().numpy(), patch,
        frontend, title,
    )  # fmt: skip
    save_figure(figure, path)


def reconstruction_figure(
    fbank: np.ndarray,
    made: np.ndarray,
    mask: np.ndarray,
    patch: tuple[int, int],
    frontend: Frontend,
    title: str,
) -> Figure:
    """Return the figure of `draw_reconstruction`.

    Args:
        fbank, made: (frames, mels).
        mask: (frequency, time) of the patch grid, True where hidden.
        patch: (mels, frames) of one.
    """
    hidden = np.zeros(fbank.shape, bool)
    cells = mask.T.repeat(patch[1], 0).repeat(patch[0], 1)
    hidden[: len(cells), : cells.shape[1]] = cells
    columns = fbank, np.where(hidden, np.nan, fbank), np.where(hidden, made, fbank)
    seconds = frontend.fbank.shift / frontend.fbank.sample_rate
    low, high = np.percentile(fbank, (1, 99.8))
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, heading, values in zip(panels, TITLES, columns, strict=True):
        axes.set_facecolor("#BBBBBB")
        image = draw_spectrogram(axes, values, seconds, frontend.fbank)
        image.set_clim(low, max(high, low + 1e-3))
        axes.set_title(heading, fontsize=11)
        time_axis(axes, 0, len(fbank) * seconds)
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.colorbar(image, ax=panels, pad=0.01).set_label("log-mel energy, normalised")
    return figure
