"""A look at the data before a run: what would spoil its result silently is an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ast_model import Frontend
from data import Clip, Clips, Manifest, load_audio
from data.audit import audit
from data.cache import ClipCache
from data.dataset import ClipDataset, collate
from data.splits import Splits
from data.statistics import moments
from train.recipe import Recipe

SAMPLED_CLIPS = 100  # for mean and standard deviation: near enough to see a wrong recipe
BATCH = 20


def inspect(
    recipe: Recipe, manifest: Manifest, splits: Splits, cache: ClipCache | None = None
) -> Splits:
    """Print the audit of a run's clips, one line a finding.

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
    frontend = Frontend(recipe.frontend_config())
    found = audit(
        manifest,
        splits.train,
        splits.validation + splits.test,
        frontend.config.sample_rate,
        lambda clips: sampled_statistics(clips, frontend, len(manifest.classes), cache),
        (recipe.mean, recipe.std),
        recipe.skip_unreadable,
    )
    print("\n".join(found.lines()))
    found.require_sound()
    if not recipe.skip_unreadable:
        return splits
    # A file may be broken behind a sound header. In training that is met when it comes; what is
    # scored has to be the same clips after every epoch.
    readable = {clip.path for clip in found.held_out}
    decodable = {path for path in readable if _decodes(path, frontend.config.sample_rate, cache)}
    held_out, test = (
        Clips.of(clip for clip in part if clip.path in decodable)
        for part in (splits.validation, splits.test)
    )
    for path in sorted(readable - decodable):
        print(f"unreadable, left out of the held-out clips: {path}")
    return replace(splits, train=found.training, validation=held_out, test=test)


def _decodes(path: Path, sample_rate: int, cache: ClipCache | None) -> bool:
    try:
        (cache.load if cache else load_audio)(path, sample_rate)
    except (OSError, ValueError):
        return False
    return True


def sampled_statistics(
    clips: Sequence[Clip], frontend: Frontend, num_classes: int, cache: ClipCache | None
) -> tuple[float, float] | None:
    """Mean and std of the log-mel values of a few clips, evenly spaced; None if none decodes."""
    step = max(1, len(clips) // SAMPLED_CLIPS)
    rate = frontend.config.sample_rate
    dataset = ClipDataset(clips[::step], num_classes, rate, cache, skip_unreadable=True)
    batches = (
        collate([dataset[index] for index in range(start, min(start + BATCH, len(dataset)))])
        for start in range(0, len(dataset), BATCH)
    )
    readable = [batch for batch in batches if len(batch.lengths)]
    if not readable:
        return None
    return moments(frontend.filterbank(batch.waveforms, batch.lengths) for batch in readable)
