"""How fast is a GPU? Training, inference, front end beside transformers; memory; a fold of ESC-50.

    python tests/benchmarks/gpu.py --out tests/benchmarks/results/NAME/gpu.json

Base-sized, 1,024 frames, bf16, compiled and not. The share of matrix products is the model FLOP
utilisation against this GPU's own rate, measured in the same run. ESC-50's minutes are those of
five folds of the recipe `esc50`: its training and validation clips at the measured speeds. One
epoch of a fold as large as ESC-50's is trained from files as `ast-audio train` does it, in two
precisions, and one run is stopped in its middle and resumed. Last the GPU tests run.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import networks
import numpy as np
import soundfile
import torch
from bench_frontend import our_frontend
from bench_training import BACKWARD
from measuring import Case, Contestant, as_text, matrix_rate, memory, options, run_case, write
from networks import our_inference, our_training, their_inference, their_training

import data
from data import Manifest
from data.cache import ClipCache
from train import Recipe, loop, train
from train.device import clock
from train.recipes import RECIPES

SECONDS = 10  # of a clip of 1,024 frames
ESC50_FRAMES, ESC50_CLIPS, ESC50_FOLDS = 512, 2000, 5
Maker = Callable[..., Callable[[], object]]


def network(
    kind: str, ours: Maker, other: Maker, frames: int, arguments: argparse.Namespace
) -> Case:
    """Ours and theirs, compiled and not."""
    preset, batch, found = arguments.preset, arguments.batch_size, []
    passes = BACKWARD if kind == "training step" else 1
    for compiled in (False, True):
        size = {
            "preset": preset,
            "frames": frames,
            "batch": batch,
            "device": arguments.device,
            "precision": "bf16",
            "compiled": compiled,
        }
        suffix = ", compiled" * compiled
        rival = f"transformers bf16{suffix}"
        work = passes * networks.flops(networks.ours, preset, frames)
        found.append(Contestant(f"ours bf16{suffix}", ours, size, (rival,), "bf16", work))
        if importlib.util.find_spec("transformers"):
            work = passes * networks.flops(networks.theirs, preset, frames)
            found.append(Contestant(rival, other, size, (), "bf16", work))
    return Case(f"{kind}, {preset}, {frames} frames, {batch} clips", batch, found)


def memory_by_batch(arguments: argparse.Namespace) -> dict[str, dict[int, int | None]]:
    """Peak bytes of a training step; None where the GPU has not got so many."""
    names = ("preset", "frames", "device")
    size = {name: getattr(arguments, name) for name in names} | {"precision": "bf16"}
    kinds = {"plain": {}, "gradient checkpointing": {"gradient_checkpointing": True}}
    found: dict[str, dict[int, int | None]] = {kind: {} for kind in kinds}
    for kind, changes in kinds.items():
        for batch in (2**power for power in range(arguments.largest.bit_length())):
            step = {**size, "batch": batch, "changes": changes}
            try:
                found[kind][batch] = memory(Contestant(kind, our_training, step), arguments)
            except torch.OutOfMemoryError:
                found[kind][batch] = None
    return found


def frontend(batch: int, device: str) -> Case:
    size = {"clips": batch, "seconds": SECONDS, "device": device}
    contestant = Contestant("Frontend", our_frontend, size)
    return Case(f"front end, {batch} clips of {SECONDS} s", batch, [contestant])


def speed(result: dict[str, Any], name: str) -> float:
    return next(row["clips_per_second"] for row in result["rows"] if row["name"] == name)


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The front end's share of a training step, and ESC-50's five folds in minutes."""
    recipe = RECIPES["esc50"]
    trained = recipe.epochs * ESC50_CLIPS * (ESC50_FOLDS - 1)
    scored = recipe.epochs * ESC50_CLIPS
    training = speed(results["esc50 training"], "ours bf16")
    inference = speed(results["esc50 inference"], "ours bf16")
    return {
        "frontend_share": speed(results["training"], "ours bf16")
        / speed(results["frontend"], "Frontend"),
        "esc50_minutes": (trained / training + scored / inference) / 60,
    }


