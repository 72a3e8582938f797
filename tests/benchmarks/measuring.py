"""What all benchmarks share: contestants that take turns, what the machine can do, a JSON file.

Contestants of a case run one after the other, round by round, so that whatever else the machine
does slows all of them. Medians of the rounds count; ratios are within a case. Freed memory is kept
for all of them, as `ast-audio` has it, which helps theirs as well, except where a contestant has a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from data.files import atomic_file
from train.device import clock, device_name, peak_memory
from train.process import set_up

PACKAGES = ("torch", "torchaudio", "transformers", "kaldi-native-fbank")
WIDTH = 2048  # of the square matrices that the machine's rate is measured with
SMALL = 256  # of those that tell whether a precision is slow
LEAST_SHARE = 0.2  # of the rate of fp32; what runs in a slower precision would take hours
WARM_UP = 1  # rounds that do not count: they compile, allocate and choose kernels


@dataclass(frozen=True)
class Contestant:
    """One way of doing a case's work. `make(**arguments)` returns what is timed.

    `make` is a function of a module, so that a process of its own can measure its memory.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    against: tuple[str, ...] = ()  # the fastest of these is what the ratio is to
    dtype: str | None = None  # of the matrix products, for the share of the machine's rate
    flops: float | None = None  # a clip; a multiplication and an addition are two
    as_program: bool | None = None  # in a process of its own, set up as `ast-audio` does or not


@dataclass(frozen=True)
class Case:
    """Work that several contestants do."""

    name: str
    clips: int  # a call
    contestants: Sequence[Contestant]


