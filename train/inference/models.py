"""Which model is to run: found by what the user calls it, and loaded for a device and precision."""

from __future__ import annotations

from pathlib import Path

import weights
from ast_model import AudioClassifier
from ast_model.quantise import quantise
from train.device import choose_device, choose_precision, compile_in_place, require_compiler
from train.run_folder import RECIPE
from weights.loading import locate

MODELS = ("best", "last", "averaged")  # model folders of a run


def find_model(source: str | Path) -> tuple[Path, Path | None]:
    """The model's folder or file, fetched if need be, and the run folder it lies in, if any.

    Args:
        source: what `weights.load` takes.

    Raises:
        FileNotFoundError: there is no such model, or the run has none yet.
        ValueError: a download failed.
    """
    path = locate(source)
    folder = path.resolve()
    of_run = folder.name in MODELS and (folder.parent / RECIPE).is_file()
    return (folder, folder.parent) if of_run else (path, None)


def load_model(
    source: str | Path, device: str = "auto", precision: str = "fp32", compile: bool = False
) -> tuple[AudioClassifier, str]:
    """A classifier that is ready to run, and the precision to run it in, as `autocast` takes it.

    Args:
        source: what `weights.load` takes.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        compile: compile the model.

    Raises:
        FileNotFoundError, ValueError: the model cannot be read, or there is no such device or
            compiler, or the device does not compute in this precision.
    """
    device = choose_device(device)
    precision = choose_precision(precision, device)
    if compile:
        require_compiler(precision)
    classifier = weights.load(source, device=device)
    if precision == "int8":
        quantise(classifier.model)
    if compile:
        compile_in_place(classifier.model)
    return classifier, precision