def write_fold(folder: Path, clips: int) -> Manifest:
    """So many files of 5 s at 44.1 kHz in 50 folders; every fifth of a class validates."""
    generator = np.random.default_rng(0)
    for number in range(clips):
        split = "validation" if number // 50 % 5 == 0 else "train"
        path = folder / split / f"class{number % 50:02}" / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(5 * 44_100), 44_100)
    return data.folder(folder)


def fold_recipe(precision: str, epochs: int, arguments: argparse.Namespace) -> Recipe:
    recipe = RECIPES["esc50"].given(init_from="scratch", preset=arguments.preset)
    changes = {"num_frames": ESC50_FRAMES, "precision": precision, "epochs": epochs}
    return replace(recipe, corpus="folder", **changes)


def fold_from_files(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch with evaluation and saving, and what a resumed run differs by."""
    manifest = write_fold(folder / "clips", arguments.fold_clips)
    device, cache = torch.device(arguments.device), ClipCache(folder / "cache")
    given = {"device": arguments.device, "cache": cache}
    seconds = {}
    for name, precision in (("bf16, files decoded", "bf16"), ("bf16", "bf16"), ("fp32", "fp32")):
        start = clock(device)
        train(fold_recipe(precision, 1, arguments), manifest, folder / name, **given)
        seconds[name] = clock(device) - start
    recipe = fold_recipe("bf16", 2, arguments)
    straight = train(recipe, manifest, folder / "straight", **given)
    stop_in_second_epoch(recipe, manifest, folder / "resumed", **given)
    resumed = train(recipe, manifest, folder / "resumed", **given)
    difference = abs(straight[-1]["loss"] - resumed[-1]["loss"])
    return {"epoch_seconds": seconds, "resumed_loss_differs_by": difference}


def stop_in_second_epoch(recipe: Recipe, manifest: Manifest, folder: Path, **given: Any) -> None:
    step = loop.train_step

    def stopping(model: torch.nn.Module, state: loop.TrainState, *batch: Any) -> None:
        if state.epoch == 1:
            raise KeyboardInterrupt
        step(model, state, *batch)

    try:
        with patch.object(loop, "train_step", stopping):
            train(recipe, manifest, folder, **given)
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was not stopped")


def gpu_tests() -> str:
    """The last line of the tests marked gpu: how many passed."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    root = Path(__file__).parents[2]
    result = subprocess.run(words, cwd=root, capture_output=True, text=True)
    return result.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(device="cuda")
    parser.add_argument("--preset", default="base384", help="size (%(default)s)")
    parser.add_argument("--frames", type=int, default=1024, help="of 10 ms (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--fold-clips", type=int, default=2000, help="of the fold (%(default)s)")
    parser.add_argument("--largest", type=int, default=128, help="batch tried (%(default)s)")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU; --device cpu tries the script out")
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device, batch = torch.device(arguments.device), arguments.batch_size
    training, inference = (our_training, their_training), (our_inference, their_inference)
    cases = {
        "training": network("training step", *training, arguments.frames, arguments),
        "inference": network("inference", *inference, arguments.frames, arguments),
        "frontend": frontend(batch, arguments.device),
        "esc50 training": network("training step", *training, ESC50_FRAMES, arguments),
        "esc50 inference": network("inference", *inference, ESC50_FRAMES, arguments),
    }
    rates = {"bf16": matrix_rate("bf16", device)}
    results = {}
    for name, case in cases.items():
        results[name] = run_case(case, arguments, device, rates)
        print(as_text(results[name]), flush=True)
    figures = {**summary(results), "memory": memory_by_batch(arguments)}
    with tempfile.TemporaryDirectory() as folder:
        figures |= fold_from_files(Path(folder), arguments)
    figures["gpu_tests"] = gpu_tests()
    print(f"\n{figures}")
    if arguments.out:
        cases = [*results.values()]
        write(arguments.out, "gpu", device, cases=cases, matrix_products=rates, figures=figures)


if __name__ == "__main__":
    main()
