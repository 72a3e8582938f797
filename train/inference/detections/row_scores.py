"""The scores of a model on soundscapes, against a table that names the birds of their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.files import csv_records
from train.inference.predict import Predictor, open_predictor
from train.inference.recordings import find_recordings
from train.inference.rows import ROW_SECONDS, require_own_stems, require_rows, row_id
from train.inference.scoring.report import rows_of_classes
from train.metrics import evaluate_scores, padded_cmap

NO_BIRD = "nocall"
LEAST = 1e-7  # from a probability to 0 and 1, for its logit
SECOND = re.compile("[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Label:
    """What a table says of one row."""

    line: str  # the file and the line, for errors
    stem: str  # of the soundscape
    end: int  # second in which the row ends
    birds: tuple[str, ...]


@dataclass(frozen=True)
class RowScores:
    """Scores of rows of soundscapes."""

    soundscapes: int
    rows: int  # that the table names
    scores: dict[str, float]
    per_class: list[tuple[Any, ...]]  # rows of `report.PER_CLASS`


def score_rows(
    model: str | Path,
    soundscapes: str | Path | Sequence[str | Path],
    table: Path,
    *,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    compile: bool = False,
    keep_tokens: float = 1.0,
) -> RowScores:
    """Score what a model hears in rows of five seconds, of the soundscapes that a table names.

    Rows that the table does not name are not scored. The scores are those of `evaluate_scores` for
    several labels a clip, and the padded cmAP.

    Args:
        model, soundscapes, batch_size, precision, device, compile, keep_tokens: as in `submit`.
        table: CSV with the columns row_id, as `submit` writes it, and birds: classes with a space
            between, nocall or nothing for none.

    Raises:
        FileNotFoundError, ValueError: as `submit`; or the table names a row twice, a soundscape
            that is missing, a row beyond its end, or a class that the model does not have.
    """
    labels = read_row_labels(table)
    paths = {path.stem: path for path in _found(soundscapes)}
    for label in labels.values():
        if label.stem not in paths:
            raise ValueError(
                f"{label.line}: there is no soundscape {label.stem!r:.200} in {soundscapes}: "
                "complete the folder, or remove its rows"
            )
    named = sorted({paths[label.stem] for label in labels.values()})
    predictor = open_predictor(
        model,
        named,
        timeline=True,
        hop=None,
        pad=True,
        spectrograms=False,
        skip_unreadable=False,
        batch_size=batch_size,
        precision=precision,
        device=device,
        compile=compile,
        keep_tokens=keep_tokens,
    )
    require_rows(predictor.classifier)
    predictor.in_rows = True
    classes = predictor.classifier.classes
    targets = _targets(labels, classes)
    _require_within(labels, paths, predictor.recordings.seconds)
    probabilities = _probabilities(predictor, labels)
    clipped = probabilities.clip(LEAST, 1 - LEAST)
    logits = np.log(clipped) - np.log1p(-clipped)
    scores = evaluate_scores(logits, targets, multi_label=True)
    scores["padded_cmAP"] = padded_cmap(probabilities, targets)
    per_class = rows_of_classes(classes, targets > 0, logits, logits > 0)
    return RowScores(len(named), len(labels), scores, per_class)


def read_row_labels(table: Path) -> dict[str, Label]:
    """The rows that a table labels, by their row_id.

    Raises:
        FileNotFoundError, ValueError: there is no such table, or it is not as `score_rows` says.
    """
    if not table.is_file():
        raise FileNotFoundError(f"no {table}: expected a CSV with the columns row_id and birds")
    labels: dict[str, Label] = {}
    for number, cells in csv_records(table, ("row_id", "birds")):
        line, name = f"{table}, line {number}", cells["row_id"]
        stem, _, end = name.rpartition("_")
        is_second = SECOND.fullmatch(end) is not None
        if not stem or not is_second or int(end) % ROW_SECONDS:
            raise ValueError(
                f"{line}: row_id {name!r:.200}: expected the soundscape's name, _ and the second "
                f"in which the row ends, a multiple of {ROW_SECONDS}"
            )
        if name in labels:
            raise ValueError(f"{line}: row_id {name!r:.200} is listed already; keep one")
        birds = tuple(dict.fromkeys(bird for bird in cells["birds"].split() if bird != NO_BIRD))
        labels[name] = Label(line, stem, int(end), birds)
    if not labels:
        raise ValueError(f"{table} labels no rows: expected one line for each")
    return labels


def _found(soundscapes: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = find_recordings(soundscapes)
    require_own_stems(paths)
    return paths


def _targets(labels: Mapping[str, Label], classes: Sequence[str]) -> np.ndarray:
    """(rows, classes), 0 or 1."""
    column = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)))
    for row, label in zip(targets, labels.values(), strict=True):
        for bird in label.birds:
            if bird not in column:
                raise ValueError(
                    f"{label.line}: the model has no class {bird!r:.200}: correct the name, or "
                    "remove it from the table"
                )
            row[column[bird]] = 1
    return targets


def _require_within(
    labels: Mapping[str, Label], paths: Mapping[str, Path], seconds: Mapping[Path, float]
) -> None:
    for name, label in labels.items():
        lasts = seconds[paths[label.stem]]
        if label.end - ROW_SECONDS >= lasts:
            raise _beyond(label, name, paths[label.stem], lasts)


def _beyond(label: Label, name: str, path: Path, seconds: float) -> ValueError:
    return ValueError(
        f"{label.line}: the row {name!r:.200} lies beyond the end of {path}, which lasts "
        f"{seconds:.2f} s: correct the row_id"
    )


def _probabilities(predictor: Predictor, labels: Mapping[str, Label]) -> np.ndarray:
    """(rows, classes) float64, of the rows that have labels."""
    order = {name: number for number, name in enumerate(labels)}
    found = np.full((len(order), len(predictor.classifier.classes)), np.nan)
    heard: dict[str, tuple[Path, float]] = {}
    for prediction in predictor.predictions():
        timeline = prediction.timeline
        for start, row in zip(timeline.starts.tolist(), timeline.probabilities, strict=True):
            number = order.get(row_id(prediction.path, start))
            if number is not None:
                found[number] = row.numpy()
        heard[prediction.path.stem] = prediction.path, timeline.ends[-1].item()
    for name, label in labels.items():  # a header may promise more than there is
        if np.isnan(found[order[name]]).any():
            raise _beyond(label, name, *heard[label.stem])
    return found
