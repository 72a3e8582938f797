"""Run folders: a finished one is read and its model scored, an interrupted one is gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
import torch

from data.corpora.folder import folder as folder_of_classes
from tests.campaign.case import InputClass
from tests.campaign.mutations import JSON_VALUES, TEXTS, bytes_of, files_in, json_of
from train.experiments.runs import list_runs
from train.inference import evaluate
from train.loop import train
from train.recipes.demo import DEMO
from train.run import log
from train.run.folder import (
    count_classes,
    read_metrics,
    read_predictions,
    read_recipe,
    read_results,
    read_run,
)
from train.run.log import Run

RECIPE = replace(
    DEMO,
    corpus="folder",
    depth=1,
    num_frames=64,
    epochs=2,
    batch_size=4,
    frequency_mask=8,
    time_mask=16,
    warmup_epochs=0.0,
    precision="fp32",
)
CLIPS, FINISHED, INTERRUPTED = "clips", "finished", "interrupted"
STATE, JSONS, TABLES = (
    "state.pt",
    ("recipe.json", "results.json"),
    ("metrics.csv", "predictions.csv"),
)


class _KilledError(Exception):
    """Stands for a kill between two epochs."""


def without_pictures() -> None:
    """They take longer than everything else."""
    for name in ("learning_curves", "confusion"):
        setattr(log, name, lambda *_: None)


def make(folder: Path) -> None:
    """Clips of two classes, a run of two epochs, and one that was killed after the first."""
    without_pictures()
    noise = np.random.default_rng(0)
    for clip in range(8):
        split, name = ("train", "validation")[clip // 4], "ab"[clip % 2]
        file = folder / CLIPS / split / name / f"{clip}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, noise.normal(0, 0.1, 10_000), 16_000)
    resume(folder, FINISHED)
    begin_epoch = Run.begin_epoch

    def killed_in_the_second(run: Run, state: Any) -> None:
        if state.epoch == 1:
            raise _KilledError
        begin_epoch(run, state)

    Run.begin_epoch = killed_in_the_second
    try:
        resume(folder, INTERRUPTED)
    except _KilledError:
        Run.begin_epoch = begin_epoch
    for run in (FINISHED, INTERRUPTED):
        shutil.rmtree(folder / run / "tensorboard")


def resume(folder: Path, run: str) -> list[dict[str, float]]:
    manifest = folder_of_classes(folder / CLIPS)
    return train_quietly(RECIPE, manifest, folder / run)


def train_quietly(*arguments: Any) -> list[dict[str, float]]:
    return train(*arguments, device="cpu", workers=0)


def the_only(folder: Path, random: Random) -> Path:
    """The run of the case; the other is removed where it is still there."""
    runs = [folder / name for name in (FINISHED, INTERRUPTED) if (folder / name).exists()]
    chosen = random.choice(runs)
    for other in runs:
        if other != chosen:
            shutil.rmtree(other)
    return chosen


def small_file_bytes(folder: Path, random: Random) -> None:
    bytes_of(*JSONS, *TABLES)(the_only(folder, random), random)


def state_bytes(folder: Path, random: Random) -> None:
    bytes_of(STATE)(the_only(folder, random), random)


def json_field(folder: Path, random: Random) -> None:
    json_of(*JSONS)(the_only(folder, random), random)


def table_cell(folder: Path, random: Random) -> None:
    """Cells, headings, rows and columns of the CSV files of a run."""
    if not (files := files_in(the_only(folder, random), TABLES)):
        return
    file = random.choice(files)
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        rows = list(csv.reader(line.replace("\0", "") for line in opened)) or [[""]]
    row = random.choice(rows)
    kind = random.randrange(6)
    if kind <= 2 and row:
        row[random.randrange(len(row))] = random.choice((*TEXTS, "NaN", "-0.5", "2", "1e400"))
    elif kind == 3:
        rows.remove(row)
    elif kind == 4:
        rows.insert(random.randrange(len(rows)), [*row, "1"][random.randrange(2) :])
    else:
        for each in rows:
            del each[-1:]
    with file.open("w", newline="", encoding="utf-8", errors="replace") as opened:
        csv.writer(opened).writerows(rows)


def state_field(folder: Path, random: Random) -> None:
    """An entry of the state of another kind, at any depth."""
    file = the_only(folder, random) / "state" / STATE
    state = loaded(file)
    container, key = random.choice(places(state))
    kind = random.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[random.choice((*TEXTS, 5, None))] = container.pop(key)
    else:
        container[key] = random.choice(ENTRIES)(container[key])
    torch.save(state, file)


def state_tensor(folder: Path, random: Random) -> None:
    """A tensor of the state: weights, moments of the optimiser, predictions of the ensemble."""
    file = the_only(folder, random) / "state" / STATE
    state = loaded(file)
    tensors = [(c, k) for c, k in places(state) if isinstance(c[k], torch.Tensor)]
    if tensors:
        container, key = random.choice(tensors)
        container[key] = random.choice(TENSORS)(container[key])
    torch.save(state, file)


def loaded(file: Path) -> Any:
    try:
        return torch.load(file, weights_only=True)
    except Exception:  # mutated before
        return {"version": 1, "config": {}}


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = (
        list(content)
        if isinstance(content, dict)
        else list(range(len(content)))
        if isinstance(content, list)
        else []
    )
    return [(content, key) for key in keys] + [p for key in keys for p in places(content[key])]


ENTRIES: tuple[Callable[[Any], Any], ...] = (
    *(lambda _, value=value: value for value in (None, 0, -1, 1, 2, 10**6, 2**63, 10**40)),
    *(lambda _, value=value: value for value in (float("nan"), float("inf"), 1e308, -1e-9, True)),
    *(lambda _, value=value: value for value in ("", "x", "../x", [], {}, (), [[]], {"a": 1})),
    lambda _: torch.zeros(3),
    lambda _: {1, 2},
    lambda old: [old],
    lambda old: {"x": old},
    lambda old: old + old if isinstance(old, (str, list, int, float)) else old,
)
TENSORS: tuple[Callable[[torch.Tensor], Any], ...] = (
    lambda t: t * float("nan"),
    lambda t: t.float() * 3e38,
    lambda t: t.float() * 1e15,
    lambda t: -t.float() - 1,
    lambda t: t.double(),
    lambda t: t.half(),
    lambda t: t.long(),
    lambda t: t[None],
    lambda t: t.flatten()[:1],
    lambda t: torch.zeros(()).expand(t.shape),
    lambda t: t.to("meta"),
    lambda t: t.to_sparse() if t.dim() else t.bool(),
    lambda t: torch.nn.Parameter(t.float()),
    lambda t: torch.full_like(t.float(), float("-inf")),
)


def absent(folder: Path, random: Random) -> None:
    """A file that is missing, empty, or a folder."""
    file = random.choice(files_in(the_only(folder, random)))
    file.unlink()
    if random.random() < 0.6:
        file.mkdir() if random.random() < 0.5 else file.touch()


def recipe_value(folder: Path, random: Random) -> None:
    """One field of the recipe with another value."""
    file = the_only(folder, random) / "recipe.json"
    try:
        content = json.loads(file.read_text())
        content["recipe"][random.choice(sorted(content["recipe"]))] = "@@"
    except (ValueError, KeyError, TypeError, OSError, IndexError):  # mutated before
        return
    file.write_text(json.dumps(content).replace('"@@"', random.choice(JSON_VALUES)))


def read(folder: Path) -> list[Any]:
    """All that a finished run says, and its model's scores; the rows of a resumed one."""
    without_pictures()
    if (folder / INTERRUPTED).exists():
        return [resume(folder, INTERRUPTED)]
    run = folder / FINISHED
    list_runs(folder)
    record, (recipe, fold) = read_run(run), read_recipe(run / "recipe.json")
    found: list[Any] = [*recipe.to_json().values(), fold, read_results(run), record.score]
    found += [record.quoted, read_metrics(run), count_classes(run)]
    found += [read_predictions(run / "predictions.csv", ("a", "b"))]
    found += [evaluate(run, folder / CLIPS, corpus="folder", device="cpu", workers=0).scores]
    return [*found, resume(folder, FINISHED)]


def score(folder: Path) -> list[str]:
    run = folder / (FINISHED if (folder / FINISHED).exists() else INTERRUPTED)
    where = ["--data", str(folder / CLIPS), "--corpus", "folder", "--device", "cpu"]
    return ["evaluate", str(run), *where, "--workers", "0"]


RUN_FOLDERS = InputClass(
    "runs",
    make,
    (
        *(
            small_file_bytes,
            state_bytes,
            json_field,
            json_field,
            table_cell,
            table_cell,
            table_cell,
        ),
        *(state_field, state_field, state_tensor, state_tensor, absent, recipe_value),
    ),
    read,
    score,
)
