"""What a recipe's model costs: parameters and FLOPs counted, speed and memory measured.

python -m train.experiments.cost audioset_full --classes 527 --batch-size 12 --out cost.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ast_model import AST
from data.augment import Uniforms
from data.dataset import Batch
from train.device import autocast, choose_device, choose_precision, clock, device_name, peak_memory
from train.init_model import initial_model
from train.recipe import Recipe
from train.recipes import RECIPES
from train.run_folder import read_recipe, write_json
from train.step import train_step
from train.training import Training, build

SECONDS = 2.0  # least length of a timed loop
STEPS = 2  # least steps of it
FRAME, HOP = 400, 160  # samples of a filterbank's frame and from one to the next, at 16 kHz


@dataclass(frozen=True)
class Cost:
    """What one model costs."""

    patches: int | None  # of one clip; None for a baseline
    parameters: int
    flops: int  # network, forward, one clip; a multiplication and an addition are two
    device: str
    precision: str
    batch_size: int
    training_speed: float  # clips/s of optimiser steps, from decoded waveforms
    training_memory: int  # bytes, peak: on a GPU what is allocated there, else the whole process
    inference_speed: float  # clips/s
    inference_memory: int


def measure(recipe: Recipe, classes: int, batch_size: int, device: str = "auto") -> Cost:
    """Count and measure a recipe's model, from random weights: what it starts from costs nothing.

    Training and inference each run in a new process, whose peak memory is theirs alone.

    Raises:
        ValueError: the device does not exist, or the model does not run on it at this batch size.
    """
    recipe = _from_scratch(recipe)
    patches, parameters, flops = count(recipe, classes)
    found: dict[str, tuple[float, int, str, str]] = {}
    for kind in (training_loop, inference_loop):
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            try:
                found[kind.__name__] = fresh.submit(
                    _measured, kind, recipe, classes, batch_size, device
                ).result()
            except RuntimeError as error:  # PyTorch's for too little memory; a killed process
                raise ValueError(
                    f"recipe {recipe.name}, {batch_size} clips at a time, could not be measured "
                    f"({str(error).splitlines()[0]}); give a smaller batch"
                ) from error
    (speed, memory, name, precision), inference = found.values()
    return Cost(
        patches, parameters, flops, name, precision, batch_size, speed, memory, *inference[:2]
    )


def count(recipe: Recipe, classes: int) -> tuple[int | None, int, int]:
    """Patches (None for a baseline), parameters, and FLOPs of one clip's way through the network.

    Of an AST nothing is computed.
    """
    place = "meta" if recipe.model == "ast" else "cpu"
    with torch.device(place):
        model = initial_model(_from_scratch(recipe), _names(classes)).eval()
        fbank = torch.zeros(1, recipe.num_frames, recipe.num_mel_bins)
    patches = None  # a baseline has none
    if isinstance(model, AST):
        patches = model.config.num_tokens - model.config.num_special_tokens
    return patches, sum(p.numel() for p in model.parameters()), count_flops(model, fbank)


def count_flops(model: nn.Module, fbank: Tensor) -> int:
    """Those of the matrix products and convolutions that the network computes for this input.

    The fused attention of some CPUs is unknown to PyTorch's counter, so attention runs as the two
    matrix products that it is.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(fbank)
    return counter.get_total_flops()


def _from_scratch(recipe: Recipe) -> Recipe:
    return replace(recipe, init_from="scratch", init_file="", rgb_kernel="mean")


def _names(classes: int) -> list[str]:
    return [str(number) for number in range(classes)]


def training_loop(training: Training, batch: Batch) -> Callable[[], object]:
    """One optimiser step, augmentation included."""
    training.model.train()
    return lambda: train_step(training, batch, steps_per_epoch=1)


def inference_loop(training: Training, batch: Batch) -> Callable[[], Tensor]:
    """Logits of a batch, as `evaluate` computes them."""
    model, frontend = training.model.eval(), training.frontend
    device = next(model.parameters()).device

    @torch.no_grad()
    def step() -> Tensor:
        fbank = frontend(batch.waveforms.to(device), batch.lengths)
        with autocast(device, training.recipe.precision):
            return model(fbank).float().cpu()

    return step


def _measured(
    kind: Callable[[Training, Batch], Callable[[], object]],
    recipe: Recipe,
    classes: int,
    batch_size: int,
    device: str,
) -> tuple[float, int, str, str]:
    """Clips/s, peak memory in bytes, device and precision; to be run in a process of its own."""
    place = choose_device(device)
    recipe = replace(recipe, precision=choose_precision(recipe.precision, place))
    training = build(recipe, _names(classes), place)
    step = kind(training, _noise(recipe, classes, batch_size))
    step()  # the first one allocates and chooses kernels
    steps, start = 0, clock(place)
    while steps < STEPS or clock(place) - start < SECONDS:
        step()
        steps += 1
    speed = steps * batch_size / (clock(place) - start)
    return speed, peak_memory(place), device_name(place), recipe.precision


def _noise(recipe: Recipe, classes: int, batch_size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    samples = FRAME + HOP * (recipe.num_frames - 1)
    return Batch(
        waveforms=0.1 * torch.randn(batch_size, samples, generator=generator),
        lengths=torch.full((batch_size,), samples),
        targets=torch.eye(classes)[torch.arange(batch_size) % classes],
        uniforms=Uniforms(*torch.rand(len(Uniforms._fields), batch_size, generator=generator)),
        noise_seeds=torch.arange(batch_size),
        skipped=[],
    )


def main() -> None:
    """Measure one recipe and write the file that `ast-audio ledger --bench` reads."""
    parser = argparse.ArgumentParser(
        prog="python -m train.experiments.cost", description=main.__doc__
    )
    parser.add_argument("recipe", help=f"{', '.join(RECIPES)}, or the recipe.json of a run")
    parser.add_argument("--classes", type=int, default=527, help="outputs [default: 527]")
    parser.add_argument("--batch-size", type=int, default=12, help="clips a step [default: 12]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    recipe = RECIPES.get(options.recipe) or read_recipe(Path(options.recipe))[0]
    cost: dict[str, Any] = vars(
        measure(recipe, options.classes, options.batch_size, options.device)
    )
    write_json(options.out, cost)
    print(f"wrote {options.out}: {cost}")


if __name__ == "__main__":
    main()
