"""`ast-audio report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from train.cli.options import (
    DATA_HELP,
    TO_FILE,
    Device,
    at_least,
    parse,
    positional,
)
from train.report import write_report


@dataclass(frozen=True)
class ReportOptions:
    """Write a run, a cross-validation or an ablation as one HTML file that opens anywhere.

    Recipe, learning curves, confusions, scores of each class with intervals, calibration, the most
    confident mistakes and the environment, under 10 MB, with nothing from any other host.
    """

    source: Annotated[Positional[Path], positional("RUN|CROSSVAL|TABLE")]
    """Folder that `train`, `crossval` or `ablate` made."""
    out: Annotated[Path, TO_FILE]
    """HTML file to write; a file that is no such page is not replaced."""
    data: Annotated[
        Path | None,
        arg(
            metavar="PATH",
            help=f"{DATA_HELP} For sounds, spectrograms and attention of the mistakes.",
            help_behavior_hint="(default: the page comes without them)",
        ),
    ] = None
    mistakes: Annotated[int, at_least(0)] = 12
    """Mistakes to show, up to 50."""
    device: Device = "auto"


def run(words: Sequence[str]) -> None:
    options = parse(ReportOptions, words, "report")
    notes = write_report(
        options.source,
        options.out,
        data=options.data,
        mistakes=options.mistakes,
        device=options.device,
    )
    for note in notes:
        print(note)
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
