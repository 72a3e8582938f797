"""What a terminal shows of what the library logs and raises."""

from __future__ import annotations

import dis
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PACKAGES = ("ast_model", "data", "weights", "train")
ROOT = Path(__file__).resolve().parents[2]  # the folder that the packages lie in
NOTE = "note: "
LONGEST = 1000  # letters of a message


class TerminalHandler(logging.Handler):
    """Progress (INFO) on standard output, notes (WARNING and above) on standard error.

    Args:
        progress_on_stderr: progress too, since standard output is for a program to read.
        goes_on_unread: where whoever read it has gone, the work goes on; else BrokenPipeError.
    """

    def __init__(self, progress_on_stderr: bool = False, goes_on_unread: bool = False) -> None:
        super().__init__(logging.INFO)
        self.progress_on_stderr = progress_on_stderr
        self.goes_on_unread = goes_on_unread

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # `ast-audio --help` need not wait for it

        text, is_note = self.format(record), record.levelno >= logging.WARNING
        if is_note and not text.startswith(NOTE):
            text = NOTE + text
        stream = sys.stderr if is_note or self.progress_on_stderr else sys.stdout
        try:
            tqdm.write(text, file=stream)  # above a progress bar, not into it
            stream.flush()
        except BrokenPipeError:
            if not self.goes_on_unread:
                raise
            without_reader(stream)


@contextmanager
def logging_to_terminal(
    shown: bool = True, progress_on_stderr: bool = False, goes_on_unread: bool = False
) -> Iterator[None]:
    """Show what our packages log, for the length of a block; with `shown` false, nothing of it.

    The other arguments are those of `TerminalHandler`.
    """
    handler: logging.Handler = logging.NullHandler()
    if shown:
        handler = TerminalHandler(progress_on_stderr, goes_on_unread)
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def is_users_mistake(error: Exception) -> bool:
    """Whether our code raised it to tell the user something, or the system refused something.

    A ValueError that Python or a library raised means that our code called it wrongly, which only
    a traceback explains.
    """
    if isinstance(error, OSError):
        return True
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    code = frame.tb_frame.f_code
    file = Path(code.co_filename).resolve()
    ours = any(file.is_relative_to(ROOT / name) for name in PACKAGES)
    return ours and dis.opname[code.co_code[frame.tb_lasti]] == "RAISE_VARARGS"


def describe(error: Exception) -> str:
    """The message of an error, of the system's the reason and the file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def shown(text: str, most: int = LONGEST) -> str:
    """A text for one line of a terminal: what is in a file of others is not obeyed, nor endless.

    Args:
        most: letters that are shown.
    """
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)


def without_reader(stream: TextIO) -> None:
    """Throw away what a stream still holds, which Python would write as it exits, and what comes.

    For the file behind the stream, so that worker processes' output goes nowhere as well.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
