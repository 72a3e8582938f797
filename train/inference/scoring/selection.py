"""The clips that a trained model is scored on: by default those that its run did not train on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ast_model import AudioClassifier
from data import Clips, Manifest
from data.corpora import open_corpus
from data.splits import split_clips
from train.inference.models import find_model, load_model
from train.run.folder import RunRecord, fingerprint, read_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A model, and the run that trained it where it lies in one."""

    name: str  # as it was given
    classifier: AudioClassifier
    run: RunRecord | None = None
    precision: str = "fp32"  # to run it in
    keep_tokens: float = 1.0  # the share that the last block sees


@dataclass(frozen=True)
class Selection:
    """Clips to score, and what they are called: "fold 1", "test", "all clips"."""

    corpus: str
    manifest: Manifest
    clips: Clips
    name: str
    fold: int | None = None


def load_trained(
    source: str | Path,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
    keep_tokens: float = 1.0,
) -> Trained:
    """A model as `load_model` gives it, with the record of its run."""
    path, run = find_model(source)
    classifier, precision = load_model(path, device, precision, compile, keep_tokens)
    record = read_run(run) if run else None
    return Trained(str(source), classifier, record, precision, keep_tokens)


def select(
    trained: Trained,
    data: str | Path,
    corpus: str | None = None,
    fold: int | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Selection:
    """The clips to score a model on, of the data set in the folder `data`.

    By default those that the model was not trained on: of a run, its test split, else the fold or
    split that it validated on; without a run, the test split, or all clips where there is none.

    Args:
        corpus: which data set it is; None: the run's. The run's clips are known by their names,
            classes and folds whatever the corpus is called.
        fold, split: one of them, to choose; split "all" is every clip.
        columns: of a table, which holds what, as `open_corpus` takes them; of those not given, the
            run's, else those of usual names.

    Raises:
        FileNotFoundError, ValueError: it is not known which data set it is, it cannot be read, its
            classes are not the model's, the fold or split does not exist, or the run split other
            clips.
    """
    if fold is not None and split:
        raise ValueError(f"--fold {fold} and --split {split} do not go together; give one of them")
    recipe = trained.run.recipe if trained.run else None
    if corpus is None and recipe is None:
        raise ValueError(f"{trained.name} has no recipe.json that says its data; give --corpus")
    corpus = corpus or recipe.corpus
    of_run = recipe is not None and recipe.corpus == corpus
    of_data = {**(recipe.columns() if of_run else {}), **(columns or {})}
    manifest = open_corpus(corpus, data, **of_data)
    _require_classes(trained, manifest.classes, data)
    if trained.run and not of_run:
        of_run = fingerprint(manifest) == trained.run.fingerprint
        if not of_run:
            logger.warning(
                f"{trained.name} was trained on other data ({recipe.corpus}); whether any of these "
                "clips were among them is not known"
            )
    if split == "all":
        return Selection(corpus, manifest, manifest.clips, "all clips")
    if fold is not None:
        if of_run:
            _warn_of_training_clips(trained, manifest, fold)
        return Selection(corpus, manifest, manifest.split(fold)[1], f"fold {fold}", fold)
    if of_run:
        return _of_run(trained, corpus, manifest, split)
    if split is None and "test" not in manifest.splits:
        return Selection(corpus, manifest, manifest.clips, "all clips")
    return Selection(corpus, manifest, manifest.in_split(split or "test"), split or "test")


def _of_run(trained: Trained, corpus: str, manifest: Manifest, split: str | None) -> Selection:
    run = trained.run
    is_split_at_random = not (manifest.folds or manifest.splits)
    if is_split_at_random and fingerprint(manifest) != run.fingerprint:
        raise ValueError(
            f"{trained.name} was trained on a split of other clips than those of {manifest.name}: "
            "give the same data, or --split all to score every clip"
        )
    fold, recipe = run.fold if manifest.folds else None, run.recipe
    splits = split_clips(manifest, fold, recipe.seed, recipe.clips_per_class)
    named = {"train": splits.train, splits.validation_name: splits.validation}
    if splits.test:
        named["test"] = splits.test
    chosen = split or list(named)[-1]
    if chosen == "validation" and manifest.folds:
        chosen = splits.validation_name
    if chosen not in named:
        raise ValueError(f"{manifest.name} has no {chosen!r} clips; it has {', '.join(named)}")
    fold = splits.fold if chosen == splits.validation_name else None
    return Selection(corpus, manifest, named[chosen], chosen, fold)


def _warn_of_training_clips(trained: Trained, manifest: Manifest, fold: int) -> None:
    run = trained.run
    if fold in manifest.folds and fold != run.fold:
        logger.warning(
            f"{trained.name} validated on fold {run.fold} and was trained on fold {fold}: its "
            "score there shows memory, not skill"
        )


def _require_classes(trained: Trained, classes: tuple[str, ...], data: str | Path) -> None:
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
