"""A model as a file in the authors' layout, for their code (YuanGongND/ast, YuanGongND/ssast)."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import torch

from ast_model import AST, AudioClassifier
from data.files import atomic_file
from weights.authors import SIZES
from weights.names import authors_names, is_head

PREFIX = "module."  # of DataParallel, which every published file has

logger = logging.getLogger(__name__)


def save_authors(path: str | Path, classifier: AudioClassifier, pretrained: bool = False) -> None:
    """Write a model's parameters as a `.pth` under the names of the authors' code.

    Such a file says nothing of the front end, the classes, the stride or the attention heads: they
    are logged.

    Args:
        path: the file to write.
        classifier: of an AST.
        pretrained: its head was not trained. The head is left out, and the size of the input is in
            the file, as their code for fine-tuning an SSAST expects it.

    Raises:
        OSError: the file cannot be written; `path` is as it was.
        ValueError: the model is no AST; its patches overlap, which those of the file may not that
            pretraining leaves.
    """
    if not isinstance(classifier.model, AST):
        raise ValueError("the authors' code has no such model: only an AST is written as .pth")
    config, frontend = classifier.model.config, classifier.frontend.config
    if pretrained and config.stride != config.patch:
        raise ValueError(
            f"stride {config.stride} differs from patch {config.patch}: a pretrained SSAST of the "
            "authors' has patches that do not overlap; leave out --stride"
        )
    state = {}
    for name, tensor in classifier.model.state_dict().items():
        if not (pretrained and is_head(name)):
            (theirs,) = authors_names(name)
            state[PREFIX + theirs] = tensor.detach().cpu().clone()
    if pretrained:
        sizes = config.num_frames, config.num_mel_bins
        state |= {PREFIX + n: torch.tensor(size) for n, size in zip(SIZES, sizes, strict=True)}
    buffer = io.BytesIO()  # through memory, so that a full disk is a plain OSError
    torch.save(state, buffer)
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(buffer.getvalue())
    logger.warning(
        f"{path} does not tell: {config.num_frames} frames, {frontend.num_mel_bins} mel bins, "
        f"stride {config.stride}, {config.heads} attention heads, pooling {config.pooling}, window "
        f"{frontend.window}, mean {frontend.mean:g}, std {frontend.std:g}, classes "
        f"{', '.join(classifier.classes):.200}"
    )
