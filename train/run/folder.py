"""A run folder: which run it is, what it has reached, and its files; `schema` says what they hold.

recipe.json           the complete recipe, the data and the fold: enough to repeat the run
environment.json      machine, versions and date of each start
metrics.csv           a row an epoch
best/ last/           model folders; averaged/ where the recipe averages weights
state/state.pt        optimiser, scaler and position, to resume
plots/                learning_curves.png, confusion.png (as predictions.csv), confusion_test.png
predictions.csv       validation clips: true class, probability of each class, by the final model
results.json          the final scores of each model, on the validation and the test split
test_predictions.csv  clips of the test split, by the best epoch's model
skipped.txt           files that could not be decoded, where the recipe leaves them out
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import torch

from data import Clip, Manifest
from data.files import atomic_file, is_leftover, read_json
from data.splits import Splits
from train.pretraining.recipe import PretrainingRecipe
from train.recipe import BaseRecipe, Recipe
from train.run.schema import (
    Row,
    check_record,
    check_results,
    check_state,
    read_class_columns,
    read_clips,
    read_epochs,
)
from weights.tensors import read_state

RECIPE, METRICS, RESULTS = "recipe.json", "metrics.csv", "results.json"
PREDICTIONS, TEST_PREDICTIONS = "predictions.csv", "test_predictions.csv"
STATE, SKIPPED = Path("state") / "state.pt", "skipped.txt"
START_AGAIN = "delete the run folder and start again, or give a new --out"
LONGEST_NAME = 100  # bytes; file systems take 255, and others are appended


class QuotedScore(NamedTuple):
    """The score of a run that is worth quoting, and what it is of."""

    score: float  # 0 to 1
    split: str  # "test", "validation", "fold 1"
    clips: int | None  # of the split; None: an earlier version did not store it
    model: str  # "best (epoch 22)"
    predictions: str  # file of the run folder with those of the split, by the final model
    chance: float | None  # what chance scores on the validation split; None as for clips


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says of its run."""

    folder: Path
    recipe: BaseRecipe
    fold: int | None
    fingerprint: str | None  # of the data
    precision: str | None  # that the run began in, where the recipe says auto
    finished: bool

    @property
    def quoted(self) -> QuotedScore:
        """The score to quote of a finished run.

        On the test split where there is one, of the epoch that the validation split chose; else on
        the validation split, of the averaged weights or the last epoch, which it did not choose.
        """
        results = read_results(self.folder)
        rows = results["validation"]
        split, model = "validation", "averaged" if "averaged" in rows else "last"
        predictions = PREDICTIONS
        if "test" in results:
            split, model, predictions = "test", "best", TEST_PREDICTIONS
        epoch = rows.get(model, {}).get("epoch")
        return QuotedScore(
            results[split][model][self.recipe.metric],
            "test" if split == "test" else results["validation_split"],
            results.get("clips", {}).get(split),
            model if epoch is None else f"{model} (epoch {epoch:.0f})",
            predictions,
            results.get("chance"),
        )

    @property
    def score(self) -> float:
        """What `score_name` says, 0 to 1; of a finished run."""
        return self.quoted.score

    @property
    def score_name(self) -> str:
        """What the score is of."""
        results = read_results(self.folder)
        if "test" in results:
            return f"{self.recipe.metric} on the test split, epoch chosen on the validation split"
        model = "averaged weights" if "averaged" in results["validation"] else "final checkpoint"
        return f"{self.recipe.metric} on the validation split, {model}"

    def validation_score(self, model: str) -> float:
        """The recipe's metric of `last`, `best` or `averaged` on the validation split, 0 to 1."""
        return read_results(self.folder)["validation"][model][self.recipe.metric]


def read_run(folder: Path) -> RunRecord:
    """What a run folder holds, of this or an earlier version.

    Raises:
        FileNotFoundError, ValueError: it is no run folder.
    """
    file = folder / RECIPE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no {RECIPE}")
    return run_record(read_json(file), file)


