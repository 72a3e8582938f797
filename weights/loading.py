"""The front door: a model from wherever it is, whatever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ast_model import AudioClassifier
from weights.authors import read_authors
from weights.checkpoint import Positions, adapt, build
from weights.fetch import fetch
from weights.folder import read_baseline, read_folder


def load(
    source: str | Path,
    num_classes: int | None = None,
    num_frames: int | None = None,
    stride: int | tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
    *,
    num_mel_bins: int | None = None,
    classes: Sequence[str] | None = None,
    pooling: str | None = None,
    positions: Positions = "bilinear",
    heads: int | None = None,
) -> AudioClassifier:
    """Read a published or saved model into an `AudioClassifier` in evaluation mode.

    The format is recognised from the content, the architecture is the file's. Asked for another
    length, stride, number of mel bins or of classes, the positions are cut or interpolated
    (paper, section 2.2) and the head is made new; each change is one line on standard error.
    Weights of 16 bits become float32.

    Args:
        source: a folder that `save` or transformers wrote; the authors' AST or SSAST `.pth`; the
            name of a published file (`audioset_10_10_0.4593`); a Hugging Face hub id.
        num_classes: a new head where this is not the file's; an SSAST file has none, so needs it.
        num_frames: length of the input, 10 ms a frame.
        stride: of the patches, (frequency, time) or one number for both.
        device: where the model shall live.
        num_mel_bins: of the filterbank.
        classes: names of the classes; a `.pth` tells none.
        pooling: "cls" or "patches", where the file does not say or another one is wanted.
        positions: how they are carried to another grid: "bilinear" or "nearest" for an axis that
            grows, or "reinit": made anew, randomly.
        heads: attention heads of a `.pth` whose heads are not 64 wide.

    Raises:
        FileNotFoundError: no such file, folder, published name or hub id.
        ValueError: a file is damaged, of another kind or ambiguous; a key is unknown or missing;
            a download failed.
    """
    path = Path(source)
    if not path.exists():
        path = fetch(str(source))
    if isinstance(stride, int):
        stride = (stride, stride)
    requests = {
        "num_classes": len(classes) if num_classes is None and classes else num_classes,
        "num_frames": num_frames,
        "stride": stride,
        "num_mel_bins": num_mel_bins,
        "pooling": pooling,
    }
    if path.is_dir() and (baseline := read_baseline(path)) is not None:
        if asked := [name for name, value in requests.items() if value is not None]:
            raise ValueError(f"{path} is a baseline of timm, loaded as it is: leave out {asked}")
        return baseline.to(device)
    checkpoint = read_folder(path) if path.is_dir() else read_authors(path, **requests, heads=heads)
    return build(adapt(checkpoint, classes, positions, **requests)).to(device)
