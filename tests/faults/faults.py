"""Commands that are interrupted at one of their operations on files, and what has to hold then."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import soundfile
import torch
from PIL import Image

HERE = Path(__file__).parent
KINDS = {"ENOSPC": 1, "EIO": 2, "short": 3, "kill": 4}  # as in shim.c
WRITES = ("write", "pwrite", "writev", "sendfile")  # what can be cut short
STATE, FOLDER_BYTES = struct.Struct("=4q"), 1000
KILLED = -9
SECONDS = 60.0  # that a command may take


class Disk:
    """A program whose writes below a folder fail when asked to.

    Args:
        scratch: a folder for the shim and what the program prints.
    """

    def __init__(self, scratch: Path) -> None:
        shim, state, self.log = scratch / "shim.so", scratch / "state", scratch / "log"
        compiler = shutil.which("cc")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", shim, HERE / "shim.c", "-ldl"], check=True
        )
        state.write_bytes(bytes(STATE.size + FOLDER_BYTES))
        self.log.touch()
        with state.open("r+b") as file:
            self.state = mmap.mmap(file.fileno(), 0)
        self.output = scratch / "output"
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.program"],
            cwd=HERE.parents[1],
            env={
                **os.environ,
                "LD_PRELOAD": str(shim),
                "FAULTS_STATE": str(state),
                "FAULTS_LOG": str(self.log),
                "OMP_NUM_THREADS": "1",
                "XDG_CACHE_HOME": str(scratch / "caches"),
                "no_proxy": "127.0.0.1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        command: Command,
        folder: Path,
        at: int = 0,
        kind: str = "ENOSPC",
        seconds: float = SECONDS,
        fork: bool = True,
    ) -> Outcome:
        """Run a command whose `at`-th operation below a folder fails; 0: none does."""
        self.log.write_text("")
        self._set(at, KINDS[kind], str(folder))
        words = [word.format(folder=folder) for word in command.words]
        request = {
            "words": words,
            "output": str(self.output),
            "seconds": seconds,
            "url": command.url,
            "plots": command.plots,
            "fork": fork,
        }
        began = time.monotonic()
        print(json.dumps(request), file=self.program.stdin, flush=True)
        code = int(self.program.stdout.readline())
        took = time.monotonic() - began
        self._set(0, 0, "")
        text = self.output.read_text(encoding="utf-8", errors="replace")
        return Outcome(code, text, self._operations(), took)

    def _set(self, at: int, kind: int, folder: str) -> None:
        content = STATE.pack(at, kind, 0, 0) + os.fsencode(folder).ljust(FOLDER_BYTES, b"\0")
        self.state[:] = content

    def _operations(self) -> list[tuple[str, Path]]:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        triples = (line.split(" ", 2) for line in lines)
        ordered = sorted((int(number), name, Path(path)) for number, name, path in triples)
        return [(name, path) for _, name, path in ordered]

    def close(self) -> None:
        """End the program."""
        self.program.stdin.close()
        self.program.kill()
        self.program.wait()
        self.program.stdout.close()


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    text: str  # of both streams
    operations: list[tuple[str, Path]]  # all below the folder, by number from 1
    seconds: float

    def is_one_line(self) -> bool:
        """Whether the command said in one line what failed, and ended as for a user's mistake."""
        lines = [line for line in self.text.splitlines() if line.startswith("ast-audio: ")]
        return self.code == 2 and len(lines) == 1 and "Traceback" not in self.text


@dataclass(frozen=True)
class Command:
    """What is run.

    Args:
        words: of the command line, `{folder}` is the one that it writes to.
        before: a folder whose copy lies there at the start: an older version of what is written.
        has_stages: a file has other contents on the way than before or at the end.
    """

    name: str
    words: Sequence[str]
    before: Path
    has_stages: bool = False
    url: str | None = None
    plots: bool = False


