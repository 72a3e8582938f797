"""What the files of a run folder hold: their fields and columns, with types and ranges.

A file that is damaged, or holds something else, is one ValueError that names the file and the field
or the line. recipe.json, results.json and state.pt say their version, which is that of the CSV
files beside them too; those of the version before say none, and hold the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from data.files import json_field
from train.recipe import Precision
from train.run.tables import read_csv

Row = dict[str, float]

VERSION = 1  # of the files that this program writes
SHARES = ("accuracy", "precision", "recall", "f1", "mAP", "AUC")  # scores from 0 to 1
ROUNDING = 1e-6  # by which a share, or a probability, may be above 1
ALWAYS = ("accuracy", "mAP")  # scores of every model, since a recipe chooses by one of them
OF_AN_EPOCH = ("learning_rate", "train_loss", *SHARES, "d_prime", "loss")  # beside its number
PRETEXT = ("contrastive", "reconstruction")  # losses that only runs of pretraining have
ALWAYS_OF_PRETEXT = ("learning_rate", "train_loss", "loss")
FINITE = sys.float_info.max
MODELS = {"validation": "last", "test": "best"}  # of each split, the model that is always scored


def check_version(content: Mapping[str, Any], file: Path) -> None:
    """Raises ValueError for a file of a newer version of this program."""
    version = json_field(content, "version", int, file, 0, default=0)
    if version > VERSION:
        raise ValueError(
            f"{file} is of version {version}, and this program reads up to {VERSION}: a newer one "
            "wrote it; update this one"
        )


def check_record(content: dict[str, Any], file: Path) -> None:
    """recipe.json: the recipe, which `Recipe.from_json` checks, the fold, the data, the precision.

    {"version": 1, "recipe": {…}, "fold": 2, "clips": "9f0c…", "precision": "fp32"}
    """
    check_version(content, file)
    for name, kind in {"fold": int, "clips": str, "precision": str}.items():
        if content.get(name) is not None:
            json_field(content, name, kind, file)
    precision, known = content.get("precision"), get_args(Precision)
    if precision is not None and precision not in known:
        raise ValueError(
            f"{file}: precision is {precision!r:.60}, expected one of {', '.join(known)}"
        )


def check_results(content: dict[str, Any], file: Path) -> None:
    """results.json: the scores of each model on each split, and what chance scores.

    {"version": 1, "validation_split": "fold 1", "clips": {"validation": 48}, "chance": 0.125,
    "validation": {"last": {"accuracy": 0.9, …}, …}, "test": {…}}
    """
    check_version(content, file)
    json_field(content, "validation_split", str, file)
    clips = json_field(content, "clips", dict, file, default={})
    for split in clips:
        json_field(clips, split, int, f"{file}, clips", 1)
    json_field(content, "chance", float, file, 0, 1, default=0.0)
    for split, always in MODELS.items():
        if split == "validation" or split in content:
            models, source = json_field(content, split, dict, file), f"{file}, {split}"
            for model in {always, *models}:
                scores(json_field(models, model, dict, source), f"{source}, {model}")


def scores(row: Mapping[str, Any], source: object) -> Row:
    """The scores of a model: finite numbers by name; of an epoch, with the number of it.

    Args:
        source: the file and where in it, in messages.
    """
    return {name: _score(row, name, source) for name in dict.fromkeys((*row, *_always(row)))}


def _always(names: Iterable[str], of_classes: Sequence[str] = ALWAYS) -> Sequence[str]:
    """Scores that a row has to have among these, by whether classes are learnt, or a pretext."""
    return of_classes if {*PRETEXT}.isdisjoint(names) else ALWAYS_OF_PRETEXT


def _score(row: Mapping[str, Any], name: str, source: object) -> float:
    low, high = -FINITE, FINITE
    if name.removeprefix("ensemble_") in SHARES:
        low, high = 0, 1 + ROUNDING
    return json_field(row, name, float, source, low, high)


def epoch_scores(row: Mapping[str, Any], epoch: int, source: object) -> Row:
    """A row of metrics.csv: the scores of one epoch."""
    json_field(row, "epoch", float, source, epoch, epoch)
    return scores(row, source)


def read_epochs(file: Path) -> Iterator[Row]:
    """The rows of metrics.csv, one an epoch, from the first."""
    rows = read_csv(file)
    source, header = next(rows)
    if missing := sorted({"epoch", *_always(header)} - {*header}):
        raise ValueError(f"{source}: expected a line of headings, but {missing[0]} is not there")
    for epoch, (source, cells) in enumerate(rows, start=1):
        values = {name: _number(cell) for name, cell in zip(header, cells, strict=True)}
        yield epoch_scores(values, epoch, source)


def read_class_columns(file: Path) -> list[str]:
    """The classes that predictions.csv has a column of."""
    return _class_columns(*next(read_csv(file)))


def _class_columns(source: str, header: list[str]) -> list[str]:
    first, classes = header[:2], header[2:]
    if first != ["clip", "target"] or not classes or len({*classes}) < len(classes):
        raise ValueError(
            f"{source}: the columns are {', '.join(header):.60}, expected clip, target and one of "
            "each class"
        )
    return classes


def read_clips(
    file: Path, expected: Sequence[str] | None = None
) -> Iterator[tuple[str, str, list[float]]]:
    """Each clip of predictions.csv, its true class(es), and the probability of each class.

    Args:
        expected: the classes, one of which each clip has; None: any, any number.
    """
    rows = read_csv(file)
    source, header = next(rows)
    classes = _class_columns(source, header)
    if expected is not None and classes != [*expected]:
        raise ValueError(f"{source}: the columns are not of the classes {', '.join(expected):.60}")
    words = {"", *(word for name in classes for word in name.split("|"))}
    for source, (clip, target, *cells) in rows:
        if target not in classes and (expected or not {*target.split("|")} <= words):
            raise ValueError(f"{source}: target is {target!r:.60}, which is no class of the table")
        row = dict(zip(classes, map(_number, cells), strict=True))
        values = [json_field(row, n, float, source, 0, 1 + ROUNDING) for n in classes]
        yield clip, target, values


def _number(cell: str) -> float | str:
    """A cell's number; else the cell, which `json_field` refuses."""
    try:
        return float(cell)
    except ValueError:
        return cell


