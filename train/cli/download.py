"""`ast-audio download`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from data.download.corpora import download_esc50, download_speech_commands
from train.cli.options import parse, positional


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch a data set; an interrupted download goes on where it stopped."""

    corpus: Positional[Literal["esc50", "speech_commands"]]
    """Which data set."""
    folder: Annotated[Positional[Path], positional("FOLDER")]
    """Where the data set shall lie."""
    version: Literal["v1", "v2"] = "v2"
    """Of Speech Commands: v2 (35 words) or v1 (30 words)."""


def run(words: Sequence[str]) -> None:
    options = parse(DownloadOptions, words, "download")
    if options.corpus == "esc50":
        download_esc50(options.folder)
    else:
        download_speech_commands(options.folder, options.version)
