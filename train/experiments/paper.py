"""The published results, and the recipe and command that reproduce each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

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
PAPER_TABLES = (PRETRAINING, IMAGENET_WEIGHTS, POSITIONS, OVERLAP, PATCH_SHAPE)


@dataclass(frozen=True)
class CorpusFacts:
    """What the ledger has to know of a published data set."""

    title: str
    training_clips: int
    num_classes: int


CORPORA = {
    "esc50": CorpusFacts("ESC-50 (600 MB)", 1_600, 50),  # clips: of each of five folds
    "speech_commands": CorpusFacts("Speech Commands V2 (2.4 GB)", 84_843, 35),
    # clips: of the published segment lists, of which every copy lacks some
    "audioset_balanced": CorpusFacts("AudioSet balanced", 22_176, 527),
    "audioset_full": CorpusFacts("AudioSet full", 2_065_161, 527),
}


@dataclass(frozen=True)
class PublishedResult:
    """One published score."""

    title: str
    score: str
    source: str
    command: str
    recipe: Recipe
    num_runs: int = 1  # that the command trains for the one score: folds, or members of an ensemble
    model: Literal["default", "last", "ensemble"] = "default"
    """Whose score it is: as `RunRecord.score`, the final checkpoint, or several models."""


def published_results() -> Iterator[PublishedResult]:
    """Every score of the paper and of the authors' released logs."""
    yield from _audioset()
    yield from _ensembles()
    yield from _esc50()
    yield from _speech_commands()
    for table in PAPER_TABLES:
        for subset, recipe in AUDIOSET.items():
            yield from _table_rows(table, subset, recipe)


def _audioset() -> Iterator[PublishedResult]:
    source = "paper, section 3.1.2"
    for score, (subset, recipe) in zip(
        ("0.347 ± 0.001", "0.459 ± 0.000"), AUDIOSET.items(), strict=True
    ):
        command = f"ast-audio train {recipe.name} --data datasets/audioset"
        title = f"AudioSet {subset} mAP, averaged weights"
        yield PublishedResult(title, score, source, command, recipe)
    title = "AudioSet full mAP, last checkpoint"
    yield PublishedResult(title, "0.448 ± 0.001", source, command, recipe, model="last")


def _ensembles() -> Iterator[PublishedResult]:
    for subset, count, score in (
        ("balanced", 3, "0.363"),
        ("balanced", 11, "0.378"),
        ("full", 3, "0.475"),
        ("full", 6, "0.485"),
    ):
        yield PublishedResult(
            f"AudioSet {subset} mAP, ensemble of {count} models",
            score,
            "paper, section 3.1.2",
            f"ast-audio ensemble RUN… --data datasets/audioset ({count} runs of "
            f"`{AUDIOSET[subset].name}` with other seeds or strides)",
            AUDIOSET[subset],
            count,
            "ensemble",
        )


def _esc50() -> Iterator[PublishedResult]:
    for recipe, weights, score, source in (
        (ESC50_IMAGENET, "ImageNet", "88.7 ± 0.7", "paper, section 3.2"),
        (ESC50, "AudioSet", "95.6 ± 0.4", "paper, section 3.2"),
        (ESC50, "AudioSet", "95.75", "released log (95.0, 97.75, 94.75, 97.0, 94.25)"),
    ):
        command = f"ast-audio crossval {recipe.name} --data datasets/esc50"
        title = f"ESC-50 accuracy (%), from {weights}"
        yield PublishedResult(title, score, source, command, recipe, num_runs=5)


def _speech_commands() -> Iterator[PublishedResult]:
    command = "ast-audio train speech_commands --data datasets/speech_commands"
    from_audioset = replace(SPEECH_COMMANDS, init_from="audioset", window="hanning")
    title = "Speech Commands V2-35 accuracy (%), from "
    source, log = "paper, section 3.2", "released log (validation 98.02)"
    yield PublishedResult(f"{title}ImageNet", "98.11 ± 0.05", source, command, SPEECH_COMMANDS)
    yield PublishedResult(f"{title}ImageNet", "98.13", log, command, SPEECH_COMMANDS)
    command += " --init-from audioset --window hanning"
    yield PublishedResult(f"{title}AudioSet", "97.88 ± 0.03", source, command, from_audioset)


def _table_rows(table: Table, subset: str, recipe: Recipe) -> Iterator[PublishedResult]:
    recipes = table.select([], None).recipes(recipe)
    for row in table.rows:
        score = getattr(row, subset)
        if score is not None:
            yield PublishedResult(
                f"AudioSet {subset} mAP, {table.name}: {row.name}",
                f"{score:.3f}",
                "paper, section 3.1.3",
                f"ast-audio ablate {table.name} {recipe.name} --data datasets/audioset",
                recipes[row.name],
            )