@dataclass
class Trials:
    """A command that ran undisturbed, to be interrupted."""

    disk: Disk
    command: Command
    folder: Path
    before: dict[str, str] = field(init=False)
    after: dict[str, str] = field(init=False)
    operations: list[tuple[str, Path]] = field(init=False)
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        elsewhere = self.folder.with_name("elsewhere")
        shutil.copytree(self.command.before, elsewhere)
        outcome = self.disk.run(self.command, elsewhere, fork=False)  # loads what it needs
        assert outcome.code == 0, outcome.text
        shutil.rmtree(elsewhere)
        self.reset()
        self.before = digests(self.folder)
        outcome = self.disk.run(self.command, self.folder)
        assert outcome.code == 0, outcome.text
        self.operations, self.seconds = outcome.operations, outcome.seconds
        self.after = digests(self.folder)
        assert not [path for path in self.after if Path(path).name.startswith(".")]

    def reset(self) -> None:
        """Put the folder back as it was before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.command.before, self.folder)

    def points(self, most: int | None = None) -> Iterator[tuple[int, str]]:
        """Every operation with every kind of fault, or an even sample of them."""
        points = [
            (number, kind)
            for number, (name, _) in enumerate(self.operations, start=1)
            for kind in KINDS
            if kind != "short" or name in WRITES
        ]
        step = max(1.0, len(points) / (most or len(points)))
        yield from (points[int(index * step)] for index in range(int(len(points) / step)))

    def interrupt(self, at: int, kind: str) -> str | None:
        """Interrupt the command at an operation, run it again; what did not hold, or None."""
        self.reset()
        outcome = self.disk.run(self.command, self.folder, at, kind)
        hit = outcome.operations[at - 1] if at <= len(outcome.operations) else ("nothing", "")
        problem = self._of_the_interrupted(outcome, kind, at) or self._of_the_next()
        return problem and f"{self.command.name}, {kind} at {at} ({hit[0]} {hit[1]}): {problem}"

    def kill(self, seconds: float) -> str | None:
        """Kill the command after some seconds, run it again; what did not hold, or None."""
        self.reset()
        outcome = self.disk.run(self.command, self.folder, seconds=seconds)
        if outcome.code not in (0, KILLED):
            problem = f"exit {outcome.code}: {outcome.text[-400:]}"
        else:
            done = len(outcome.operations)
            problem = self.unreadable(done) or self._of_the_next()
        return problem and f"{self.command.name}, killed after {seconds:.4f} s: {problem}"

    def _of_the_interrupted(self, outcome: Outcome, kind: str, at: int) -> str | None:
        if kind == "kill":
            if outcome.code != KILLED and len(outcome.operations) >= at:
                return f"exit {outcome.code}, not killed"
        elif outcome.code and not outcome.is_one_line():
            return f"exit {outcome.code}: {outcome.text[-700:]}"
        return self.unreadable(at)

    def _of_the_next(self) -> str | None:
        outcome = self.disk.run(self.command, self.folder)
        if outcome.code:
            return f"the next run ends with {outcome.code}: {outcome.text[-700:]}"
        after = digests(self.folder)
        names = {*self.after, *after}
        others = sorted(name for name in names if after.get(name) != self.after.get(name))
        return f"the next run leaves {others[:4]} otherwise" if others else None

    def unreadable(self, at: int) -> str | None:
        """What of older versions is missing or not readable, interrupted at an operation."""
        named = {*self.before}
        for name, path in self.operations[: max(0, at - 1)]:
            if name in ("rename", "exchange"):
                named.add(str(path.relative_to(self.folder)))
        for name in sorted(named):
            in_the_end = any(path == name or path.startswith(f"{name}/") for path in self.after)
            if in_the_end and not name.startswith(".") and not (self.folder / name).exists():
                return f"{name} is missing"
        for name, digest in digests(self.folder).items():
            unfinished = (".part", ".journal")  # what the next run goes on from
            if any(part.startswith(".") or part.endswith(unfinished) for part in Path(name).parts):
                continue
            known = (self.before.get(name), self.after.get(name))
            if self.command.has_stages or name not in {*self.before, *self.after}:
                if problem := problem_of(self.folder / name):
                    return f"{name} cannot be read: {problem}"
            elif digest not in known:
                return f"{name} is neither the older nor the new one"
        return None


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its path, without those that hold the time."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tfevents" not in path.name and path.name != "environment.json"
    }


def content(file: Path) -> bytes:
    """A file's bytes; of a training state, whose pickle depends on what shares memory, the values'.

    A damaged one has its bytes.
    """
    if file.suffix == ".pt":
        with suppress(Exception):
            return b"".join(values(torch.load(file)))
    return file.read_bytes()


def values(state: Any) -> Iterator[bytes]:
    """The bytes of all that nested containers hold."""
    if isinstance(state, torch.Tensor):
        yield f"{state.dtype} {tuple(state.shape)} ".encode() + state.numpy().tobytes()
    elif isinstance(state, dict):
        for key, value in state.items():
            yield f"{key!r}: ".encode()
            yield from values(value)
    elif isinstance(state, (list, tuple)):
        yield f"{type(state)} {len(state)} ".encode()
        for value in state:
            yield from values(value)
    else:
        yield repr(state).encode()


def problem_of(file: Path) -> str | None:
    """Why a file is not whole, as its suffix says what it is."""
    try:
        READERS.get(file.suffix, Path.read_bytes)(file)
    except Exception as error:
        return repr(error)
    return None


def read_png(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


READERS = {
    ".json": lambda file: json.loads(file.read_text(encoding="utf-8")),
    ".safetensors": safetensors.torch.load_file,
    ".pt": torch.load,
    ".npz": lambda file: dict(np.load(file)),
    ".flac": soundfile.read,
    ".wav": soundfile.read,
    ".png": read_png,
}


@contextmanager
def faulty_disk(scratch: Path) -> Iterator[Disk]:
    """A `Disk` for the length of a block."""
    disk = Disk(scratch)
    try:
        yield disk
    finally:
        disk.close()


def counts(problems: Sequence[tuple[str, str | None]]) -> dict[str, int]:
    """Of trials as (kind, problem): how many of each kind, and how many did not hold."""
    tried = Counter(kind for kind, _ in problems)
    return {**tried, "failed": sum(problem is not None for _, problem in problems)}


def delays(trials: Trials, count: int, seed: int) -> list[float]:
    """Moments within a run, at random."""
    rng = random.Random(seed)
    return [rng.uniform(0, trials.seconds) for _ in range(count)]
