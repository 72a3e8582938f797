"""`ast-audio review`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from data.files import require_replaceable
from train.cli.options import TO_FILE, parse, positional, unless_given
from train.cli.terminal import shown
from train.inference.listening import review
from train.inference.listening.review import ClassReview, Estimate
from train.run.tables import write_csv

HEADINGS = ("right", "wrong", "unsure", "open", "precision", "threshold", "precision from there")
THRESHOLD_COLUMNS = ("class", "threshold")
OF_DRAW = {
    "certain": "precision is that of the segments drawn, the most certain of each class",
    "uncertain": "precision is that of the segments drawn, near 0.5: not that of all detections",
    "stratified": "precision is that of all detections in the tables that the segments are from",
    "chosen": "precision is that of the segments that a person chose, not that of all detections",
}


@dataclass(frozen=True)
class ReviewOptions:
    """Read the verdicts on segments: precision of each class, and the threshold that it needs.

    Intervals are of 95 %: Wilson's of precision, Fieller's of the threshold.
    """

    segments: Annotated[Positional[Path], positional("FOLDER|TABLE")]
    """What `ast-audio segments` wrote, with verdicts."""
    precision: Annotated[float | None, unless_given("no thresholds", "FLOAT")] = None
    """Say from which score on a detection is right with this probability, by a logistic regression
    on the score's logit."""
    thresholds_out: Annotated[Path | None, TO_FILE, unless_given("not written")] = None
    """CSV with columns class and threshold, for `ast-audio predict --threshold`."""


def run(words: Sequence[str]) -> None:
    options = parse(ReviewOptions, words, "review")
    if options.thresholds_out and options.precision is None:
        raise ValueError("--thresholds-out needs a wanted precision; add --precision 0.9")
    if options.thresholds_out:
        require_replaceable(options.thresholds_out, ",".join(THRESHOLD_COLUMNS))
    found = review(options.segments, options.precision)
    print(_table(found.classes, options.precision is not None))
    print(OF_DRAW.get(found.draw, "precision is that of the segments drawn"))
    if options.thresholds_out:
        _write_thresholds(options.thresholds_out, found.thresholds, len(found.classes))


def _write_thresholds(path: Path, thresholds: dict[str, float], classes: int) -> None:
    if not thresholds:
        raise ValueError(f"no class has a threshold: {path} is not written; judge more segments")
    write_csv(path, THRESHOLD_COLUMNS, thresholds.items())
    print(f"wrote {path}: thresholds of {len(thresholds)} of {classes} classes")
    if len(thresholds) < classes:
        print("name those to `ast-audio predict` with --classes, or add the others to the file")


def _table(classes: Sequence[ClassReview], with_thresholds: bool) -> str:
    width = max(len("class"), *(len(shown(each.label)) for each in classes))
    headings = HEADINGS if with_thresholds else HEADINGS[:5]
    columns = [*(f"{name:>6}" for name in headings[:4]), *(f"{name:24}" for name in headings[4:])]
    lines = ["  ".join([f"{'class':{width}}", *columns]).rstrip()]
    for each in classes:
        counts = (each.right, each.wrong, each.unsure, each.open)
        values = [_percent(each.precision)]
        if with_thresholds:
            values += [_score(each.threshold), _percent(each.precision_from)]
        cells = [*(f"{count:6}" for count in counts), *(f"{value:24}" for value in values)]
        lines.append("  ".join([f"{shown(each.label):{width}}", *cells]).rstrip())
        lines += [f"  {note}" for note in each.notes]
    return "\n".join(lines)


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return "{:.1%} ({:.1%} to {:.1%})".format(*estimate)


def _score(estimate: Estimate | None) -> str:
    return "-" if estimate is None else "{:.4f} ({:.4f} to {:.4f})".format(*estimate)
