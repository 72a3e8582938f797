"""Runs commands of `ast-audio`, each in a fork of this process, which has loaded everything.

A line of JSON on standard input is a command, a line on standard output its exit code, negative
where a signal ended it. With "fork" false it runs in this process, which loads what it needs.

{"words": ["train", …], "output": FILE, "seconds": 60, "url": null, "plots": false, "fork": true}
"""

import atexit
import json
import os
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import torch

from ast_model.config import PRESETS
from data.download import corpora
from train.cli import main
from train.run import log


def serve() -> None:
    """Answer until standard input ends."""
    PRESETS["tiny224"] = {"width": 8, "heads": 1}
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if not request["fork"]:
            with (
                Path(request["output"]).open("w") as output,
                redirect_stdout(output),
                redirect_stderr(output),
            ):
                code = run(request)
            print(code, flush=True)
            continue
        child = os.fork()
        if not child:
            run_and_exit(request)
        with suppress(OSError):
            os.setpgid(child, child)  # whoever of the two is first
        print(wait(child, request["seconds"]), flush=True)


def run(request: dict) -> int:
    """Run a command; its exit code."""
    if request["url"]:
        corpora.download_esc50.__defaults__ = (request["url"],)
    if not request["plots"]:
        log.learning_curves = log.confusion = lambda *_: None
    return main(request["words"])


def run_and_exit(request: dict) -> None:
    """Run a command, and end the process as Python does."""
    with suppress(OSError):
        os.setpgid(0, 0)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        code = run(request)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def wait(child: int, seconds: float) -> int:
    """The exit code of a process, which is killed with its own children after some seconds."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
