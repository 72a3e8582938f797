"""The model before the first step: random, from ImageNet, or any published or saved AST."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import weights
from ast_model import AST, ASTConfig, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig, without_memory
from data.corpora.table import option
from train.preparation.choose import NAMED_WEIGHTS
from train.recipe import BaseRecipe, Recipe
from train.recipes.pretraining import PRETRAINING_RECIPES
from weights.deit import read_timm
from weights.loading import locate

logger = logging.getLogger(__name__)

IMAGENET = {
    "tiny224": "deit_tiny_distilled_patch16_224",
    "small224": "deit_small_distilled_patch16_224",
    "base224": "deit_base_distilled_patch16_224",
    "base384": "deit_base_distilled_patch16_384",
    "large384": "vit_large_patch16_384",
}
"""What `imagenet` means for each preset; without a DIST token, the DeiT without distillation.
There is no large DeiT: large384 is a ViT, which has no DIST token."""

HEARING = ("window", "sample_rate", "low_freq", "high_freq")  # what a mel bin is made of

AUDIOSET = "MIT/ast-finetuned-audioset-10-10-0.4593"


def initial_model(recipe: Recipe, classes: Sequence[str]) -> AST | Baseline:
    """The recipe's AST or baseline as `init_from` says.

    Raises:
        FileNotFoundError, ValueError: the weights cannot be had, or are of another size than the
            recipe's AST; the message names the options that fit.
    """
    if recipe.model != "ast":
        return _baseline(recipe, len(classes))
    config = recipe.model_config(len(classes))
    source = recipe.init_from
    if source == "imagenet":
        source = IMAGENET[recipe.preset]
        source = source if recipe.distilled else source.replace("_distilled", "")
    if source == "audioset":
        source = AUDIOSET
    may_be_timm = source != "scratch" and "/" not in source and not Path(source).exists()
    if may_be_timm and weights.is_timm_name(source):
        file = recipe.init_file or None
        return weights.from_timm(config, source, recipe.rgb_kernel, recipe.positions, file)
    if recipe.init_file or recipe.rgb_kernel != "mean":
        raise ValueError(
            "--init-file and --rgb-kernel belong to an --init-from that is a model of timm; "
            f"{recipe.init_from!r} is none, so leave them out"
        )
    return AST(config) if source == "scratch" else _fine_tuned(recipe, config, source, classes)


def require_source(recipe: BaseRecipe) -> None:
    """FileNotFoundError where `init_from` is a path that is not here. Downloads and opens nothing.

    So a mistyped one is told before the training clips are looked at.
    """
    source = Path(recipe.init_from)
    owner = Path(*source.parts[:1])
    if recipe.init_from in ("scratch", *NAMED_WEIGHTS):
        return
    if source.exists():
        locate(source)  # of a run, that it has a model
    elif len(source.parts) > 2 or (owner.is_dir() and "@" not in source.name):  # no hub id
        run = source.parent if source.name in ("last", "best") else source
        folds = sorted(f"{path.parent}" for path in run.glob("fold*/last"))
        remedy = "correct --init-from"
        if folds:
            remedy = f"give --init-from one of {', '.join(folds)}"
        elif run.name in PRETRAINING_RECIPES:
            remedy = f"run `ast-audio pretrain {run.name} --data FOLDER` first, or {remedy}"
        raise FileNotFoundError(f"there is no model {source} to start from; {remedy}")


def empty_model(config: dict[str, Any]) -> AST | Baseline:
    """A model of a configuration that `asdict` wrote, to be filled with stored parameters."""
    return Baseline(BaselineConfig(**config)) if "name" in config else AST(ASTConfig(**config))


def _baseline(recipe: Recipe, num_classes: int) -> Baseline:
    if recipe.init_from not in ("scratch", "imagenet"):
        raise ValueError(
            f"the baseline {recipe.model} cannot start from {recipe.init_from!r}; "
            "use --init-from scratch or imagenet"
        )
    config = BaselineConfig(recipe.model, num_classes, recipe.num_frames, recipe.num_mel_bins)
    without_memory(config)  # does it take such an input, before its weights are fetched
    pretrained = recipe.init_from == "imagenet"
    stored = read_timm(recipe.init_file) if pretrained and recipe.init_file else None
    return Baseline(config, pretrained, stored)


def _fine_tuned(recipe: Recipe, config: ASTConfig, source: str, classes: Sequence[str]) -> AST:
    loaded = weights.load(
        source,
        num_classes=config.num_classes,
        num_frames=config.num_frames,
        stride=config.stride,
        num_mel_bins=config.num_mel_bins,
        pooling=config.pooling,
        positions=recipe.positions,
    )
    theirs = loaded.model.config
    wrong = [
        f"{name} {getattr(config, name)} (theirs {getattr(theirs, name)})"
        for name in ("width", "depth", "heads", "patch", "distilled")
        if getattr(config, name) != getattr(theirs, name)
    ]
    if wrong:
        raise ValueError(
            f"--init-from {source} does not fit a recipe of {', '.join(wrong)}; "
            "change --preset, --depth, --patch or --distilled"
        )
    _warn_of_front_end(source, loaded.frontend.config, recipe.frontend_config())
    with torch.device("meta"):  # the loaded parameters, with the recipe's dropout and the like
        names = ("dropout", "drop_path", "patchout", "gradient_checkpointing")
        model = AST(replace(theirs, **{name: getattr(config, name) for name in names}))
    model.load_state_dict(loaded.model.state_dict(), assign=True)
    if loaded.classes != tuple(classes):  # a head that knows other classes is no start
        model.reset_head()
    return model


def _warn_of_front_end(source: str, theirs: FrontendConfig, ours: FrontendConfig) -> None:
    """Say where the weights were trained on other spectrograms than the recipe makes."""
    names = [name for name in HEARING if getattr(theirs, name) != getattr(ours, name)]
    if (theirs.sample_rate, theirs.band) == (ours.sample_rate, ours.band):
        names = [name for name in names if name == "window"]  # 0 and the Nyquist frequency
    if not names:
        return
    values = [(name, f"{getattr(theirs, name)}", f"{getattr(ours, name)}") for name in names]
    differences = ", ".join(f"{name} {their} (this recipe {our})" for name, their, our in values)
    options = " ".join(f"{option(name)} {their}" for name, their, _ in values)
    keep = "keeps theirs" if len(names) == 1 else "keep theirs"
    logger.warning(f"{source} was trained with {differences}; {options} {keep}")
