"""One mutated input: made in a process of its own, read under limits, judged."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import math
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from train.cli import main

SECONDS = 10  # of computing that reading may take; it takes well under one
PATIENCE = 60  # seconds that a case may take on a machine that has other things to do
MEMORY = 512 << 20  # bytes that reading may take beside what the process holds,
MEMORY_A_BYTE = 16  # and for each byte of the files
COMMAND_EVERY = 8  # seeds, of classes that a command reads
NO_MEMORY = ("malloc of size", "allocate memory", "out of memory")  # of Arrow, torch, the system
LONGEST_MESSAGE = 1000  # characters beside the path of the folder
OK, REFUSED, FAILED = "ok", "refused", "failed"

Mutator = Callable[[Path, Random], None]


@dataclass(frozen=True)
class InputClass:
    """A class of inputs: what is valid, how it is mutated in place, and the calls that read it."""

    name: str
    make: Callable[[Path], None]  # fills a folder with valid inputs
    mutators: Sequence[Mutator]
    read: Callable[[Path], Any]  # gives all that shall be finite
    command: Callable[[Path], list[str]] | None = None  # words after ast-audio that read it too

    def mutate(self, folder: Path, random: Random) -> str:
        """Change what `make` made, mostly once; gives the names of the mutators."""
        first, *others = random.choices(self.mutators, k=random.choice((1, 1, 1, 2)))
        first(folder, random)
        names = [first.__name__]
        for mutator in others:
            with suppress(Exception):  # what it would read may be damaged already
                mutator(folder, random)
                names.append(mutator.__name__)
        return " and ".join(names)


class Verdict(NamedTuple):
    """What became of one input."""

    name: str  # of the class
    seed: int
    outcome: str  # OK, REFUSED or FAILED
    how: str  # it was mutated
    reason: str  # the message that refused it, or what broke the contract


class Forbidden(BaseException):
    """Reading a file did what it never may; no `except Exception` takes it for an error."""


def run_case(inputs: InputClass, seed: int, base: Path, kept: Path | None = None) -> Verdict:
    """Mutate, read and judge one input, in a process that is killed if it takes too long.

    Args:
        base: a folder that holds the folder of valid inputs, by the name of the class, and takes
            that of the case.
        kept: where the input of a failure is left.
    """
    folder = base / f"{inputs.name}-{seed}"
    receiving, sending = os.pipe()
    process = os.fork()
    if not process:
        os.close(receiving)
        _child(inputs, seed, base, folder, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb", buffering=0) as pipe:
        said = _until(pipe.fileno(), time.monotonic() + PATIENCE)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    how, _, ended = said.decode(errors="replace").partition("\n")
    outcome, _, reason = ended.partition("\n")
    if not outcome:
        outcome, reason = FAILED, f"a crash, or no answer in time (wait status {status})"
    if outcome == FAILED and kept is not None:
        shutil.rmtree(kept / folder.name, ignore_errors=True)
        shutil.copytree(folder, kept / folder.name, symlinks=True, copy_function=_copy_plain)
        (kept / f"{folder.name}.txt").write_text(f"{how}\n{reason}\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    return Verdict(inputs.name, seed, outcome, how, reason)


def _copy_plain(source: str, target: str) -> None:
    if Path(source).is_file():  # a pipe would be waited for
        shutil.copy2(source, target)


def _until(pipe: int, deadline: float) -> bytes:
    """What comes through a pipe until its end, or the deadline."""
    said = b""
    while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
        if not (block := os.read(pipe, 1 << 16)):
            break
        said += block
    return said


def _child(inputs: InputClass, seed: int, base: Path, folder: Path, sending: int) -> None:
    """The case, in its own process, which ends here: how it was mutated, outcome and reason."""
    say = partial(os.write, sending)
    faulthandler.disable()  # a crash is told by the process's status
    try:
        shutil.copytree(base / inputs.name, folder)
        how = inputs.mutate(folder, Random(f"{inputs.name} {seed}"))
        say(f"{how}\n".encode())
    except BaseException:
        say(f"a mutator\n{FAILED}\n{traceback.format_exc()}".encode(errors="backslashreplace"))
        os._exit(0)
    by_command = inputs.command is not None and seed % COMMAND_EVERY == 0
    read = partial(run_command, inputs.command) if by_command else inputs.read
    try:
        said = "\n".join(_judged(read, folder))
    except BaseException:
        said = f"{FAILED}\n{traceback.format_exc()}"
    say(said.encode(errors="backslashreplace"))
    os._exit(0)


def _judged(read: Callable[[Path], Any], folder: Path) -> tuple[str, str]:
    """Outcome and reason of reading what is in a folder."""
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    broken = forbid(folder)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    most = held + MEMORY + MEMORY_A_BYTE * size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # a new process has used none
    try:
        require_finite(read(folder))
        outcome, reason = OK, ""
    except (ValueError, OSError) as error:
        outcome, reason = REFUSED, str(error)
        if problem := problem_of(error, folder):
            outcome, reason = FAILED, f"{problem}: {reason}\n{traceback.format_exc()}"
    except BaseException:
        outcome, reason = FAILED, traceback.format_exc()
    if broken:
        outcome, reason = FAILED, f"{broken[0]}\n{reason}"
    return outcome, reason


def run_command(words: Callable[[Path], list[str]], folder: Path) -> None:
    """What the command line does with the case: it ends well, or with 2 and one line.

    Raises:
        ValueError: that line.
        AssertionError: another exit status, or other lines.
    """
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = main(words(folder))
    said = stderr.getvalue().rstrip("\n")
    assert status in (0, None, 2), f"exit status {status}: {said}"
    if status == 2:
        assert "Traceback" not in said, said
        raise ValueError(said.splitlines()[-1])


def problem_of(error: Exception, folder: Path) -> str | None:
    """Why an error is not the one that the contract allows, if so."""
    is_ours = type(error).__module__.partition(".")[0] in ("ast_model", "data", "train", "weights")
    if type(error) is not ValueError and not isinstance(error, OSError) and not is_ours:
        return f"a {type(error).__name__}"
    message = str(error)
    if getattr(error, "errno", None) == errno.ENOMEM or any(each in message for each in NO_MEMORY):
        return "memory beyond bounds"
    if str(folder) not in message and ascii(str(folder))[1:-1] not in message:
        return "no file is named"
    if "\n" in message or "\r" in message:
        return "more than a line"
    if len(message.replace(str(folder), "")) > LONGEST_MESSAGE:
        return f"a message of {len(message)} characters"
    return None


def require_finite(found: Any) -> None:
    """Raises ArithmeticError for NaN or infinity anywhere in containers, tensors and numbers."""
    if isinstance(found, Tensor | np.ndarray):
        finite = bool(np.isfinite(np.asarray(found)).all())
    elif isinstance(found, dict):
        return require_finite(list(found.values()))
    elif isinstance(found, list | tuple):
        for each in found:
            require_finite(each)
        return
    else:
        finite = not isinstance(found, float) or math.isfinite(found)
    if not finite:
        raise ArithmeticError("NaN or infinity was read without an error")


def forbid(folder: Path) -> list[str]:
    """From here on this process meets no network, starts nothing, writes only within a folder.

    Returns:
        What was tried all the same; it grows.
    """
    broken: list[str] = []
    inside = os.path.realpath(folder)

    def is_outside(path: Any, opened: int = -1) -> bool:
        if isinstance(path, int) or path == os.devnull:
            return False
        if opened >= 0:  # the name is relative to an open folder
            path = Path(f"/proc/self/fd/{opened}").readlink() / os.fsdecode(path)
        parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
        real = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
        return real != inside and not real.startswith(inside + os.sep)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NEVER:
            denied = True
        elif event == "open":
            path, _, flags = arguments
            denied = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and is_outside(path)
        else:
            paths = CHANGES.get(event, {})
            denied = any(
                is_outside(arguments[at], arguments[opened]) for at, opened in paths.items()
            )
        if denied:
            broken.append(f"forbidden: {event} {arguments!r:.300}")
            raise Forbidden(broken[-1])

    sys.addaudithook(hook)
    return broken


NEVER = {
    *("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    *("shutil.chown", "os.chown"),
}
CHANGES = {  # arguments of an event: a path to be changed, and the folder that it starts from
    "os.mkdir": {0: 2},
    "os.rename": {0: 2, 1: 3},
    "os.remove": {0: 1},
    "os.rmdir": {0: 1},
    "os.link": {0: 2, 1: 3},
    "os.symlink": {1: 2},
    "os.chmod": {0: 2},
    "os.utime": {0: 3},
}
