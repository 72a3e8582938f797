"""How many clips a second does the page's server answer, alone and to many clients at once?

    python tests/benchmarks/bench_serve.py

A process of its own serves a network of random weights; this one asks `POST /api/predict` for clips
of 1 s: one client, one request after the other, and 64 clients at a time (or `--clients`), each
with a clip of its own. Every answer is compared with the one that its clip had when it came alone,
so that none can be mixed up. Then the time from the upload of a recording of 10 s to the first
scores of its windows, as the page follows them. With `--minutes`, all clients go on for so long
with each network, in the last precision.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from bench_recordings import write_model
from measuring import race, write

RATE = 16_000  # Hz
SAME = 1e-5  # probabilities of a clip alone and in a batch
DIFFERENT = 1e-4  # of two clips, at least for one class

NETWORKS = {
    "patches of 16 x 16": {},
    "patches of 128 x 4": {"patch": (128, 4), "stride": (128, 4), "pooling": "patches"},
}

Answer = dict[str, float]  # probability of each class


@dataclass(eq=False)
class Clip:
    """A request, and what was answered to it when it came alone."""

    request: bytes
    answer: Answer = field(default_factory=dict)


async def ask(port: int, clips: Iterable[Clip], until: float = math.inf) -> list[float]:
    """Send clips over one connection, each when the one before is answered; seconds of each.

    Raises:
        ValueError: the server refuses, or a clip's answer is not its own.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds = []
    for clip in clips:
        start = time.monotonic()
        if start > until:
            break
        writer.write(clip.request)
        rows = (await answer_of(reader))["classes"]
        seconds.append(time.monotonic() - start)
        answer = {row["class"]: row["probability"] for row in rows}
        clip.answer = clip.answer or answer
        if distance(clip.answer, answer) > SAME:
            raise ValueError(f"a clip's answer is {distance(clip.answer, answer):g} off its own")
    writer.close()
    await writer.wait_closed()
    return seconds


async def together(port: int, clips: Sequence[Clip], times: int, until: float) -> list[float]:
    """Each clip from a client of its own, again and again; seconds of each answer."""
    clients = [ask(port, repeat(clip, times), until) for clip in clips]
    return [second for client in await asyncio.gather(*clients) for second in client]


async def answer_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The JSON of an answer; ValueError where the server refuses."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])
    content = await reader.readexactly(size)
    if not re.match(r"HTTP/1\.1 20[01]", head):
        raise ValueError(f"the server answers {head.splitlines()[0]}: {content[:200]!r}")
    return json.loads(content)


def distance(left: Answer, right: Answer) -> float:
    return max(abs(left[name] - right[name]) for name in left)


def wav(seconds: float, seed: int) -> bytes:
    """Noise from a time of its own on, and a tone of its own."""
    times = np.arange(round(seconds * RATE)) / RATE
    noise = 0.1 * np.random.default_rng(seed).standard_normal(len(times))
    tone = 0.5 * np.sin(2 * np.pi * 100 * (1 + seed) * times)
    file = io.BytesIO()
    soundfile.write(file, (times > seed % 8 / 8 * seconds) * noise + tone, RATE, format="WAV")
    return file.getvalue()


