"""What a recipe's model costs: parameters and FLOPs counted, speed and memory measured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ast_model import AST
from data.augment import Uniforms
from data.dataset import Batch
from data.files import json_field, read_json
from train.device import autocast, choose_device, choose_precision, clock, device_name, peak_memory
from train.init_model import initial_model
from train.loop import TrainState, train_step
from train.recipe import Recipe

Step = Callable[[], object]

MIN_SECONDS, MIN_STEPS = 2.0, 2  # of the loop that is timed
LEAST, FINITE = 1e-9, sys.float_info.max  # of a cost that is no mistake
LONGEST = 200  # letters of a device's name
WRITE_IT = "write it with `ast-audio cost RECIPE --classes N --batch-size N --out FILE`"
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


class Size(NamedTuple):
    """What is counted without running the model."""

    patches: int | None
    parameters: int
    flops: int


class Measurement(NamedTuple):
    """What is measured by running it."""

    speed: float  # clips/s
    memory: int  # bytes, peak
    device: str
    precision: str


def read_cost(file: Path) -> Cost:
    """The cost that `ast-audio cost RECIPE --out FILE` wrote.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {WRITE_IT}")
    content = read_json(file)
    if content.keys() != {field.name for field in fields(Cost)}:
        raise ValueError(f"{file} holds no measured cost; {WRITE_IT}")
    for name, kind in get_type_hints(Cost).items():
        if kind is str:
            json_field(content, name, str, file, 1, LONGEST)
        elif content[name] is not None or name != "patches":
            json_field(content, name, float if kind is float else int, file, LEAST, FINITE)
    return Cost(**content)


def measure(recipe: Recipe, num_classes: int, batch_size: int, device: str = "auto") -> Cost:
    """Count and measure a recipe's model, with random weights whatever the recipe says.

    Training and inference each run in a new process, so that peak memory is that of one of them.

    Raises:
        ValueError: the device does not exist, or the model does not run on it at this batch size.
    """
    choose_precision(recipe.precision, choose_device(device))  # refused here, not in a process
    arguments = (recipe, num_classes, batch_size, device)
    training = _in_new_process(training_step, *arguments)
    inference = _in_new_process(inference_step, *arguments)
    return Cost(
        *count(recipe, num_classes),
        training.device,
        training.precision,
        batch_size,
        training.speed,
        training.memory,
        inference.speed,
        inference.memory,
    )


def count(recipe: Recipe, num_classes: int) -> Size:
    """Patches, parameters, and FLOPs of one clip's forward pass; an AST is not allocated."""
    with torch.device("meta" if recipe.model == "ast" else "cpu"):
        model = _random_model(recipe, num_classes).eval()
        fbank = torch.zeros(1, recipe.num_frames, recipe.num_mel_bins)
    patches = None
    if isinstance(model, AST):
        patches = model.config.num_tokens - model.config.num_special_tokens
    return Size(patches, sum(p.numel() for p in model.parameters()), count_flops(model, fbank))


def count_flops(model: nn.Module, fbank: Tensor) -> int:
    """FLOPs of the matrix products and convolutions that the network computes for this input.

    PyTorch's counter does not know the fused attention of some CPUs, so attention runs as its two
    matrix products.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(fbank)
    return counter.get_total_flops()


def _random_model(recipe: Recipe, num_classes: int) -> nn.Module:
    recipe = replace(recipe, init_from="scratch", init_file="", rgb_kernel="mean")
    return initial_model(recipe, [str(index) for index in range(num_classes)])


def training_step(state: TrainState, batch: Batch) -> Step:
    """One optimiser step, augmentation included."""
    state.model.train()
    return lambda: train_step(state.model, state, batch, len(batch.targets))


def inference_step(state: TrainState, batch: Batch) -> Step:
    """Logits of a batch, as training computes those of the validation split."""
    model, frontend, device = state.model.eval(), state.frontend, state.device

    @torch.no_grad()
    def step() -> Tensor:
        fbank = frontend(batch.waveforms.to(device), batch.lengths)
        with autocast(device, state.precision):
            return model(fbank).float().cpu()

    return step


def _in_new_process(
    make_step: Callable[[TrainState, Batch], Step],
    recipe: Recipe,
    num_classes: int,
    batch_size: int,
    device: str,
) -> Measurement:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            job = pool.submit(measure_step, make_step, recipe, num_classes, batch_size, device)
            return job.result()
        except RuntimeError as error:  # PyTorch's for too little memory; a killed process
            raise ValueError(
                f"recipe {recipe.name}, {batch_size} clips at a time, could not be measured "
                f"({str(error).splitlines()[0]}); give a smaller batch"
            ) from error


def measure_step(
    make_step: Callable[[TrainState, Batch], Step],
    recipe: Recipe,
    num_classes: int,
    batch_size: int,
    device: str,
) -> Measurement:
    """Speed and peak memory of `training_step` or `inference_step`, in this process."""
    device = choose_device(device)
    precision = choose_precision(recipe.precision, device)
    model = _random_model(recipe, num_classes).to(device)
    state = TrainState.before_training(recipe, precision, device, model, steps_per_epoch=1)
    step = make_step(state, _noise(recipe, num_classes, batch_size))
    step()  # the first one allocates and chooses kernels
    steps, start = 0, clock(device)
    while steps < MIN_STEPS or clock(device) - start < MIN_SECONDS:
        step()
        steps += 1
    speed = steps * batch_size / (clock(device) - start)
    return Measurement(speed, peak_memory(device), device_name(device), precision)


def _noise(recipe: Recipe, num_classes: int, batch_size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    samples = FRAME + HOP * (recipe.num_frames - 1)
    return Batch(
        waveforms=0.1 * torch.randn(batch_size, samples, generator=generator),
        lengths=torch.full((batch_size,), samples),
        targets=torch.eye(num_classes)[torch.arange(batch_size) % num_classes],
        uniforms=Uniforms(*torch.rand(len(Uniforms._fields), batch_size, generator=generator)),
        noise_seeds=torch.arange(batch_size),
        skipped=[],
    )
