"""The clips that a trained model is scored on: by default those that its run held out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import weights
from ast_model import AudioClassifier
from data import Clips, Manifest
from data.corpora import open_corpus
from data.splits import split_clips
from train.inference.export import find_model
from train.recipe import Recipe
from train.run_folder import RECIPE, fingerprint, read_json, read_recipe


@dataclass(frozen=True)
class Trained:
    """A model, and how it was trained where it lies in a run."""

    name: str  # as it was given
    classifier: AudioClassifier
    recipe: Recipe | None = None
    fold: int | None = None
    clips: str | None = None  # fingerprint of the run's manifest


@dataclass(frozen=True)
class Selection:
    """Clips to score, and what they are called: "fold 1", "test", "all clips"."""

    corpus: str
    manifest: Manifest
    clips: Clips
    name: str
    fold: int | None = None


def load_trained(source: str, device: torch.device) -> Trained:
    """Any model that `weights.load` takes, or a run folder's last."""
    folder, run = find_model(source)
    classifier = weights.load(folder, device=device)
    if run is None:
        return Trained(source, classifier)
    recipe, fold = read_recipe(run / RECIPE)
    return Trained(source, classifier, recipe, fold, read_json(run / RECIPE).get("clips"))


def select(
    trained: Trained, data: Path, corpus: str | None, fold: int | None, split: str | None
) -> Selection:
    """The clips to score a model on, of the data set in the folder `data`.

    By default those that the model was not trained on: of a run, its test split, else the fold or
    split that it held out; without a run, the test split, or all clips where there is none.

    Args:
        corpus: which data set it is; None: the run's.
        fold, split: one of them, to choose; split "all" is every clip.

    Raises:
        FileNotFoundError, ValueError: it is not known which data set it is, it cannot be read, its
            classes are not the model's, the fold or split does not exist, or the run divided other
            clips.
    """
    if fold is not None and split:
        raise ValueError(f"--fold {fold} and --split {split} do not go together; give one of them")
    recipe = trained.recipe
    if corpus is None and recipe is None:
        raise ValueError(f"{trained.name} has no recipe.json that says its data; give --corpus")
    corpus = corpus or recipe.corpus
    columns = recipe.columns() if recipe and recipe.corpus == corpus else {}
    manifest = open_corpus(corpus, data, **columns)
    _require_classes(trained, manifest.classes, data)
    if split == "all":
        return Selection(corpus, manifest, manifest.clips, "all clips")
    if fold is not None:
        _warn_of_training_clips(trained, manifest, corpus, fold)
        return Selection(corpus, manifest, manifest.split(fold)[1], f"fold {fold}", fold)
    if recipe is None or recipe.corpus != corpus:
        if split is None and "test" not in manifest.splits:
            return Selection(corpus, manifest, manifest.clips, "all clips")
        return Selection(corpus, manifest, manifest.in_split(split or "test"), split or "test")
    return _of_run(trained, manifest, split)


def _of_run(trained: Trained, manifest: Manifest, split: str | None) -> Selection:
    recipe = trained.recipe
    undivided = not (manifest.folds or manifest.splits)
    if undivided and fingerprint(manifest) != trained.clips:
        raise ValueError(
            f"{trained.name} was trained on a part of other clips than those of {manifest.name}: "
            "give the same data, or --split all to score every clip"
        )
    splits = split_clips(manifest, trained.fold if manifest.folds else None, recipe.seed)
    named = {"train": splits.train, splits.validation_name: splits.validation}
    if splits.test:
        named["test"] = splits.test
    name = split or list(named)[-1]
    if name not in named:
        raise ValueError(f"{manifest.name} has no {name!r} clips; it has {', '.join(named)}")
    fold = splits.fold if name == splits.validation_name else None
    return Selection(recipe.corpus, manifest, named[name], name, fold)


def _warn_of_training_clips(trained: Trained, manifest: Manifest, corpus: str, fold: int) -> None:
    recipe = trained.recipe
    if recipe and recipe.corpus == corpus and fold in manifest.folds and fold != trained.fold:
        print(
            f"note: {trained.name} held out fold {trained.fold} and was trained on fold {fold}: "
            "its score there shows memory, not skill",
            file=sys.stderr,
        )


def _require_classes(trained: Trained, classes: tuple[str, ...], data: Path) -> None:
    known = trained.classifier.classes
    if known == classes:
        return
    if set(known) == set(classes):
        raise ValueError(
            f"{trained.name} has the classes of {data} in another order; give the data it was "
            "trained for"
        )
    raise ValueError(
        f"{trained.name} knows the classes {', '.join(known)}; {data} has {', '.join(classes)}; "
        "give the data it was trained for"
    )
