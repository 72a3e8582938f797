"""A look at the data before a run: what would spoil its result silently is an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ast_model import Frontend
from data import Clip, Clips, Manifest, load_audio
from data.audit import audit
from data.cache import ClipCache
from data.dataset import ClipDataset, load_batches
from data.splits import Splits
from data.statistics import moments
from train.recipe import Recipe

SAMPLED_CLIPS = 100  # for mean and standard deviation: near enough to see a wrong recipe
BATCH = 20
DIGESTS = "digests"  # file in the cache's folder: of files that the audit compared

logger = logging.getLogger(__name__)


def preflight(
    recipe: Recipe, manifest: Manifest, splits: Splits, cache: ClipCache | None = None
) -> Splits:
    """Audit the clips of a run, and log the findings, one line each.

    Returns:
        The splits, with `skip_unreadable` without the clips whose files are missing or broken.

    Raises:
        ValueError: the recipe's loss cannot learn these labels, or the audit found an error.
    """
    if manifest.multi_label and recipe.loss == "cross_entropy":
        raise ValueError(
            f"{manifest.name} has several classes a clip, which cross-entropy cannot learn; "
            "use --loss bce (and --metric mAP)"
        )
    rate = recipe.frontend_config().sample_rate

    def sampled_statistics(clips: Sequence[Clip]) -> tuple[float, float] | None:
        sample = clips[:: max(1, len(clips) // SAMPLED_CLIPS)]
        try:
            return measure_statistics(recipe, sample, cache, skip_unreadable=True)
        except ValueError:  # none of them can be read
            return None

    found = audit(
        manifest,
        splits.train,
        splits.validation + splits.test,
        rate,
        sampled_statistics,
        (recipe.mean, recipe.std),
        recipe.skip_unreadable,
        cache.folder / DIGESTS if cache else None,
    )
    for line in found.lines():
        logger.info(line)
    found.require_sound()
    if not recipe.skip_unreadable:
        return splits
    # A file may be broken behind a sound header. In training that is met when it comes; what is
    # scored has to be the same clips after every epoch.
    readable = {clip.path for clip in found.evaluation}
    decodable = {path for path in readable if decodes(path, rate, cache)}
    validation, test = (
        Clips.of(clip for clip in split if clip.path in decodable)
        for split in (splits.validation, splits.test)
    )
    for path in sorted(readable - decodable):
        logger.info(f"unreadable, left out of validation and test: {path}")
    return replace(splits, train=found.training, validation=validation, test=test)


def decodes(path: Path, sample_rate: int, cache: ClipCache | None) -> bool:
    """Whether a file can be decoded, which its header alone does not tell."""
    try:
        (cache.load if cache else load_audio)(path, sample_rate)
    except (OSError, ValueError):
        return False
    return True


def measure_statistics(
    recipe: Recipe,
    clips: Sequence[Clip],
    cache: ClipCache | None = None,
    workers: int = 0,
    device: torch.device | str = "cpu",
    skip_unreadable: bool = False,
) -> tuple[float, float]:
    """Mean and standard deviation of the log-mel values that a recipe's front end makes of clips.

    Measured after they are fitted to the recipe's length, padding included, without augmentation,
    as the published statistics are.

    Raises:
        ValueError: no clip can be read; without `skip_unreadable`, the first that cannot.
    """
    frontend = Frontend(recipe.frontend_config()).to(device)
    rate = frontend.config.sample_rate
    num_classes = 1 + Clips.of(clips).targets()[0].max(initial=-1)
    dataset = ClipDataset(clips, num_classes, rate, cache, skip_unreadable=skip_unreadable)
    batches = load_batches(dataset, batch_size=BATCH, workers=workers)
    with tqdm(total=len(clips), desc="mean, std", unit="clip", leave=False, disable=None) as bar:

        def fbanks():
            for batch in batches:
                bar.update(len(batch.lengths))
                if len(batch.lengths):
                    yield frontend.filterbank(batch.waveforms.to(device), batch.lengths)

        return moments(fbanks())
