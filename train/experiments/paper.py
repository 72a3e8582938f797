"""The published results, and the recipe and command that reproduce each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from train.experiments.table import Table
from train.experiments.tables.imagenet_weights import IMAGENET_WEIGHTS
from train.experiments.tables.overlap import OVERLAP
from train.experiments.tables.patch_shape import PATCH_SHAPE
from train.experiments.tables.positions import POSITIONS
from train.experiments.tables.pretraining import PRETRAINING
from train.recipe import Recipe
from train.recipes.audioset import AUDIOSET_BALANCED, AUDIOSET_FULL
from train.recipes.esc50 import ESC50, ESC50_IMAGENET
from train.recipes.speech_commands import SPEECH_COMMANDS

AUDIOSET = {"balanced": AUDIOSET_BALANCED, "full": AUDIOSET_FULL}
TRAINING_CLIPS = {
    "esc50": 1_600,  # of each of five folds
    "speech_commands": 84_843,
    "audioset_balanced": 22_176,  # published segment lists, of which every copy lacks some
    "audioset_full": 2_065_161,
}
CLASSES = {"esc50": 50, "speech_commands": 35, "audioset_balanced": 527, "audioset_full": 527}
DATA = {
    "esc50": "ESC-50 (600 MB)",
    "speech_commands": "Speech Commands V2 (2.3 GB)",
    "audioset_balanced": "AudioSet balanced",
    "audioset_full": "AudioSet full",
}
ABLATED = (PRETRAINING, IMAGENET_WEIGHTS, POSITIONS, OVERLAP, PATCH_SHAPE)


@dataclass(frozen=True)
class Published:
    """One published number."""

    result: str
    value: str
    source: str
    command: str
    recipe: Recipe
    trainings: int = 1  # that one value needs, such as folds
    model: str = "final"  # whose score it is: "final" as `RunRecord.score`, "last", or "ensemble"


def published() -> Iterator[Published]:
    """Every published number, those of the ablations out of the tables."""
    yield from _audioset()
    yield from _ensembles()
    yield from _esc50()
    yield from _speech_commands()
    for table in ABLATED:
        for subset, recipe in AUDIOSET.items():
            yield from _ablated(table, subset, recipe)


def _audioset() -> Iterator[Published]:
    source = "paper, section 3.1.2"
    for value, (subset, recipe) in zip(
        ("0.347 ± 0.001", "0.459 ± 0.000"), AUDIOSET.items(), strict=True
    ):
        command = f"ast-audio train {recipe.name} --data datasets/audioset"
        result = f"AudioSet {subset} mAP, averaged weights"
        yield Published(result, value, source, command, recipe)
    result = "AudioSet full mAP, last checkpoint"
    yield Published(result, "0.448 ± 0.001", source, command, recipe, model="last")


def _ensembles() -> Iterator[Published]:
    for subset, count, value in (
        ("balanced", 3, "0.363"),
        ("balanced", 11, "0.378"),
        ("full", 3, "0.475"),
        ("full", 6, "0.485"),
    ):
        yield Published(
            f"AudioSet {subset} mAP, ensemble of {count} models",
            value,
            "paper, section 3.1.2",
            f"ast-audio ensemble RUN… --data datasets/audioset ({count} runs of "
            f"`{AUDIOSET[subset].name}` with other seeds or strides)",
            AUDIOSET[subset],
            count,
            "ensemble",
        )


def _esc50() -> Iterator[Published]:
    for recipe, start, value, source in (
        (ESC50_IMAGENET, "ImageNet", "88.7 ± 0.7", "paper, section 3.2"),
        (ESC50, "AudioSet", "95.6 ± 0.4", "paper, section 3.2"),
        (ESC50, "AudioSet", "95.75", "released log (95.0, 97.75, 94.75, 97.0, 94.25)"),
    ):
        command = f"ast-audio crossval {recipe.name} --data datasets/esc50"
        result = f"ESC-50 accuracy (%), from {start}"
        yield Published(result, value, source, command, recipe, trainings=5)


def _speech_commands() -> Iterator[Published]:
    command = "ast-audio train speech_commands --data datasets/speech_commands"
    from_audioset = replace(SPEECH_COMMANDS, init_from="audioset", window="hanning")
    result = "Speech Commands V2-35 accuracy (%), from "
    source, log = "paper, section 3.2", "released log (validation 98.02)"
    yield Published(f"{result}ImageNet", "98.11 ± 0.05", source, command, SPEECH_COMMANDS)
    yield Published(f"{result}ImageNet", "98.13", log, command, SPEECH_COMMANDS)
    command += " --init-from audioset --window hanning"
    yield Published(f"{result}AudioSet", "97.88 ± 0.03", source, command, from_audioset)


def _ablated(table: Table, subset: str, recipe: Recipe) -> Iterator[Published]:
    recipes = table.with_checkpoint(None).recipes(recipe)
    for row in table.rows:
        value = getattr(row, subset)
        if value is not None:
            yield Published(
                f"AudioSet {subset} mAP, {table.name}: {row.name}",
                f"{value:.3f}",
                "paper, section 3.1.3",
                f"ast-audio ablate {table.name} {recipe.name} --data datasets/audioset",
                recipes[row.name],
            )