def options(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=defaults.get("rounds", 5), help="that count (%(default)s)")
    add("--threads", type=int, default=2, help="of PyTorch on a CPU (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    add("--only", nargs="+", help="contestants whose name holds one of these texts")
    add("--no-compiled", action="store_true", help="leave out what takes a minute to compile")
    add("--out", type=Path, help="JSON file to write")
    return parser


def run(name: str, cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    """Race the contestants of every case, print a table each, and write the file."""
    _begin(arguments.threads)
    device = torch.device(arguments.device)
    slow = slow_precisions(device)
    cases = [replace(case, contestants=_without(slow, case.contestants)) for case in cases]
    used = {c.dtype for case in cases for c in case.contestants if c.dtype}
    rates = {dtype: matrix_rate(dtype, device) for dtype in sorted(used)}
    results = []
    for case in cases:
        if not any(wanted(contestant, arguments) for contestant in case.contestants):
            continue
        result = run_case(case, arguments, device, rates)
        print(as_text(result), flush=True)
        results.append(result)
    if arguments.out:
        write(arguments.out, name, device, cases=results, matrix_products=rates, left_out=slow)


def slow_precisions(device: torch.device) -> list[str]:
    """bf16, where a CPU multiplies it at less than `LEAST_SHARE` of the rate of fp32; says so."""
    if device.type != "cpu":
        return []
    full, half = (matrix_rate(dtype, device, SMALL) for dtype in ("fp32", "bf16"))
    if half >= LEAST_SHARE * full:
        return []
    print(f"bf16 is left out: {half / 1e9:.1f} GFLOP/s, fp32 {full / 1e9:.1f}")
    return ["bf16"]


def _without(precisions: Sequence[str], contestants: Sequence[Contestant]) -> list[Contestant]:
    return [each for each in contestants if each.arguments.get("precision") not in precisions]


def run_case(
    case: Case, arguments: argparse.Namespace, device: torch.device, rates: Mapping[str, float]
) -> dict[str, Any]:
    """A row for each contestant."""
    torch.compiler.reset()  # an earlier case's shapes would make this one's dynamic
    contestants = [contestant for contestant in case.contestants if wanted(contestant, arguments)]
    rounds = race([_work(c, arguments.threads) for c in contestants], arguments.rounds, device)
    medians = {
        c.name: statistics.median(seconds) for c, seconds in zip(contestants, rounds, strict=True)
    }
    rows = []
    for contestant, seconds in zip(contestants, rounds, strict=True):
        speeds = [case.clips / s for s in seconds]
        speed = case.clips / medians[contestant.name]
        row = {
            "name": contestant.name,
            "clips_per_second": speed,
            "slowest": min(speeds),
            "fastest": max(speeds),
            "peak_memory": memory(contestant, arguments),
        }
        if rivals := [name for name in contestant.against if name in medians]:
            best = min(rivals, key=medians.get)
            row |= {"ratio": medians[best] / medians[contestant.name], "to": best}
        if contestant.flops:
            row["flops"] = contestant.flops
            row["share"] = contestant.flops * speed / rates[contestant.dtype]
        rows.append(row)
    return {"case": case.name, "clips": case.clips, "rows": rows}


def wanted(contestant: Contestant, arguments: argparse.Namespace) -> bool:
    if arguments.no_compiled and contestant.name.endswith(", compiled"):
        return False
    return not arguments.only or any(text in contestant.name for text in arguments.only)


def race(
    works: Sequence[Callable[[], object]], rounds: int, device: torch.device
) -> list[list[float]]:
    """Seconds of each in every round that counts; each round begins with another one."""
    seconds: list[list[float]] = [[] for _ in works]
    for round in range(WARM_UP + rounds):
        for position in range(len(works)):
            index = (position + round) % len(works)
            start = clock(device)
            works[index]()
            if round >= WARM_UP:
                seconds[index].append(clock(device) - start)
    return seconds


def _work(contestant: Contestant, threads: int) -> Callable[[], object]:
    """What is timed, in the process that the contestant asks for."""
    if contestant.as_program is None:
        return contestant.make(**contestant.arguments)
    started = _begin, (threads, contestant.as_program)
    process = ProcessPoolExecutor(1, get_context("spawn"), *started)
    return lambda: process.submit(_once, contestant).result()


def _begin(threads: int, as_program: bool = True) -> None:
    if as_program:
        set_up()
    torch.set_num_threads(threads)


def _once(contestant: Contestant) -> None:
    contestant.make(**contestant.arguments)()


def memory(contestant: Contestant, arguments: argparse.Namespace) -> int:
    """Bytes at the peak, in a process of its own, over what it holds before it makes anything."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(_memory, contestant, arguments.threads, arguments.device).result()


def _memory(contestant: Contestant, threads: int, name: str) -> int:
    _begin(threads, contestant.as_program is not False)
    device = torch.device(name)
    before = peak_memory(device)
    work = contestant.make(**contestant.arguments)
    for _ in range(2):
        work()
    return peak_memory(device) - before


def matrix_rate(dtype: str, device: torch.device, width: int | None = None) -> float:
    """FLOP/s of square matrix products, the best of several: what this machine can do."""
    if dtype == "int8":
        return _integer_rate()
    width = width or (WIDTH if device.type == "cpu" else 4 * WIDTH)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    left, right = (torch.randn(width, width, device=device).to(kind) for _ in range(2))
    return 2 * width**3 / _fastest(lambda: left @ right, device)


def _integer_rate() -> float:
    from ast_model.quantise import Int8Linear

    layer = Int8Linear(torch.nn.Linear(WIDTH, WIDTH))
    tokens = torch.randn(WIDTH, WIDTH)
    return 2 * WIDTH**3 / _fastest(lambda: layer(tokens), torch.device("cpu"))


def _fastest(work: Callable[[], object], device: torch.device, rounds: int = 10) -> float:
    with torch.inference_mode():
        return min(race([work], rounds, device)[0])


def write(out: Path, name: str, device: torch.device, **content: Any) -> None:
    """Results with everything that is needed to read them."""
    content = {
        "benchmark": name,
        "command": " ".join(_without_paths(sys.argv)),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(device),
        **content,
    }
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _without_paths(words: Sequence[str]) -> list[str]:
    """Without the folders of this machine, and without --out, which is where this is read."""
    words = [Path(word).name for word in words]
    if "--out" in words:
        index = words.index("--out")
        del words[index : index + 2]
    return words


def machine(device: torch.device) -> dict[str, Any]:
    """What ran the benchmark."""
    features = torch.cpu.get_capabilities()
    names = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "device": device_name(device),
        "cpu_features": [feature for feature in names if features.get(feature)],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {package: v for package in PACKAGES if (v := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def as_text(result: Mapping[str, Any]) -> str:
    """A case as lines for the terminal."""
    lines = [f"\n{result['case']}"]
    for row in result["rows"]:
        line = f"  {row['name']:36} {row['clips_per_second']:9.2f} clips/s"
        line += f"  {row['peak_memory'] / 2**20:7.0f} MiB"
        if "share" in row:
            line += f"  {100 * row['share']:4.0f} % of matrix products"
        if "ratio" in row:
            line += f"  {row['ratio']:5.2f} x {row['to']}"
        lines.append(line)
    return "\n".join(lines)