def check_state(state: Any, file: Path) -> None:
    """state.pt: where a run stands, in plain containers, numbers and tensors.

    {"version": 1, "run": as recipe.json, "config": the model's, "model": {name: tensor},
    "optimizer": …, "scaler": …, "epoch": finished ones, "batch": batches done of the next,
    "loss_sum" and "clips" of those, "rows": [scores of each epoch], "ensemble": (clips, classes),
    "skipped": [file], "splits": digest, "ema": …, "average": …}
    """
    if not isinstance(state, dict) or "config" not in state:
        raise ValueError(f"{file} is of another version of this program")
    plain = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    check_version(plain, file)
    containers = ("config", "model", "optimizer", "scaler", "rows", "skipped")
    for name in (*containers, *({"ema", "average", "run"} & state.keys())):
        _require(state, name, list if name in ("rows", "skipped") else dict, file)
    _require({"splits": None, **plain}, "splits", str | None, file)
    _require(state, "ensemble", Tensor | None, file)
    epochs = json_field(plain, "epoch", int, file, 0)
    for name in ("batch", "clips"):
        json_field(plain, name, int, file, 0)
    json_field(plain, "loss_sum", float, file, -FINITE, FINITE)
    json_field(plain, "rows", list, file, epochs, epochs)
    for epoch in range(1, epochs + 1):
        row, source = {"row": state["rows"][epoch - 1]}, f"{file}, epoch {epoch}"
        _require(row, "row", dict, file)
        numbers = {n: v for n, v in row["row"].items() if isinstance(v, int | float)}
        expected = _always(row["row"], OF_AN_EPOCH)
        epoch_scores({**dict.fromkeys((*expected, *row["row"])), **numbers}, epoch, source)
        if row["row"].keys() != state["rows"][0].keys():
            raise ValueError(f"{source}: it has other scores than epoch 1")
    for path in state["skipped"]:
        _require({"skipped": path}, "skipped", str, file)


def _require(state: Mapping[str, Any], name: str, kind: Any, file: Path) -> None:
    if name not in state or not isinstance(state[name], kind):
        given = type(state.get(name)).__name__
        raise ValueError(f"{file} is damaged: {name} is {given}")
