"""Export a classifier as one ONNX file, which runs without PyTorch and without this package."""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ast_model import AudioClassifier
from data.files import atomic_file

SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of a node: the modules that it is in, by name


def export_onnx(classifier: AudioClassifier, path: str | Path, with_frontend: bool = True) -> None:
    """Write a classifier as one ONNX file in float32, checked with onnxruntime against PyTorch.

    The output is `logits` (batch, classes). The input is, with a batch of any size,

      - with the front end: `waveform` (batch, samples) float32, mono, in [-1, 1], at the
        classifier's sample rate. Clips of a batch have one length, which may be any from one
        window (25 ms) on; an ONNX graph cannot refuse shorter ones, and scores them as empty;
      - without: `fbank` (batch, frames, mel bins) float32, normalised.

    The file's metadata hold, as JSON, `classes`, `multi_label` (logits are for a sigmoid instead
    of a softmax) and every field of `FrontendConfig`, such as `sample_rate`:

        session = onnxruntime.InferenceSession("model.onnx")
        (logits,) = session.run(["logits"], {"waveform": waveforms})
        classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])

    The classifier stays as it is: device, precision, training mode and gradients.

    Args:
        classifier: what is exported.
        path: the file to write.
        with_frontend: whether the filterbank is part of the graph.

    Raises:
        OSError: the file cannot be written; `path` is as it was.
        ValueError: a package is missing, or onnxruntime's logits deviate from PyTorch's by more
            than 1e-4 (with the front end) or 1e-5 (without) of the largest; `path` is as it was.
    """
    require_packages()
    classifier = copy.deepcopy(classifier).cpu().float().eval().requires_grad_(False)
    graph = _from_waveform(classifier) if with_frontend else _from_fbank(classifier)
    program = _trace(graph)
    program.model.metadata_props.update(_metadata(classifier))
    with atomic_file(Path(path)) as temporary:
        program.save(temporary, external_data=False)
        _check(temporary, graph)


@dataclass(frozen=True)
class _Graph:
    """What is exported, and what it is compared with."""

    input_name: str
    dynamic_axes: dict[int, str]
    module: nn.Module
    reference: Callable[[Tensor], Tensor]  # what PyTorch users call
    examples: tuple[Tensor, ...]
    tolerance: float  # relative to the largest logit


def _from_waveform(classifier: AudioClassifier) -> _Graph:
    fbank, frames = classifier.frontend.fbank, classifier.frontend.config.num_frames
    shorter, longer = fbank.num_samples((frames + 1) // 2), fbank.num_samples(frames + 10)
    return _Graph(
        input_name="waveform",
        dynamic_axes={0: "batch", 1: "samples"},
        module=_WaveformToLogits(classifier),
        reference=classifier,
        examples=tuple(_noise(*size) / 10 for size in ((2, longer), (1, shorter), (3, longer))),
        tolerance=1e-4,  # another FFT rounds differently, which the log enlarges in quiet bins
    )


def _from_fbank(classifier: AudioClassifier) -> _Graph:
    config = classifier.model.config
    return _Graph(
        input_name="fbank",
        dynamic_axes={0: "batch"},
        module=classifier.model,
        reference=classifier.model,
        examples=tuple(
            _noise(batch, config.num_frames, config.num_mel_bins) / 2 for batch in (2, 1, 3)
        ),
        tolerance=1e-5,
    )


class _WaveformToLogits(nn.Module):
    def __init__(self, classifier: AudioClassifier) -> None:
        super().__init__()
        self.frontend = classifier.frontend
        self.model = classifier.model

    def forward(self, waveform: Tensor) -> Tensor:
        return self.model(self.frontend.traceable(waveform))


def _trace(graph: _Graph) -> torch.onnx.ONNXProgram:
    # The exporter prints its progress, and warns of deprecations inside PyTorch.
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.module,
            (graph.examples[0],),
            input_names=[graph.input_name],
            output_names=["logits"],
            dynamic_shapes=(graph.dynamic_axes,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only without `dynamo`
    for node in program.model.graph.all_nodes():  # without stack traces: paths of this machine
        scopes = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()
        if scopes:
            node.metadata_props[SCOPES] = scopes
    return program


def _check(file: Path, graph: _Graph) -> None:
    """ValueError unless the file's logits are PyTorch's, for batches of sizes not traced."""
    onnxruntime = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for example in graph.examples[1:]:
        (logits,) = session.run(["logits"], {graph.input_name: example.numpy()})
        deviation = _deviation(torch.from_numpy(logits), graph.reference(example))
        if not deviation <= graph.tolerance:  # NaN is no agreement either
            raise ValueError(
                f"the ONNX file gives logits that deviate by {deviation:.1e} of the largest from "
                f"PyTorch's on {graph.input_name} {tuple(example.shape)}, {graph.tolerance:.0e} "
                "is allowed; nothing was written: look for NaN in the weights, or try another "
                f"onnxruntime than {onnxruntime.__version__}"
            )


def _deviation(logits: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest logit, or to 1 if all are smaller."""
    assert logits.shape == expected.shape
    return ((logits - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def _metadata(classifier: AudioClassifier) -> dict[str, str]:
    fields: dict[str, Any] = {
        "classes": classifier.classes,
        "multi_label": classifier.multi_label,
        **asdict(classifier.frontend.config),
    }
    return {name: json.dumps(value) for name, value in fields.items()}


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def require_packages() -> None:
    """ValueError where a package is missing that export needs."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ImportError as error:
            raise ValueError(
                f"export to ONNX needs the package {name}, which cannot be imported; "
                "run: pip install 'ast-audio[onnx]'"
            ) from error


@contextmanager
def _silence() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
