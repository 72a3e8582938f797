"""`load`: a model from any source, whatever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ast_model import AudioClassifier, Frontend
from data.files import recover
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
    multi_label: bool | None = None,
    mean: float | None = None,
    std: float | None = None,
    window: str | None = None,
    pooling: str | None = None,
    positions: Positions = "bilinear",
    heads: int | None = None,
) -> AudioClassifier:
    """Read a published or saved model into an `AudioClassifier` in evaluation mode.

    The format is recognised from the content, the architecture is the file's. Asked for another
    length, stride, number of mel bins or of classes, the positions are cut or interpolated
    (paper, section 2.2) and the head is made new; what was changed, assumed or left out is logged
    as a warning, a line each. Weights of 16 bits become float32.

    Args:
        source: a folder that `save` or transformers wrote; a run folder, whose `last/` is meant;
            the authors' AST or SSAST `.pth`; the name of a published file
            (`audioset_10_10_0.4593`); a Hugging Face hub id.
        num_classes: a new head where this is not the file's; an SSAST file has none, so needs it.
        num_frames: length of the input, 10 ms a frame.
        stride: of the patches, (frequency, time) or one number for both.
        device: of the model.
        num_mel_bins: of the filterbank.
        classes: other names for the classes, as many as the model has.
        multi_label: whether probabilities are independent; None: as the file says. A `.pth` does
            not: AudioSet's 527 classes are taken to be, others not.
        mean: of the log-mel values, which are normalised with it; None: as the file says. A
            `.pth` does not: the corpus with its number of classes decides.
        std: their standard deviation.
        window: of the filterbank, see `FrontendConfig`; None: as the file says, else `hanning`,
            as in the authors' code and transformers.
        pooling: "cls" or "patches", where the file does not say or another one is wanted. A
            fine-tuned SSAST averages its patches.
        positions: how they are carried to another grid: "bilinear" or "nearest" for an axis that
            grows, or "reinit": made anew, randomly.
        heads: attention heads of a `.pth` whose heads are not 64 wide.

    Raises:
        FileNotFoundError: no such file, folder, published name or hub id; a run has no model yet.
        ValueError: a file is damaged, of another kind or ambiguous; a key is unknown or missing;
            the number of class names is not that of the classes; a download failed.
    """
    path = locate(source)
    if heads is not None and path.is_dir():
        raise ValueError(f"heads is for a .pth; {path} says its own, so leave it out")
    if isinstance(stride, int):
        stride = (stride, stride)
    architecture = {
        "num_classes": num_classes,
        "num_frames": num_frames,
        "stride": stride,
        "num_mel_bins": num_mel_bins,
        "pooling": pooling,
    }
    found = _read(path, positions, heads, architecture)
    if classes is not None and len(classes) != len(found.classes):
        raise ValueError(
            f"{len(classes)} class names for the {len(found.classes)} classes of {source}; give "
            f"one name for each, or num_classes={len(classes)} as well for a new head"
        )
    statistics = {"mean": mean, "std": std, "window": window}
    changes = {name: value for name, value in statistics.items() if value is not None}
    classifier = AudioClassifier(
        found.model,
        Frontend(replace(found.frontend.config, **changes)),
        found.classes if classes is None else classes,
        found.multi_label if multi_label is None else multi_label,
    )
    classifier.source = str(source)
    return classifier.to(device).eval()


def _read(
    path: Path, positions: Positions, heads: int | None, architecture: dict[str, Any]
) -> AudioClassifier:
    """What a folder or `.pth` holds, with the changes to its architecture that are not None."""
    if path.is_dir() and (baseline := read_baseline(path)) is not None:
        if asked := [name for name, value in architecture.items() if value is not None]:
            raise ValueError(f"{path} is a baseline of timm, loaded as it is: leave out {asked}")
        return baseline
    if path.is_dir():
        return build(adapt(read_folder(path), positions, **architecture))
    checkpoint = read_authors(path, **architecture, heads=heads)
    return build(adapt(checkpoint, positions, **architecture))


def locate(source: str | Path) -> Path:
    """The model folder or file that `load` reads for a source, downloaded if need be.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    path = Path(source)
    recover(path)
    if not path.exists():
        return fetch(str(source))
    if not (path / "recipe.json").is_file():  # of a run folder
        return path
    recover(path / "last")
    if not (path / "last").is_dir():
        raise FileNotFoundError(f"the run {path} has no last/ yet: let it finish an epoch")
    return path / "last"
