"""Runs one after the other on the same data, whose equal lines are logged once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

ABOUT_DATA_AND_WEIGHTS = (
    "train.preparation.choose",
    "train.preparation.preflight",
    "train.init_model",
    "weights.authors",
    "weights.checkpoint",
    "weights.folder",
)
"""Loggers whose line, said again, is about the same: how a run goes, `run.log` says each time."""


@contextmanager
def said_once() -> Iterator[None]:
    """Within a block, or a decorated function, log each line about data and weights once."""
    said: set[tuple[str, str]] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.levelname, record.getMessage()
        new = line not in said
        said.add(line)
        return new

    loggers = [logging.getLogger(name) for name in ABOUT_DATA_AND_WEIGHTS]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)