def request(port: int, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def first_result(port: int, body: bytes) -> float:
    """Seconds from the upload of a recording to the first scores of its windows."""
    start = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(port, "/api/recordings?name=noise.wav", body))
    opened = await answer_of(reader)
    events = f"GET /api/events?shown={opened['id']} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    writer.write(events.encode())
    await reader.readuntil(b"event: windows")
    seconds = time.monotonic() - start
    writer.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="that count (%(default)s)")
    add("--threads", type=int, default=2, help="of the server's PyTorch (%(default)s)")
    add("--out", type=Path, help="JSON file to write")
    add("--precisions", nargs="+", default=["fp32", "auto"], help="of `ast-audio serve`")
    add("--clients", type=int, default=64, help="at a time (%(default)s)")
    add("--times", type=int, default=5, help="a client asks in a round (%(default)s)")
    add("--minutes", type=float, default=0.0, help="that all clients go on (%(default)s)")
    arguments = parser.parse_args()
    rows, figures = [], {}
    for network, changes in NETWORKS.items():
        for precision in arguments.precisions:
            print(f"{network}, {precision}")
            with serving(changes, precision, arguments.threads) as port:
                clips = clips_with_answers(port, arguments.clients)
                found = speeds(port, clips, arguments)
                rows += [{"network": network, "precision": precision, **row} for row in found]
                figures |= first_results(port, f"{network}, {precision}", arguments.rounds)
                if arguments.minutes and precision == arguments.precisions[-1]:
                    figures |= lasting(port, clips, f"{network}, {precision}", arguments.minutes)
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    if arguments.out:
        write(arguments.out, "serve", torch.device("cpu"), rows=rows, figures=figures)


@contextmanager
def serving(changes: Mapping[str, Any], precision: str, threads: int) -> Iterator[int]:
    """The port of `ast-audio serve` with a network of random weights, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as name:
        model = write_model(Path(name, "model"), "tiny224", 98, **changes)
        command = [sys.executable, "-m", "train", "serve", str(model), "--port", "0"]
        command += ["--precision", precision]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                line = next(line for line in process.stdout if "http://" in line)
                yield int(re.search(r":(\d+)/", line)[1])
            finally:
                process.terminate()


def clips_with_answers(port: int, count: int) -> list[Clip]:
    """Clips that are each answered in its own way, and their answers when they come alone."""
    path = "/api/predict?top_k=50"
    clips = [Clip(request(port, path, wav(1.0, number))) for number in range(count)]
    asyncio.run(ask(port, clips))
    require_different([clip.answer for clip in clips])
    return clips


def require_different(answers: Sequence[Answer]) -> None:
    """Mixed up answers would not be seen if those of two clips were alike."""
    for number, answer in enumerate(answers):
        if any(distance(answer, other) < DIFFERENT for other in answers[:number]):
            raise ValueError(f"clip {number} has an answer like another clip's")


def speeds(
    port: int, clips: Sequence[Clip], arguments: argparse.Namespace
) -> list[dict[str, float | str]]:
    """Clips a second from one client and from all, by turns."""
    times = arguments.times
    works = {
        "one after the other": lambda: asyncio.run(ask(port, list(clips) * times)),
        f"{len(clips)} at a time": lambda: asyncio.run(together(port, clips, times, math.inf)),
    }
    rounds = race(list(works.values()), arguments.rounds, torch.device("cpu"))
    rows = []
    for name, seconds in zip(works, rounds, strict=True):
        each = [times * len(clips) / s for s in seconds]
        speed = statistics.median(each)
        row = {"requests": name, "clips/s": speed, "slowest": min(each), "fastest": max(each)}
        row["ratio"] = speed / rows[0]["clips/s"] if rows else 1.0
        print(f"{name:20} {speed:7.1f} clips/s, {row['ratio']:.2f} times")
        rows.append(row)
    return rows


def first_results(port: int, name: str, rounds: int) -> dict[str, str]:
    recording = wav(10.0, 0)
    asyncio.run(first_result(port, recording))
    seconds = [asyncio.run(first_result(port, recording)) for _ in range(rounds)]
    what = f"From the upload of a recording of 10 s to its first scores ({name})"
    return {what: f"{statistics.median(seconds):.2f} s"}


def lasting(port: int, clips: Sequence[Clip], name: str, minutes: float) -> dict[str, str]:
    until = time.monotonic() + 60 * minutes
    seconds = asyncio.run(together(port, clips, sys.maxsize, until))
    what = f"{len(clips)} clients for {minutes:g} min ({name})"
    said = (
        f"{len(seconds):,} answers, each its own clip's, none after more than {max(seconds):.2f} s"
    )
    return {what: said}


if __name__ == "__main__":
    main()
