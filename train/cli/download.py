"""`ast-audio download`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from data.download.corpora import download_esc50, download_speech_commands
from train.cli.options import one_of, parse, positional, unless_given

Version = Literal["v1", "v2"]


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch a data set; an interrupted download goes on where it stopped."""

    corpus: Positional[Literal["esc50", "speech_commands"]]
    """Which data set."""
    folder: Annotated[Positional[Path], positional("FOLDER")]
    """Where the data set shall lie."""
    version: Annotated[Version | None, one_of(Version), unless_given("v2")] = None
    """Of Speech Commands: v2 (35 words) or v1 (30 words)."""


def run(words: Sequence[str]) -> None:
    options = parse(DownloadOptions, words, "download")
    if options.corpus == "speech_commands":
        download_speech_commands(options.folder, options.version or "v2")
        return
    if options.version:
        raise ValueError("--version is of speech_commands; leave it out, or name that data set")
    download_esc50(options.folder)
