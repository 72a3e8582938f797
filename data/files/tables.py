"""Tables in text: CSV or lines, in UTF-8."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """A text to be read as CSV or by lines.

    Raises:
        ValueError: it is not UTF-8, or the CSV in it is malformed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a table in UTF-8 ({error}): get the file anew, or save it as UTF-8"
        ) from error
