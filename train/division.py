"""Which clips a run trains on, which it watches while training, and which it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from data import Clips, Manifest
from data.split import stratified_split


@dataclass(frozen=True)
class Division:
    """The clips of one run. With folds, or without a third part, there is no test."""

    training: Clips
    held_out: Clips  # scored after every epoch; chooses the best one
    test: Clips  # scored once, at the end
    fold: int | None  # the fold held out
    held_out_name: str  # "fold 1", "valid" or "test"


def divide(manifest: Manifest, fold: int | None, seed: int) -> Division:
    """One fold against the others; else the parts train, valid and test; else a new split.

    A corpus with training and test clips alone (AudioSet) is watched on its test part, as the
    authors do. One without folds and parts is split 80 : 10 : 10 at random, stratified by class
    and kept together by group, a function of `seed`.

    Raises:
        ValueError: the fold does not exist, a fold is asked of a corpus without folds, or the
            corpus cannot be divided so.
    """
    none = manifest.clips[:0]
    if manifest.folds:
        fold = manifest.folds[0] if fold is None else fold
        training, held_out = manifest.split(fold)
        return Division(training, held_out, none, fold, f"fold {fold}")
    if fold is not None:
        raise ValueError(f"{manifest.name} has no folds, so leave --fold {fold} out")
    if not manifest.parts:
        manifest = stratified_split(manifest, seed=seed)
    training = manifest.part("train")
    if "valid" in manifest.parts:
        test = manifest.part("test") if "test" in manifest.parts else none
        return Division(training, manifest.part("valid"), test, None, "valid")
    return Division(training, manifest.part("test"), none, None, "test")
