"""Recipes, the training loop, a trained model on files, tables of runs, the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.crossval import cross_validate
    from train.inference.scoring.evaluate import evaluate
    from train.loop import train
    from train.recipe import Recipe
    from train.recipes import RECIPES

__all__ = ["RECIPES", "Recipe", "cross_validate", "evaluate", "train"]

MODULES = {
    "RECIPES": "train.recipes",
    "Recipe": "train.recipe",
    "cross_validate": "train.crossval",
    "evaluate": "train.inference.scoring.evaluate",
    "train": "train.loop",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: PyTorch takes seconds to import."""
    if name not in MODULES:
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
