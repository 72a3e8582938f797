"""Lengths and sample rates of many clips, each read once as long as its file stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.audio import SAMPLE_RATES, STREAM_SECONDS, read_header
from data.clips import Clips
from data.file_table import FileTable

HEADERS = "headers"  # file of the table
FIELDS = [("samples", "<i8"), ("sample_rate", "<i4")]


def read_headers(
    clips: Clips, files: np.ndarray, kept: Path | None = None
) -> tuple[np.ndarray, dict[Path, Exception]]:
    """The header of each clip, and for each file that has none that can be used the reason.

    Args:
        files: of the clips, as `file_table.look_at` gives them.
        kept: folder of the table that keeps headers; None keeps none.

    Returns:
        (clips,) with `samples` and `sample_rate` in Hz; zeros for a file without.
    """
    failures: dict[Path, Exception] = {}

    def header(row: int) -> tuple[int, int] | None:
        path = clips[row].path
        try:
            return read_header(path)[:2]
        except (OSError, ValueError) as error:
            failures[path] = error
            return None

    table = FileTable(kept / HEADERS if kept else None, FIELDS, is_sound=_is_sound)
    return table.values(files["key"], header, "headers"), failures


def _is_sound(headers: np.ndarray) -> np.ndarray:
    """Which headers `read_header` could have given."""
    samples, rate = headers["samples"], headers["sample_rate"]
    is_rate = (rate >= SAMPLE_RATES[0]) & (rate <= SAMPLE_RATES[-1])
    return is_rate & (samples > 0) & (samples <= STREAM_SECONDS * rate)
