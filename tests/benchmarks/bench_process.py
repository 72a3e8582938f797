"""What a process is told before PyTorch is imported, of its threads and its memory: what helps?

    python tests/benchmarks/bench_process.py

Threads: training of the demonstration's model, on idle cores and beside a loop that takes one core.
Memory: the pages that tensors are made of, in a training step and in inference. Every figure is of
a process of its own; settings take turns. `ast-audio` sets GOMP_SPINCOUNT and keeps freed memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

LOOP = [sys.executable, "-c", "while True: pass"]
TWO_RUNS = "two runs at once, a thread each"
THREADS: dict[str, Mapping[str, str]] = {
    "OpenMP's default": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    TWO_RUNS: {"OMP_NUM_THREADS": "1"},
}
KEEP = "--keep-freed-memory"
MEMORY: dict[str, Mapping[str, str]] = {
    "glibc's default": {},
    "THP_MEM_ALLOC_ENABLE=1": {"THP_MEM_ALLOC_ENABLE": "1"},
    "freed memory is kept": {},
}
Work = tuple[str, str, int, int, str]  # of `networks`: kind, preset, frames, batch, precision
TRAINED: list[Work] = [("training", "tiny224", 128, 16, p) for p in ("fp32", "bf16")]
FILLED: list[Work] = [
    ("training", "tiny224", 512, 16, "fp32"),
    ("training", "tiny224", 512, 16, "bf16"),
    ("training", "base384", 512, 2, "bf16"),
    ("inference", "base384", 1024, 2, "fp32"),
    ("inference", "base384", 1024, 2, "bf16"),
]

Row = dict[str, Any]


def timed(work: Work, seconds: float) -> Row:
    """Clips/s, page faults a call and the peak of memory, of this process."""
    import resource

    import networks
    import torch

    kind, preset, frames, batch, precision = work
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    make = networks.our_training if kind == "training" else networks.our_inference
    call: Callable[[], object] = make(preset, frames, batch, "cpu", precision)
    for _ in range(3):
        call()
    before, calls, start = resource.getrusage(resource.RUSAGE_SELF), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        calls += 1
    spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "clips/s": calls * batch / spent,
        "page faults a call": (after.ru_minflt - before.ru_minflt) // calls,
        "peak MB": after.ru_maxrss * 1024 / 1e6,
    }


def measure(work: Work, seconds: float, name: str, setting: Mapping[str, str]) -> Row:
    """The same in a new process, or the sum of two."""
    ours = {key for one in (*THREADS.values(), *MEMORY.values()) for key in one}
    environment = {k: v for k, v in os.environ.items() if k not in ours} | dict(setting)
    words = [sys.executable, __file__, "--only", json.dumps(work), "--seconds", str(seconds)]
    words += [KEEP] if name == "freed memory is kept" else []
    started = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2 if name == TWO_RUNS else 1)
    ]
    rows = [json.loads(process.communicate()[0]) for process in started]
    return {key: sum(row[key] for row in rows) for key in rows[0]}


def compare(
    works: Sequence[Work], settings: Mapping[str, Mapping[str, str]], note: str, options: Any
) -> Iterator[Row]:
    """A row a setting: the medians of rounds in which the settings take turns."""
    for work in works:
        found: dict[str, list[Row]] = {name: [] for name in settings}
        for _ in range(options.rounds):
            for name, setting in settings.items():
                found[name].append(measure(work, options.seconds, name, setting))
        kind, preset, frames, batch, precision = work
        title = f"{kind}, {preset}, {frames} frames, {batch} clips, {precision}{note}"
        for name, rows in found.items():
            yield {"work": title, "setting": name} | {
                key: median(row[key] for row in rows) for key in rows[0]
            }


def all_rows(slow: Sequence[str], options: Any) -> Iterator[Row]:
    """Of all works but those in a precision that this CPU is slow in."""
    filled, trained = (
        [work for work in works if work[-1] not in slow] for works in (FILLED, TRAINED)
    )
    yield from compare(filled, MEMORY, "", options)
    for busy in (False, True):
        loop = subprocess.Popen(LOOP) if busy else None
        try:
            note = ", one core taken" if busy else ", idle cores"
            yield from compare(trained, THREADS, note, options)
        finally:
            if loop:
                loop.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--only", type=json.loads, help=argparse.SUPPRESS)  # what `measure` starts
    parser.add_argument(KEEP, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        if options.keep_freed_memory:
            from train.process import keep_freed_memory

            keep_freed_memory()
        print(json.dumps(timed(tuple(options.only), options.seconds)))
        return
    import torch  # not before the settings of a process that is measured
    from measuring import slow_precisions, write

    cpu, rows = torch.device("cpu"), []
    slow = slow_precisions(cpu)
    for row in all_rows(slow, options):
        print(
            "  ".join(f"{v:,.1f} {k}" if isinstance(v, float) else str(v) for k, v in row.items())
        )
        rows.append(row)
    if options.out:
        write(options.out, "process", cpu, rows=rows, left_out=slow)


if __name__ == "__main__":
    main()
