"""`ast-audio serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from train.cli.options import (
    TO_FOLDER,
    Device,
    InferencePrecision,
    Model,
    PositiveInt,
    parse,
    unless_given,
)


@dataclass(frozen=True)
class ServeOptions:
    """Open a page on this machine to see and hear what a model finds in recordings.

    Drop files on it, record, or browse a folder: spectrogram, classes over time, sound, attention,
    tables to download, verdicts on what was found. POST /api/predict answers programs.
    """

    model: Model
    folder: Annotated[Path | None, unless_given("none", "PATH")] = None
    """A folder of recordings to browse; nothing outside it can be opened."""
    verdicts: Annotated[
        Path | None, TO_FOLDER, unless_given("kept for download until the end", "PATH")
    ] = None
    """A folder for the verdicts given on the page, with a segment of sound each, as `segments`
    writes it: a new one, or one of an earlier page. `ast-audio review` reads it."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own let other machines in, who then need the
    token that is printed with the address; the connection is not encrypted."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    batch_size: PositiveInt = 8
    """Windows that run through the model at a time."""
    precision: InferencePrecision = "fp32"
    device: Device = "auto"


def run(words: Sequence[str]) -> None:
    options = parse(ServeOptions, words, "serve")
    if not 0 <= options.port < 65536:
        raise ValueError(f"--port {options.port} is no port; use 0 to 65535")
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise ValueError("serve needs starlette and uvicorn; pip install 'ast-audio[serve]'")
    from train.serve import Address, serve

    def started(address: Address) -> None:
        print(f"{address.url}  (Ctrl-C ends it)", flush=True)

    try:
        serve(
            options.model,
            options.folder,
            host=options.host,
            port=options.port,
            precision=options.precision,
            device=options.device,
            batch_size=options.batch_size,
            verdicts=options.verdicts,
            started=started,
        )
    except KeyboardInterrupt:
        print("ended; uploads are removed")
