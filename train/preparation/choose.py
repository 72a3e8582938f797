"""What a recipe for own data leaves to the data: each choice with its reason, in one place.

    recipe = choose(RECIPES["from_scratch"], split_clips(manifest, None, seed=0).train)

A field that was given (`Recipe.given`, an option of the command line) stays as it is, and is what
the choices after it start from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ast_model.config import PRESETS
from data import Clips
from data.cache import ClipCache
from data.placement import is_background
from train.preparation.measure import SAMPLED_CLIPS, clip_frames, sampled_statistics, seconds_of
from train.recipe import BaseRecipe, Recipe
from train.run.folder import read_recipe
from weights.folder import read_architecture
from weights.loading import locate

WHOLE_CLIPS = 95  # percent of the training clips that the input holds whole
MOST_FRAMES = 1024  # 10.24 s, the input of the published models; the cost rises with its square
LONG_CLIPS = 198  # frames: from 2 s on, where in the input a sound lies says nothing about it
STEPS_AN_EPOCH = 20  # with fewer, batches get smaller
LEAST_BATCH = 8
STEPS_FOR_MIXUP = 1000  # mixup slows learning, and pays only where a run is long enough to overfit
MASKED = 5  # a time mask hides at most a fifth of a clip
NAMED_WEIGHTS = ("imagenet", "audioset")  # also where a folder has that name
BACKGROUND = 0.15  # of the training examples

logger = logging.getLogger(__name__)

AnyRecipe = TypeVar("AnyRecipe", bound=BaseRecipe)


class Choice(NamedTuple):
    """Values of fields, and why."""

    values: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Start:
    """What goes with the initial weights. Learning rates are for batches of the largest size."""

    largest_batch: int
    learning_rate: float
    layer_decay: float
    steps: int  # of a run
    epochs: tuple[int, int]  # fewest and most


PRETRAINED = Start(16, 5e-5, 0.75, steps=1000, epochs=(5, 30))
SCRATCH = Start(32, 5e-4, 1.0, steps=1600, epochs=(30, 80))


def is_pretrained(recipe: Recipe) -> bool:
    """Whether training starts from weights that know something."""
    return recipe.init_from != "scratch"


def start_of(recipe: Recipe) -> Start:
    """What goes with the recipe's initial weights."""
    return PRETRAINED if is_pretrained(recipe) else SCRATCH


# The choices, in the order in which they are made. `frames`: (clips,) of the filterbank.


