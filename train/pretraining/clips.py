"""Which clips pretrain: a corpus without its labels and its test clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data import Clips, Manifest, synthetic
from data.corpora import open_corpus
from data.corpora.recordings import recordings
from data.splits import stratified_split
from train.pretraining.recipe import PretrainingRecipe

HELD_OUT = 0.1  # of the clips, where the corpus does not say which validate


def open_unlabelled(recipe: PretrainingRecipe, root: str | Path) -> Manifest:
    """The clips to pretrain on, of the recipe's corpus in `root`, as `unlabelled` has them.

    The synthetic corpus is made first where it is not there.

    Raises:
        FileNotFoundError, ValueError: as `open_corpus`, `recordings` and `unlabelled`.
    """
    if recipe.corpus == "folder":
        return unlabelled(recordings(root), recipe.seed)
    if recipe.corpus == "synthetic":
        return unlabelled(synthetic(root), recipe.seed)
    return unlabelled(open_corpus(recipe.corpus, root, **recipe.columns()), recipe.seed)


def unlabelled(manifest: Manifest, seed: int) -> Manifest:
    """The clips of a corpus without their classes: training and validation clips, none to test.

    With folds, one of them validates, as in training; else the corpus's own validation split does;
    else a tenth of its training clips, drawn by the seed, groups kept together. The clips of a test
    split are left out.

    Raises:
        ValueError: there are no clips to train or to validate on.
    """
    rows = ((path, (), fold, split, group) for path, _, fold, split, group in manifest.clips.rows())
    clips = Clips.of_rows(rows)
    clips = clips[~clips.having("split", "test")]
    bare = Manifest(manifest.name, clips, (), multi_label=True)
    if not clips or (manifest.splits and "train" not in manifest.splits):
        raise ValueError(f"{manifest.name} has no clips to train on: add recordings")
    if bare.folds or "validation" in bare.splits:
        return bare
    without = Clips.of_rows((path, (), None, None, group) for path, *_, group in clips.rows())
    drawn = stratified_split(replace(bare, clips=without), HELD_OUT, 0.0, seed)
    if len(drawn.splits) < 2:
        raise ValueError(
            f"all {len(clips)} clips of {manifest.name} are in one split, so none is left to "
            "validate on: add recordings, or more groups"
        )
    return drawn