def run_record(content: dict[str, Any], file: Path) -> RunRecord:
    """The record of a run that a file holds in `content`, in its recipe.json or its state."""
    recipe = read_fields(content.get("recipe"), file)
    check_record(content, file)
    precision = content.get("precision") or recipe.precision  # earlier versions: in the recipe
    folder = file.parent
    finished = (folder / RESULTS).is_file()
    return RunRecord(folder, recipe, content.get("fold"), content.get("clips"), precision, finished)


def read_fields(content: Any, file: Path) -> BaseRecipe:
    """The recipe, of training or of pretraining, that a file holds in `content`."""
    is_pretraining = isinstance(content, dict) and "method" in content
    return (PretrainingRecipe if is_pretraining else Recipe).from_json(content, file)


def find_runs(folder: Path) -> list[Path]:
    """Every run folder in and below a folder, in order; what other processes remove is passed over.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; give one that holds runs")
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_leftover(Path(name))]
        found += [Path(path)] if RECIPE in files else []
    return sorted(found)


def folder_name(name: str, kind: str) -> str:
    """A name from a recipe or a table that shall be a folder's, within another.

    Args:
        name: what it is to be called.
        kind: of what it is the name, in the message.

    Raises:
        ValueError: it would be another folder than one of its own there, on any system.
    """
    path, strange = PureWindowsPath(name), (".", "-", " ")  # hidden, an option, cut off by Windows
    fits = name.isprintable() and not name.startswith(strange) and not name.endswith((".", " "))
    fits = fits and path.parts == (name,) and not path.is_reserved() and not {*'<>"|?*'} & {*name}
    if not fits or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"{kind} {name!r:.{LONGEST_NAME}} cannot name a folder: use up to {LONGEST_NAME} "
            "letters, digits, and _ + - . within"
        )
    return name


def recipe_differences(
    stored: RunRecord, wanted: BaseRecipe, ignored: Sequence[str] = ()
) -> list[str]:
    """The fields in which a run's recipe differs from another one: "epochs 2 -> 3".

    Where the wanted precision is auto, any will do; where the run's is auto, the one it began in
    is compared.

    Args:
        ignored: fields that may differ.
    """
    if stored.recipe.kind != wanted.kind:
        return [f"{stored.recipe.kind} -> {wanted.kind}"]
    old = replace(stored.recipe, precision=stored.precision or stored.recipe.precision)
    skipped = {*ignored, "summary", *(["precision"] if wanted.precision == "auto" else [])}
    old_fields, new_fields = old.to_json(), wanted.to_json()
    return [
        f"{name} {old_fields[name]!r:.200} -> {value!r:.200}"
        for name, value in new_fields.items()
        if name not in skipped and old_fields[name] != value
    ]


def run_differences(
    stored: RunRecord,
    wanted: BaseRecipe,
    fold: int | None,
    clips: str | None,
    ignored: Sequence[str] = (),
) -> list[str]:
    """In what a run differs from one of a recipe, a fold and a digest of data: "epochs 2 -> 3"."""
    differing = recipe_differences(stored, wanted, ignored)
    if stored.fold != fold:
        differing.append(f"fold {stored.fold} -> {fold}")
    if stored.fingerprint != clips:
        differing.append("the data set's clips")
    return differing


def read_recipe(file: Path) -> tuple[BaseRecipe, int | None]:
    """The recipe and the fold, if any, that a run folder's recipe.json records."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give the recipe.json of a run folder")
    record = run_record(read_json(file), file)
    return record.recipe, record.fold


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 over all that the splits of a run follow from, wherever the data set lies."""
    digest = hashlib.sha256("\n".join(manifest.classes).encode())
    split_by_group = not (manifest.folds or manifest.splits)
    for path, targets, fold, split, group in manifest.clips.rows():
        split = "valid" if split == "validation" else split  # as version 0.1 called it
        line = f"\n{path.rpartition(os.sep)[2]} {targets} {fold} {split}"
        if split_by_group and group is not None:
            line += f" {group}"
        digest.update(line.encode(errors="surrogatepass"))
    return digest.hexdigest()


def splits_digest(splits: Splits) -> str:
    """SHA-256 over the clips of each split, which change where unreadable files are left out."""
    digest = hashlib.sha256()
    for clips in (splits.train, splits.validation, splits.test):
        digest.update(f"{len(clips)}".encode())
        for path, targets, *_ in clips.rows():
            name = path.rpartition(os.sep)[2]
            digest.update(f"\n{name} {targets}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state to resume from: whole or not at all, and always last of an epoch's files."""
    buffer = io.BytesIO()  # through memory, so that a full disk is a plain OSError
    torch.save(state, buffer)
    with atomic_file(folder / STATE) as temporary:
        temporary.write_bytes(buffer.getvalue())


