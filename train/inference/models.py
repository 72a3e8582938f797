"""Which model is to run: found by what the user calls it, and loaded for a device and precision."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

import weights
from ast_model import AST, AudioClassifier
from ast_model.quantise import quantise
from ast_model.token_merging import require_share
from train.device import (
    choose_device,
    choose_precision,
    compile_in_place,
    require_compiler,
    round_weights,
    warn_of_slow_bf16,
)
from train.run.folder import RECIPE, RunRecord, read_metrics, read_run
from weights.card import UNTRAINED
from weights.loading import locate

WITHOUT_HEAD = (
    "is pretrained without labels, so its head is not trained and knows no classes: fine-tune it "
    "with `ast-audio train RECIPE --init-from`"
)
MODELS = ("best", "last", "averaged")  # model folders of a run

logger = logging.getLogger(__name__)


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
    source: str | Path,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
    keep_tokens: float = 1.0,
    needs_head: bool = True,
) -> tuple[AudioClassifier, str]:
    """A classifier that is ready to run, and the precision to run it in, as `autocast` takes it.

    What was loaded is logged in a line: where from, how large, of a run which epoch, on which
    device, in which precision and on how many tokens it runs.

    Args:
        source: what `weights.load` takes.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        compile: compile the model.
        keep_tokens: share of the patch tokens that the last block sees, as `AST.merge_tokens`.
        needs_head: refuse an encoder that was pretrained only, whose classes mean nothing.

    Raises:
        FileNotFoundError, ValueError: the model cannot be read, or there is no such device or
            compiler, or the device does not compute in this precision, or tokens cannot merge so.
    """
    require_share(keep_tokens)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    warn_of_slow_bf16(device, precision)
    if compile:
        require_compiler(precision)
    path, run = find_model(source)
    classifier = weights.load(path, device=device)
    if needs_head and classifier.classes == UNTRAINED:
        raise ValueError(f"{source} {WITHOUT_HEAD}")
    running = [torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", precision]
    if keep_tokens < 1:
        if not isinstance(classifier.model, AST):
            raise ValueError(f"{source} is no AST: it has no patches to merge; keep all tokens")
        classifier.model.merge_tokens(keep_tokens)
        running.append(f"patches merge to {keep_tokens:.0%}")
    logger.info(f"model {_described(source, path, run, classifier)}; {', '.join(running)}")
    if precision == "int8":
        quantise(classifier.model)
    round_weights(classifier.model, precision)
    if compile:
        compile_in_place(classifier.model)
    return classifier, precision


def _described(
    source: str | Path, path: Path, run: Path | None, classifier: AudioClassifier
) -> str:
    """A model's name, size and, of a run, epoch."""
    shown = str(source)
    if Path(source).exists():  # no hub id, whose folder in the cache says nothing
        is_below = path.is_absolute() and path.is_relative_to(Path.cwd())
        shown = str(path.relative_to(Path.cwd()) if is_below else path)
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    words = [f"{shown}: {parameters:,} parameters", f"{len(classifier.classes)} classes"]
    if run is not None:
        try:
            words.append(epoch_of(read_run(run), path.name))
        except ValueError:  # a damaged record, which the model does not need
            words.append(f"epoch unknown: {RECIPE} beside it is damaged")
    return ", ".join(words)


def epoch_of(run: RunRecord, model: str) -> str:
    """Which epoch of its run `last`, `best` or `averaged` is, and whether more are to come."""
    rows, metric = list(read_metrics(run.folder)), run.recipe.metric
    if model == "averaged" or not rows:
        return "weights averaged over epochs" if model == "averaged" else "epoch unknown"
    row = rows[-1] if model == "last" else max(rows, key=run.recipe.better)
    which = f"epoch {row['epoch']:.0f} of {run.recipe.epochs}"
    if not run.finished:
        return f"{which} (this run is not finished)"
    return f"{which}, {'the last' if model == 'last' else f'of the best validation {metric}'}"
