"""A run folder: which run it is, what it has reached, and how it is resumed.

recipe.json           the complete recipe, the data and the fold: enough to repeat the run
metrics.csv           a row an epoch
best/ last/           model folders; averaged/ where the recipe averages weights
state/state.pt        optimiser, scaler and position, to resume
plots/                PNG files
predictions.csv       held-out clips: target, probability of each class, by the last epoch's model
results.json          the final scores of each model, on the held-out clips and the test part
test_predictions.csv  clips of the test part, by the best epoch's model
skipped.txt           files that could not be decoded, where the recipe leaves them out
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data import Clip, Manifest
from data.files import atomic_file, is_leftover
from train.recipe import Recipe

RECIPE, METRICS, RESULTS = "recipe.json", "metrics.csv", "results.json"
STATE, SKIPPED = Path("state") / "state.pt", "skipped.txt"


def open_run(folder: Path, recipe: Recipe, manifest: Manifest, fold: int | None) -> None:
    """Claim a new folder for this run, or recognise the run that is to be resumed.

    Raises:
        ValueError: the folder holds another run, or files that are no run; nothing is touched.
    """
    content = {"recipe": recipe.to_json(), "fold": fold, "clips": fingerprint(manifest)}
    file = folder / RECIPE
    if file.is_file():
        _require_same(folder, read_json(file), content)
    elif folder.exists() and not all(map(is_leftover, folder.iterdir())):
        raise ValueError(f"{folder} exists and is no run folder; give a new --out")
    else:
        write_json(file, content)
    for leftover in filter(is_leftover, list(folder.rglob("*"))):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _require_same(folder: Path, stored: Any, wanted: dict[str, Any]) -> None:
    old = stored.get("recipe") if isinstance(stored, dict) else None
    if not isinstance(old, dict):
        raise ValueError(f"{folder / RECIPE} is not a run's recipe; give a new --out")
    differing = [
        f"{name} {old.get(name)!r} -> {value!r}"
        for name, value in wanted["recipe"].items()
        if old.get(name) != value
    ]
    if stored.get("fold") != wanted["fold"]:
        differing.append(f"fold {stored.get('fold')} -> {wanted['fold']}")
    if stored.get("clips") != wanted["clips"]:
        differing.append("the data set's clips")
    if differing:
        raise ValueError(
            f"{folder} holds a run of a different recipe ({'; '.join(differing)}); "
            "give a new --out, or the old recipe to resume it"
        )


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 over file names, classes, folds and parts, wherever the data set lies."""
    digest = hashlib.sha256("\n".join(manifest.classes).encode())
    for clip in manifest.clips:
        digest.update(
            f"\n{clip.path.name} {clip.targets} {clip.fold} {clip.split}".encode(
                errors="surrogatepass"
            )
        )
    return digest.hexdigest()


def read_recipe(file: Path) -> tuple[Recipe, int | None]:
    """The recipe and the fold, if any, that a run folder's recipe.json records."""
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("fold"), int | None):
        raise ValueError(f"{file} is not a run's recipe; give the recipe.json of a run folder")
    return Recipe.from_json(content.get("recipe"), file), content["fold"]


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state to resume from: whole or not at all, and always last of an epoch's files."""
    buffer = io.BytesIO()  # through memory, so that a full disk is a plain OSError
    torch.save(state, buffer)
    with atomic_file(folder / STATE) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The state to resume from; None where the run has not reached its first checkpoint.

    Raises:
        ValueError: the file is damaged, or another version wrote it.
    """
    file = folder / STATE
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no error type of its own for a damaged file
        raise ValueError(f"{file} is damaged; delete the run folder and start again") from error
    if "config" not in state:
        raise ValueError(f"{file} is of another version of this program; give a new --out")
    return state


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys as CSV."""
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_predictions(
    path: Path, clips: Sequence[Clip], classes: Sequence[str], probabilities: torch.Tensor
) -> None:
    """`predictions.csv`: clip, target class(es), probability (clips, classes) of each class."""
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "target", *classes])
        for clip, row in zip(clips, probabilities.tolist(), strict=True):
            target = "|".join(classes[index] for index in clip.targets)
            writer.writerow([clip.path.name, target, *(f"{value:.6f}" for value in row)])


def read_predictions(path: Path) -> list[tuple[str, list[float]]]:
    """Target and probabilities of each clip of a `predictions.csv`."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(target, [float(value) for value in values]) for _, target, *values in rows]


def write_json(path: Path, content: Any) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
