"""`ast-audio bench`: run the repository's benchmarks, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from train.cli.options import BenchOptions

FOLDER = Path(__file__).parents[2] / "tests" / "benchmarks"


def bench(options: BenchOptions) -> None:
    """Run each benchmark in a process of its own.

    Raises:
        FileNotFoundError: the package was installed without the repository.
        ValueError: a benchmark failed, for the reason that it printed.
    """
    if not FOLDER.is_dir():
        raise FileNotFoundError(
            f"there is no {FOLDER}: the benchmarks are in the repository, not in the installed "
            "package; clone it and install it with pip install -e"
        )
    if "files" in options.names and options.data is None:
        print("files: without --data FOLDER, ESC-10's recordings are left out", flush=True)
    for name in options.names:
        script = "gpu.py" if name == "gpu" else f"bench_{name}.py"
        command = [sys.executable, str(FOLDER / script), *arguments(name, options)]
        if subprocess.run(command).returncode:
            raise ValueError(f"benchmark {name} failed; {' '.join(command)} runs it alone")


def arguments(name: str, options: BenchOptions) -> list[str]:
    """What a benchmark's own command line gets."""
    words = []
    if options.out:
        words += ["--out", str(options.out / f"{name}.json")]
    if name == "manifest":
        return words
    if options.data and name == "files":
        words += ["--data", str(options.data)]
    if options.rounds:
        words += ["--rounds", str(options.rounds)]
    if not options.compiled:
        words += ["--no-compiled"]
    return [*words, "--threads", str(options.threads)]
