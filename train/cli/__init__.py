"""`ast-audio`: one program; bad input gives one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

PROGRAM = "ast-audio"

SUMMARIES = {
    "download": "fetch a data set and unpack it",
    "prepare": "decode and resample a data set once, to FLAC",
    "stats": "mean and standard deviation of a data set, for a recipe's front end",
    "audit": "look for what would spoil a training run, without training",
    "train": "train a recipe, with one fold or part held out",
    "crossval": "train a recipe with every fold held out once, and tabulate",
    "ablate": "train the rows of a table that compares recipes, and tabulate",
    "runs": "list what ran, or the difference between two runs",
    "ledger": "list the published results, how to reproduce each, and what was reached",
    "bench": "measure speed and memory beside other implementations",
    "evaluate": "score a trained model on a data set",
    "ensemble": "score the mean of several models' probabilities",
    "predict": "name the classes of recordings, and when they are heard",
    "embed": "write vectors that describe recordings",
    "attention": "draw what a model looks at over a recording's spectrogram",
    "convert": "write any model as a Hugging Face folder or an ONNX file",
}

DISTRIBUTED = ("train", "crossval")  # what several processes, started by torchrun, can share

HELP = f"""usage: {PROGRAM} COMMAND [OPTIONS]

The Audio Spectrogram Transformer: train, evaluate, use.

commands:
{{commands}}

`{PROGRAM} COMMAND --help` explains a command; --debug prints the traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 on bad input (one line on standard error), 130 on Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _dispatch(words)
    except (ValueError, OSError) as error:
        if debug:
            raise
        return _fail(_text(error))
    except KeyboardInterrupt:
        if _is_rank_0():
            print(f"\n{PROGRAM}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    processes = os.environ.get("WORLD_SIZE", "1")  # by torchrun
    if processes != "1" and not (words and words[0] in DISTRIBUTED):
        if not _is_rank_0():
            return 0  # without a word, and without an end to rank 0 before it says its own
        command = words[0] if words else PROGRAM
        return _fail(
            f"{command} runs in one process, but torchrun started {processes}; start it without "
            f"torchrun, which is for {' and '.join(DISTRIBUTED)}"
        )
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, SUMMARIES))
        commands = "\n".join(f"  {name:{width}}  {text}" for name, text in SUMMARIES.items())
        print(HELP.format(commands=commands), end="")
        return 0
    command, rest = words[0], words[1:]
    if command not in SUMMARIES:
        return _fail(f"command {command!r} is unknown; use one of {', '.join(SUMMARIES)}")
    from train.cli import commands  # PyTorch takes seconds to import: not before it is needed
    from train.distributed import process_group

    with process_group():
        getattr(commands, command)(rest)
    return 0


def _is_rank_0() -> bool:
    """Whether torchrun did not start this process, or started it as the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _fail(message: str) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return 2
