"""Which model is to run: found by what the user calls it, and loaded for a device and precision."""

from __future__ import annotations

from pathlib import Path

import weights
from ast_model import AudioClassifier
from ast_model.quantise import quantise
from train.device import choose_device, choose_precision, compile_in_place, require_compiler
from train.run_folder import RECIPE
from weights.fetch import fetch

MODELS = ("best", "last", "averaged")  # model folders of a run


def find_model(source: str | Path) -> tuple[Path, Path | None]:
    """The model's folder or file, fetched if need be, and the run folder it lies in, if any.

    Args:
        source: what `weights.load` takes, or a run folder, whose `last/` is meant.

    Raises:
        FileNotFoundError: there is no such model, or the run has none yet.
        ValueError: a download failed.
    """
    path = Path(source)
    if (path / RECIPE).is_file():
        if not (path / "last").is_dir():
            raise FileNotFoundError(f"the run {path} has no last/ yet: let it finish an epoch")
        return path / "last", path
    if not path.exists():
        return fetch(str(source)), None
    run = path.resolve().parent
    if path.resolve().name in MODELS and (run / RECIPE).is_file():
        return path.resolve(), run
    return path, None


def load_model(
    source: str | Path, device: str = "auto", precision: str = "fp32", compile: bool = False
) -> tuple[AudioClassifier, str]:
    """A classifier that is ready to run, and the precision to run it in, as `autocast` takes it.

    Args:
        source: as `find_model`.
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
    classifier = weights.load(find_model(source)[0], device=device)
    if precision == "int8":
        quantise(classifier.model)
    if compile:
        compile_in_place(classifier.model)
    return classifier, precision
