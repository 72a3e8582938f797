"""`ast-audio bench`: run the repository's benchmarks, one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from train.cli.options import TO_FOLDER, parse, unless_given

FOLDER = Path(__file__).parents[2] / "tests" / "benchmarks"
Benchmark = Literal[
    "frontend",
    "inference",
    "training",
    "pretraining",
    "files",
    "recordings",
    "serve",
    "finetuning",
    "onnx",
    "manifest",
    "growth",
    "process",
    "profile",
    "gpu",
]


@dataclass(frozen=True)
class BenchOptions:
    """Measure speed and memory beside transformers, torchaudio and kaldi-native-fbank.

    Contestants take turns in one process, so that ratios hold on a busy machine too; the
    repository's own results are in tests/benchmarks/results, a folder for each machine.
    """

    names: Positional[tuple[Benchmark, ...]] = ("frontend", "inference", "training", "files")
    """Which benchmarks; onnx is 8-bit integers beside float32, manifest the memory of 2,000,000
    clips, growth the time and memory against clips, hours and processes, process the settings of
    threads and memory, profile what the time goes to, serve clips that programs send to the page's
    server, one at a time and many; gpu needs one."""
    data: Annotated[Path | None, unless_given("none: its recordings are left out", "PATH")] = None
    """Folder of ESC-10 or ESC-50, for the benchmarks `files` and `finetuning`."""
    rounds: Annotated[int | None, unless_given("the benchmark's own", "INT")] = None
    """Rounds that count."""
    threads: int = 2
    """Threads of PyTorch on a CPU."""
    compiled: bool = True
    """Compiled contestants too; each takes about a minute to compile."""
    out: Annotated[Path | None, TO_FOLDER, unless_given("printed alone")] = None
    """Folder for a JSON file a benchmark."""


def run(words: Sequence[str]) -> None:
    options = parse(BenchOptions, words, "bench")
    if not FOLDER.is_dir():
        raise FileNotFoundError(
            f"there is no {FOLDER}: the benchmarks are in the repository, not in the installed "
            "package; clone it and install it with pip install -e"
        )
    if "finetuning" in options.names and options.data is None:
        raise ValueError("the benchmark finetuning trains on recordings: give ESC-10 with --data")
    if "files" in options.names and options.data is None:
        print("files: without --data FOLDER, ESC-10's recordings are left out", flush=True)
    for name in options.names:
        script = "gpu.py" if name == "gpu" else f"bench_{name}.py"
        command = [sys.executable, str(FOLDER / script), *_arguments(name, options)]
        if subprocess.run(command).returncode:
            raise ValueError(f"benchmark {name} failed; {' '.join(command)} runs it alone")


def _arguments(name: str, options: BenchOptions) -> list[str]:
    """What a benchmark's own command line gets."""
    words = []
    if options.out:
        words += ["--out", str(options.out / f"{name}.json")]
    if name in ("manifest", "growth"):
        return words
    if options.data and name in ("files", "finetuning"):
        words += ["--data", str(options.data)]
    if options.rounds:
        words += ["--rounds", str(options.rounds)]
    if name == "process":
        return words
    if not options.compiled and name not in ("profile", "serve"):
        words += ["--no-compiled"]
    return [*words, "--threads", str(options.threads)]
