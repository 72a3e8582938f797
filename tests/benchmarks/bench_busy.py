"""Training beside another busy process, with threads that spin and threads that soon sleep.

    python tests/benchmarks/bench_busy.py

Each figure is of a process of its own that trains the demonstration's model, on idle cores and
beside a loop that takes one core; both settings take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median

SETTINGS = {"OpenMP's default": {}, "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"}}
LOOP = [sys.executable, "-c", "while True: pass"]


def train(precision: str, seconds: float) -> float:
    """Clips/s of optimiser steps, from random spectrograms."""
    import torch

    from ast_model import AST
    from train.recipes.demo import DEMO

    model = AST(replace(DEMO, precision=precision).model_config(num_classes=8)).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    fbank = torch.randn(DEMO.batch_size, DEMO.num_frames, DEMO.num_mel_bins)
    targets = torch.zeros(DEMO.batch_size, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(fbank)
        torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()

    step()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * DEMO.batch_size / (time.perf_counter() - start)


def measure(precision: str, seconds: float, setting: dict[str, str]) -> float:
    """The same in a new process, whose OpenMP reads the setting."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | setting
    words = [sys.executable, __file__, "--only", precision, "--seconds", str(seconds)]
    return float(subprocess.run(words, env=environment, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)  # what `measure` starts
    options = parser.parse_args()
    if options.only:
        print(train(options.only, options.seconds))
        return
    for busy in (False, True):
        loop = subprocess.Popen(LOOP) if busy else None
        for precision in ("fp32", "bf16"):
            speeds: dict[str, list[float]] = {name: [] for name in SETTINGS}
            for _ in range(options.rounds):
                for name, setting in SETTINGS.items():
                    speeds[name].append(measure(precision, options.seconds, setting))
            cores = "one core taken" if busy else "idle cores"
            found = ", ".join(f"{name} {median(all_):.1f}" for name, all_ in speeds.items())
            print(f"{cores}, {precision}, clips/s: {found}", flush=True)
        if loop:
            loop.kill()


if __name__ == "__main__":
    main()
