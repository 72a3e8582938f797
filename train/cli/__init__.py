"""`ast-audio`: one program, one module a command; a user's mistake is one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper

from train.cli.spelling import did_you_mean
from train.cli.terminal import (
    describe,
    is_users_mistake,
    logging_to_terminal,
    shown,
    without_reader,
)
from train.process import set_up

PROGRAM = "ast-audio"

PROCESS_SETTINGS = set_up()

COMMANDS = {
    "download": "fetch a data set and unpack it",
    "prepare": "decode and resample a data set once, to FLAC",
    "stats": "mean and standard deviation of a data set, for a recipe's front end",
    "audit": "look for what would spoil a training run, without training",
    "train": "train a recipe on one split of a data set",
    "pretrain": "train an encoder on recordings without labels, to fine-tune it later",
    "crossval": "train a recipe once for every fold, and tabulate",
    "ablate": "train the rows of a table that compares recipes, and tabulate",
    "runs": "list what ran, or the difference between two runs",
    "report": "write a run, a cross-validation or an ablation as one HTML file",
    "ledger": "list the published results, how to reproduce each, and what was reached",
    "cost": "count a recipe's parameters and FLOPs, measure its speed and memory",
    "bench": "measure speed and memory beside other implementations",
    "evaluate": "score a trained model on a data set",
    "ensemble": "score the mean of several models' probabilities",
    "predict": "name the classes of recordings, and when they are heard",
    "segments": "cut detections out of their recordings, for a person to hear",
    "review": "read a person's verdicts: precision and thresholds of each class",
    "embed": "write vectors that describe recordings",
    "attention": "draw what a model looks at over a recording's spectrogram",
    "serve": "open a page to see and hear what a model finds in recordings",
    "convert": "write any model as a Hugging Face folder, or an ONNX or .pth file",
}
"""Each is the `run` of a module of its own name in this package."""

# Those that run in several processes that torchrun starts, and that go on without a reader.
DISTRIBUTED = ("train", "pretrain", "crossval", "predict", "embed")
RESUMABLE = ("download", "prepare", "train", "pretrain", "crossval", "ablate", "embed")

LISTED = "\n".join(f"  {name:{max(map(len, COMMANDS))}}  {text}" for name, text in COMMANDS.items())
HELP = f"""usage: {PROGRAM} COMMAND [OPTIONS]

The Audio Spectrogram Transformer: train, evaluate, use.

commands:
{LISTED}

`{PROGRAM} COMMAND --help` explains a command; --debug prints the traceback of an error, and what
the program set of its process for speed;
`{PROGRAM} --version` is for reports.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 on success and where whoever read the output has gone (`| head`), 2 for a
        user's mistake, which is one line on standard error, 130 on Ctrl-C.

    Raises:
        Exception: a fault of our own; with --debug any error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if debug and PROCESS_SETTINGS:
        print(f"{PROGRAM}: {'; '.join(PROCESS_SETTINGS)}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):  # a terminal may know fewer characters than a file name
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        # What `--json` prints is for a program: progress goes elsewhere.
        shown, resumable = _is_rank_0(), _is_resumable(words)
        with logging_to_terminal(shown, "--json" in words, goes_on_unread=resumable):
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `ast-audio … | head`
        without_reader(sys.stdout)
        return 0
    except (ValueError, OSError) as error:
        if debug or not is_users_mistake(error):
            raise
        return _fail(describe(error))
    except KeyboardInterrupt:
        if _is_rank_0():
            resumes = "; the same command goes on from here" if _is_resumable(words) else ""
            print(f"\n{PROGRAM}: interrupted{resumes}", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    processes = os.environ.get("WORLD_SIZE", "1")  # by torchrun
    if processes != "1" and not (words and words[0] in DISTRIBUTED):
        if not _is_rank_0():
            return 0  # rank 0 says why
        command = words[0] if words else PROGRAM
        return _fail(
            f"{command} runs in one process, but torchrun started {processes}; start it without "
            f"torchrun, which is for {', '.join(DISTRIBUTED[:-1])} and {DISTRIBUTED[-1]}"
        )
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"{PROGRAM} {version(PROGRAM)}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        near = did_you_mean(command, COMMANDS) or f"; use one of {', '.join(COMMANDS)}"
        return _fail(f"command {command!r} is unknown{near}")
    module = import_module(f"train.cli.{command}")  # with PyTorch, which takes seconds
    from train.distributed import process_group

    try:
        with process_group():
            module.run(rest)
    except SystemExit as stop:  # `--help` is all that was asked for, or another rank failed
        return int(stop.code or 0)
    return 0


def _is_resumable(words: Sequence[str]) -> bool:
    """Whether the command goes on where it was interrupted; `predict` if it writes tables."""
    writes_tables = any(word.startswith("--format") for word in words)
    return bool(words) and (words[0] in RESUMABLE or (words[0] == "predict" and writes_tables))


def _is_rank_0() -> bool:
    """Whether torchrun did not start this process, or started it as the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _fail(message: str) -> int:
    print(f"{PROGRAM}: {shown(' '.join(message.split()))}", file=sys.stderr)
    return 2