def network(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """A small network with patches of a few frames; a model of one's own decides by itself."""
    if recipe.model != "ast":
        return Choice({}, "")
    if is_pretrained(recipe):
        return Choice(own_network(recipe), f"as {recipe.init_from} has it")
    width = 8 if np.percentile(frames, WHOLE_CLIPS) >= LONG_CLIPS else 4
    values = {"preset": "tiny224", "patch": (recipe.num_mel_bins, width), "pooling": "patches"}
    return Choice(
        values,
        "from random weights, a small model and patches as high as the spectrogram learn from "
        "fewest clips",
    )


def own_network(recipe: Recipe) -> dict[str, Any]:
    """Preset, patches, stride and pooling of a run or model folder to start from; else nothing."""
    source = Path(recipe.init_from)
    if recipe.init_from in NAMED_WEIGHTS or not source.is_dir():
        return {}
    config = read_architecture(locate(source))
    fitting = [
        name
        for name in (recipe.preset, *PRESETS)
        if (PRESETS[name]["width"], PRESETS[name]["heads"]) == (config.width, config.heads)
    ]
    found = {"patch": config.patch, "stride": config.stride, "pooling": config.pooling}
    return {"preset": fitting[0], **found} if fitting else found


def stride(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """From random weights no overlap: the published gain of overlap is small."""
    if is_pretrained(recipe) or recipe.model != "ast":
        return Choice({}, "")
    return Choice({"stride": recipe.patch}, "patches that do not overlap are fewest")


def input_length(recipe: BaseRecipe, frames: np.ndarray, num_clips: int) -> Choice:
    """Room for most clips: the longest are cut, instead of padding all the others."""
    wanted = math.ceil(np.percentile(frames, WHOLE_CLIPS))
    patch, step = recipe.patch[1], recipe.stride[1]
    most = (MOST_FRAMES - patch) // step
    steps = min(max(math.ceil((wanted - patch) / step), 0), most)
    reason = f"{WHOLE_CLIPS} % of the training clips last at most {seconds_of(wanted):.2f} s"
    if wanted > MOST_FRAMES:
        reason += "; longer ones are cut to it"
    return Choice({"num_frames": patch + steps * step}, reason)


def batch_size(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """A power of two; smaller where an epoch would have few steps."""
    size = start_of(recipe).largest_batch
    while size > LEAST_BATCH and num_clips < STEPS_AN_EPOCH * size:
        size //= 2
    return Choice({"batch_size": size}, f"{-(-num_clips // size)} steps an epoch")


def epochs(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """As many as come near the steps that the start needs, a tenth of them warm-up."""
    start = start_of(recipe)
    fewest, most = start.epochs
    an_epoch = -(-num_clips // recipe.batch_size)
    number = min(max(round(start.steps / an_epoch), fewest), most)
    kind = "pretrained" if is_pretrained(recipe) else "random"
    return Choice(
        {"epochs": number},
        f"{number * an_epoch} steps; {kind} weights want about {start.steps}, but at least "
        f"{fewest} epochs and at most {most}",
    )


def warmup(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """A tenth of the run, unless it is given in steps."""
    if recipe.warmup_steps:
        return Choice({"warmup_epochs": 0.0}, "warmup_steps are given")
    return Choice({"warmup_epochs": recipe.epochs / 10}, "a tenth of the epochs")


def learning_rate(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """With the root of the batch size; pretrained lower blocks change less."""
    start = start_of(recipe)
    rate = float(f"{start.learning_rate * math.sqrt(recipe.batch_size / start.largest_batch):.2g}")
    decay = start.layer_decay if recipe.model == "ast" else 1.0
    reason = (
        "pretrained weights are kept, those of lower blocks most"
        if is_pretrained(recipe)
        else "random weights have all to learn, in every block"
    )
    return Choice({"learning_rate": rate, "layer_decay": decay}, reason)


def mixup(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """Only where the run is long enough."""
    steps = recipe.epochs * -(-num_clips // recipe.batch_size)
    if steps < STEPS_FOR_MIXUP:
        return Choice({"mixup_rate": 0.0}, f"{steps} steps are too few to learn from mixtures")
    return Choice({"mixup_rate": 0.5}, f"{steps} steps, enough to learn from mixtures too")


def masks(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """A time mask in proportion to the clips, not to the input."""
    median = int(np.median(np.minimum(frames, recipe.num_frames)))
    return Choice(
        {"time_mask": median // MASKED},
        f"a fifth of the median clip, which fills {median} of {recipe.num_frames} frames",
    )


def time_shift(recipe: Recipe, frames: np.ndarray, num_clips: int) -> Choice:
    """From random weights: anywhere for long sounds, a little for words."""
    if recipe.placement == "random" and recipe.num_frames < LONG_CLIPS:
        return Choice({"time_shift_frames": 0}, "clips lie anywhere in the input as it is")
    if is_pretrained(recipe):
        return Choice({"time_shift_frames": 0}, "pretrained weights know sounds wherever they lie")
    if recipe.num_frames >= LONG_CLIPS:
        return Choice({"time_shift_frames": recipe.num_frames // 2}, "a sound may lie anywhere")
    return Choice({"time_shift_frames": recipe.num_frames // 10}, "a word may begin a bit later")


def background(recipe: Recipe, classes: Sequence[str]) -> Choice:
    """Some examples of no class, unless silence or noise is a class itself."""
    if recipe.placement != "random":
        return Choice({"background_rate": 0.0}, "every clip lies at the start of the input")
    own = [name for name in classes if is_background(name)]
    if own:
        return Choice({"background_rate": 0.0}, f"background is a class of these data: {own[0]}")
    return Choice(
        {"background_rate": BACKGROUND}, "what lies between the sounds of a recording is no class"
    )


BEFORE_MEASURING = (network, stride, input_length)
AFTER_MEASURING = (batch_size, epochs, warmup, learning_rate, mixup, masks, time_shift)

CHOSEN = frozenset(
    {
        *("preset", "patch", "stride", "pooling", "num_frames", "mean", "std"),
        *("batch_size", "epochs", "warmup_epochs", "learning_rate", "layer_decay"),
        *("mixup_rate", "time_mask", "time_shift_frames", "background_rate"),
    }
)
"""The fields that `choose` can choose; a recipe for own data leaves them to it."""


def choose(
    recipe: Recipe,
    clips: Clips,
    cache: ClipCache | None = None,
    classes: Sequence[str] = (),
) -> Recipe:
    """The recipe with every field of `recipe.from_data` chosen; each choice is logged, and why.

    Args:
        clips: the training split. Headers are read, and up to `SAMPLED_CLIPS` clips decoded.
        classes: their names, by which a class of background is known.

    Returns:
        A recipe that leaves nothing to the data. Where no clip can be read, what follows from clips
        is as it was: the audit stops such a run.
    """
    frames = clip_frames(clips, cache) if recipe.from_data else np.array([])
    if len(frames):
        recipe = apply_all(recipe, BEFORE_MEASURING, frames, len(clips))
        recipe = apply(recipe, statistics(recipe, clips, cache))
        recipe = apply_all(recipe, AFTER_MEASURING, frames, len(clips))
    recipe = apply(recipe, background(recipe, classes))
    return replace(recipe, from_data=frozenset())


def statistics(recipe: BaseRecipe, clips: Clips, cache: ClipCache | None) -> Choice:
    """Mean and standard deviation of the training split, at the recipe's length."""
    if not recipe.from_data & {"mean", "std"}:
        return Choice({}, "")
    measured = sampled_statistics(recipe, clips, cache)
    values = {"mean": round(measured.mean, 4), "std": round(measured.std, 4)}
    return Choice(
        values, f"measured on {min(len(clips), SAMPLED_CLIPS)} training clips, without padding"
    )


def chosen_before(recipe: AnyRecipe, file: Path) -> AnyRecipe | None:
    """The recipe with what a run's or a row's file says was chosen; None where nothing was.

    A run that goes on does not choose anew. A field that was given stays as given.
    """
    if not recipe.from_data or not file.is_file():
        return None
    stored, _ = read_recipe(file)
    if stored.kind != recipe.kind:
        return None
    return recipe.given(**{name: getattr(stored, name) for name in recipe.from_data})


def apply_all(
    recipe: AnyRecipe,
    choices: tuple[Callable[[AnyRecipe, np.ndarray, int], Choice], ...],
    frames: np.ndarray,
    num_clips: int,
) -> AnyRecipe:
    """The recipe with the choices made one after the other."""
    for choice in choices:
        recipe = apply(recipe, choice(recipe, frames, num_clips))
    return recipe


def apply(recipe: AnyRecipe, choice: Choice) -> AnyRecipe:
    """The recipe with the values that it leaves open, which are logged."""
    values = {name: value for name, value in choice.values.items() if name in recipe.from_data}
    if values:
        logger.info(f"{', '.join(f'{n} {v}' for n, v in values.items())}: {choice.reason}")
    return replace(recipe, **values)
