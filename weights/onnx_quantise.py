"""Export a classifier as an ONNX file whose linear layers are in 8-bit integers, for a CPU."""

from __future__ import annotations

import copy
import logging
from ast import literal_eval
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ast_model import AST, AudioClassifier
from data.files import atomic_file
from weights.onnx_export import SCOPES, export_onnx, require_packages

logger = logging.getLogger(__name__)

# Of a trained model, the head and the patch embedding in 8 bits change the scores more than all
# layers of a kind in the blocks do, and hold next to no weights: they stay in float32.
LAYERS = ("attention.qkv", "attention.projection", "mlp.expand", "mlp.contract")
ALLOWED = 0.05  # mean over clips of the largest difference of a probability

Feed = dict[str, np.ndarray]  # name of the input to its values


@dataclass(frozen=True)
class Int8Agreement:
    """How near a file in 8-bit integers is to PyTorch in float32, on the calibration clips."""

    layers: int  # in 8-bit integers
    clips: int
    same_top_class: int  # clips
    largest: float  # difference of a probability, over all clips and classes
    mean: float  # over the clips, of each one's largest difference


def export_int8_onnx(
    classifier: AudioClassifier,
    path: str | Path,
    clips: Sequence[Tensor],
    with_frontend: bool = True,
) -> Int8Agreement:
    """Write an AST as one ONNX file with the blocks' linear layers in 8-bit integers.

    Inputs, output and metadata are those of `export_onnx`. Front end, patch embedding, products of
    attention, softmax, norms, GELU and head stay in float32.

    Weights have a scale for each output and 7 of the 8 bits. So the file gives the same scores on
    x86 processors without VNNI, where the sum of two products is held in 16 bits: two products of
    an input of 8 bits and a weight of 7 always fit. The range of each layer's input is fixed: it
    spans what the clips have there. So a clip's scores do not depend on the rest of its batch.

    Args:
        classifier: what is exported; it stays as it is.
        path: the file to write.
        clips: (samples,) each, like those that the model is to hear, of its sample rate, from its
            training data; all are kept in memory, and PyTorch and onnxruntime run each.
        with_frontend: whether the filterbank is part of the graph.

    Returns:
        How near the file is to PyTorch on these clips.

    Raises:
        OSError: the file cannot be written; `path` is as it was.
        ValueError: as `export_onnx`; the model is no AST, there are no clips, or the probabilities
            differ from PyTorch's by more than 0.05, the largest difference of each clip averaged.
    """
    require_packages()
    if not isinstance(classifier.model, AST):
        raise ValueError(
            f"{classifier.model.config.name} is no AST, whose linear layers are known; export it "
            "in float32"
        )
    if not clips:
        raise ValueError("no clips to calibrate with; give recordings like those to be heard")
    shortest, least = min(map(len, clips)), classifier.frontend.fbank.window_size
    if shortest < least:
        raise ValueError(f"a clip has {shortest} samples, {least} are needed; leave it out")
    logger.info(f"clips to calibrate with: {len(clips)}")
    with (
        atomic_file(Path(path)) as temporary,
        TemporaryDirectory(prefix=f"{temporary.name}-", dir=temporary.parent) as folder,
    ):
        classifier = copy.deepcopy(classifier).cpu().float().eval()
        in_float = Path(folder, "model.onnx")
        export_onnx(classifier, in_float, with_frontend)
        inputs = [_input(classifier, clip, with_frontend) for clip in clips]
        layers = _quantise(in_float, temporary, inputs)
        agreement = _agreement(classifier, temporary, layers, clips, inputs)
        if not agreement.mean <= ALLOWED:  # NaN is no agreement either
            raise ValueError(
                f"in 8-bit integers the probabilities differ from PyTorch's by "
                f"{agreement.largest:.2f} at most and {agreement.mean:.2f} on average over the "
                f"calibration clips ({len(clips)}), {ALLOWED} on average is allowed; nothing was "
                "written: calibrate with more recordings, or export in float32"
            )
    return agreement


def _quantise(source: Path, destination: Path, inputs: Sequence[Feed]) -> int:
    """How many layers onnxruntime's quantiser has turned into 8-bit integers."""
    onnx, quantization = import_module("onnx"), import_module("onnxruntime.quantization")
    nodes = [node.name for node in onnx.load(source).graph.node if _is_layer(node)]
    with _without_warnings():
        quantization.quantize_static(
            source,
            destination,
            _Reader(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Outputs in float32 cost nothing, where the next step is in float32 anyway.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
    return len(nodes)


def _is_layer(node: Any) -> bool:
    """Whether a node is the matrix product of one of `LAYERS`, by the module that it is in."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    modules = literal_eval(scopes)[:-1]  # the last is the operation's own name
    return node.op_type == "MatMul" and bool(modules) and modules[-1].endswith(LAYERS)


class _Reader:
    """Inputs as onnxruntime's quantiser asks for them."""

    def __init__(self, inputs: Sequence[Feed]) -> None:
        self.left = iter(inputs)

    def get_next(self) -> Feed | None:
        return next(self.left, None)


@torch.no_grad()
def _input(classifier: AudioClassifier, clip: Tensor, with_frontend: bool) -> Feed:
    if with_frontend:
        return {"waveform": clip[None].numpy()}
    return {"fbank": classifier.frontend(clip[None]).numpy()}


def _agreement(
    classifier: AudioClassifier,
    file: Path,
    layers: int,
    clips: Sequence[Tensor],
    inputs: Sequence[Feed],
) -> Int8Agreement:
    session = import_module("onnxruntime").InferenceSession(
        file, providers=["CPUExecutionProvider"]
    )
    same, differences = 0, []
    for clip, feed in zip(clips, inputs, strict=True):
        expected = classifier.probabilities(clip[None])
        logits = torch.from_numpy(session.run(["logits"], feed)[0])
        found = logits.sigmoid() if classifier.multi_label else logits.softmax(dim=-1)
        same += int(found.argmax() == expected.argmax())
        differences.append((found - expected).abs().max())
    each = torch.stack(differences)
    return Int8Agreement(layers, len(clips), same, each.max().item(), each.mean().item())


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The quantiser recommends an optimisation beforehand, which an exported graph had."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
