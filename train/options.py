"""The options of every command of `ast-audio`, and how they are read."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from data.cache import ClipCache, default_cache_folder
from train.recipe import Precision, Recipe

PROGRAM = "ast-audio"


@dataclass(frozen=True)
class Reading:
    """How clips are read, and where the model computes."""

    cache: Path | None = None
    """Folder for decoded clips [default: one in the user's cache folder]."""
    use_cache: bool = True
    """Keep decoded clips on disk, so that each is decoded once."""
    workers: int | None = None
    """Decoding processes [default: none on a CPU, one a core up to 8 beside a GPU]."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""

    def clip_cache(self) -> ClipCache | None:
        return ClipCache(self.cache or default_cache_folder()) if self.use_cache else None


@dataclass(frozen=True)
class TrainOptions:
    """Train a recipe with one fold held out; the same command again resumes a run that stopped."""

    data: Path
    """Folder of the data set."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    fold: int = 1
    """Fold held out for evaluation."""
    out: Path | None = None
    """Run folder [default: runs/RECIPE/foldN]."""
    checkpoint_minutes: float = 10.0
    """Longest time between two checkpoints; there is one after every epoch."""


@dataclass(frozen=True)
class CrossvalOptions:
    """Train with every fold held out once; the same command again resumes."""

    data: Path
    """Folder of the data set."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    folds: tuple[int, ...] = ()
    """Folds to run [default: all]."""
    out: Path | None = None
    """Folder for the runs and the table [default: runs/RECIPE]."""


@dataclass(frozen=True)
class StatsOptions:
    """Mean and standard deviation of what a recipe's network would see, without augmentation.

    Measured in one pass over the log-mel values after they are fitted to the recipe's length,
    padding included, as the published statistics are.
    """

    data: Path
    """Folder of the data set."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on a data set."""

    model: Positional[Path]
    """Run folder (its last epoch is taken) or model folder (…/best, …/last)."""
    data: Path
    """Folder of the data set."""
    reading: OmitArgPrefixes[Reading]
    corpus: str | None = None
    """Which data set it is [default: the run's]."""
    fold: int | None = None
    """Fold to score [default: the fold that the run held out; without a run, all clips]."""
    precision: Precision = "auto"
    """fp32, bf16 or fp16."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class PredictOptions:
    """Name the classes of audio files."""

    model: Positional[Path]
    """Run folder (its last epoch is taken) or model folder (…/best, …/last)."""
    files: Positional[tuple[Path, ...]]
    """Audio files: WAV, FLAC, OGG or MP3, any sample rate and number of channels."""
    top_k: int = 5
    """Classes a file."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch a data set; an interrupted download goes on where it stopped."""

    corpus: Positional[str]
    """esc50."""
    folder: Positional[Path]
    """Where the data set shall lie."""


def parse(kind: Callable[..., Any], words: Sequence[str], command: str, default: Any = None) -> Any:
    """tyro's parser, its boxed complaint folded into one line.

    Args:
        kind: a dataclass whose fields are the options.
        default: an instance that gives the options' defaults.

    Raises:
        ValueError: the words do not fit; exit with 0 after `--help`.
    """
    complaint = io.StringIO()
    known = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=words, prog=f"{PROGRAM} {command}", **known)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_folded(complaint.getvalue())) from None


def _folded(box: str) -> str:
    """The words inside the frame that tyro draws around an error, a rule in it as a semicolon."""
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:-1])
    text = " ".join(";" if set(line) == {"─"} else line for line in lines if line)
    return re.sub(r"\s+;", ";", text)
