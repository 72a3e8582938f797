"""What answers hold, and what the words of a query may be."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ast_model.timeline import Timeline
from train.serve.audio import LONGEST_WAV, Recording
from train.serve.jobs import ENDED

LEAST, MOST_CLASSES = 0.01, 40  # probability and number of the classes that a window's event has


def summary(recording: Recording) -> dict[str, Any]:
    """A recording as the list of the page shows it."""
    job = recording.job
    return {
        "id": recording.id,
        "name": recording.name,
        "seconds": recording.seconds,
        "sample_rate": recording.header.sample_rate,
        "state": job.state,
        "heard": round(job.heard, 3),
        "error": job.error.replace(str(recording.path), recording.name),
        "best": job.best if job.state in ENDED else [],
    }


def windows_of(piece: Timeline) -> list[list[Any]]:
    """[start, end, [[class number, probability], …]] of each window, without unlikely classes."""
    values, numbers = piece.probabilities.topk(min(MOST_CLASSES, len(piece.classes)), dim=1)
    rows = zip(
        piece.starts.tolist(), piece.ends.tolist(), numbers.tolist(), values.tolist(), strict=True
    )
    return [
        [start, end, [[n, round(p, 4)] for n, p in zip(*best, strict=True) if p >= LEAST]]
        for start, end, *best in rows
    ]


def number_of(request: Request, name: str, default: float) -> float:
    """A finite number of the query; HTTPException (422) where it is none."""
    word = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,12}(\.\d{0,20})?", word):
        raise HTTPException(422, f"{name} {word!r:.40} is not a number")
    return float(word)


def span_of(request: Request, recording: Recording) -> tuple[float, float]:
    """`start` and `end` of the query, within the recording."""
    start = number_of(request, "start", 0.0)
    end = min(number_of(request, "end", start + LONGEST_WAV), recording.seconds)
    if not 0 <= start < end or end - start > LONGEST_WAV + 1:
        raise HTTPException(422, f"{start:g} to {end:g} s is no span of up to {LONGEST_WAV:g} s")
    return start, end


def attachment(name: str) -> str:
    """The header that has a browser save an answer under a name (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