def cut_off(folder: Path, epochs: int) -> bool:
    """Whether a run with scores ended before the state that is written after them."""
    state, results = folder / STATE, folder / RESULTS
    if state.is_file():
        return state.stat().st_mtime_ns < results.stat().st_mtime_ns
    return epochs == 1 and state.parent.is_dir()  # else it was removed since


def require_state(folder: Path, epochs: int) -> None:
    """Raises ValueError where a run is finished and its state was removed: it cannot go on."""
    results, state = folder / RESULTS, folder / STATE
    if results.is_file() and not state.is_file() and not cut_off(folder, epochs):
        raise ValueError(
            f"{folder} is finished, and {state.name}, without which it cannot go on, was removed: "
            "give a new --out, or remove the folder to train it again"
        )


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state to resume from, on the CPU; None where there is no checkpoint yet.

    Raises:
        ValueError: the file is damaged, or another version wrote it.
    """
    file = folder / STATE
    if not file.exists():
        return None
    try:
        state = read_state(file)
        check_state(state, file)
    except ValueError as error:
        raise ValueError(f"{error}; {START_AGAIN}") from None
    return state


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys as CSV; None is an empty cell."""
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_predictions(
    path: Path, manifest: Manifest, clips: Sequence[Clip], probabilities: torch.Tensor
) -> None:
    """`predictions.csv`: clip, true class(es), probability (clips, classes) of each class."""
    header = ["clip", "target", *manifest.classes]
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        for clip, row in zip(clips, probabilities.tolist(), strict=True):
            target = "|".join(manifest.classes[index] for index in clip.targets)
            name = manifest.relative(clip.path)
            writer.writerow([name, target, *(f"{value:.6f}" for value in row)])


def read_predictions(
    path: Path, classes: Sequence[str] | None = None
) -> list[tuple[str, list[float]]]:
    """True class(es) and probabilities of each clip of a `predictions.csv`.

    Args:
        classes: those that the table has to be of, one for each clip; None: any, any number.

    Raises:
        ValueError: a line holds something else.
    """
    return [(target, values) for _, target, values in read_clips(path, classes)]


def count_classes(folder: Path) -> int:
    """Of a finished run, by its predictions."""
    return len(read_class_columns(folder / PREDICTIONS))


def read_results(folder: Path) -> dict[str, Any]:
    """The final scores of a run: of each model on the validation split, and on the test split.

    {"validation_split": "fold 1", "clips": {"validation": 48}, "chance": 0.125,
    "validation": {"last": {"accuracy": 0.9, …}, …}, "test": {…}}

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds something else.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give a run that is finished")
    content = read_json(file)
    if "held out" in content:  # of version 0.1
        test = {"test": content.pop("test")} if "test" in content else {}
        content = {"validation_split": content.pop("held out"), "validation": content, **test}
    check_results(content, file)
    return content


def read_metrics(folder: Path) -> list[Row]:
    """The rows of `metrics.csv`, one an epoch; none before the first epoch's end.

    Raises:
        ValueError: a line holds something else.
    """
    file = folder / METRICS
    return list(read_epochs(file)) if file.is_file() else []
