"""What the training clips tell about themselves: how long they are, their mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from ast_model import Frontend
from data import Clip, Clips
from data.cache import ClipCache
from data.dataset import ClipDataset, load_batches
from data.file_table import FileTable, key_of, look_at
from data.headers import read_headers
from data.statistics import Statistics, moments
from train.recipe import BaseRecipe

SAMPLED_CLIPS = 1000  # of many: their mean is within 0.1 of that of all
STATISTICS = "statistics"  # file of the table, in the cache's folder, that keeps them
BATCH = 20
WINDOW, HOP = 0.025, 0.010  # seconds, of the filterbank


def evenly(clips: Clips, count: int) -> Clips:
    """At most `count` of the clips, evenly taken; the same ones from every command."""
    if len(clips) <= count:
        return clips
    return clips[np.linspace(0, len(clips) - 1, count).astype(int)]


def frames_of(seconds: np.ndarray) -> np.ndarray:
    """Frames of the filterbank in clips of so many seconds, int64; 0 below one window."""
    frames = 1 + np.floor((np.asarray(seconds) - WINDOW) / HOP + 1e-6).astype(np.int64)
    return np.maximum(frames, 0)


def seconds_of(frames: int) -> float:
    """How long a clip of so many frames is."""
    return WINDOW + HOP * (frames - 1)


def clip_frames(clips: Clips, cache: ClipCache | None = None) -> np.ndarray:
    """Frames of each clip (clips that can be read,), int64; only headers are read.

    Args:
        cache: in its folder, headers are kept.
    """
    headers, _ = read_headers(clips, look_at(clips), cache.folder if cache else None)
    headers = headers[headers["samples"] > 0]  # the audit lists the others
    return frames_of(headers["samples"] / headers["sample_rate"])


def sampled_statistics(recipe: BaseRecipe, clips: Clips, cache: ClipCache | None) -> Statistics:
    """`measure_statistics` of at most `SAMPLED_CLIPS` clips, those that can be read.

    Args:
        cache: of decoded clips; in its folder, the result is kept as long as the files stay.

    Raises:
        ValueError: none can be read.
    """
    clips = evenly(clips, SAMPLED_CLIPS)

    def measured(_: int) -> Statistics:
        return measure_statistics(recipe, clips, cache, skip_unreadable=True)

    about = replace(recipe.frontend_config(), mean=0.0, std=1.0), recipe.num_frames
    fields = [(name, "<f8") for name in Statistics._fields]
    table = FileTable(cache.folder / STATISTICS if cache else None, fields)
    (row,) = table.values(key_of(look_at(clips)["key"], *about), measured, "mean, std").tolist()
    return Statistics(*row[1:])


def measure_statistics(
    recipe: BaseRecipe,
    clips: Sequence[Clip],
    cache: ClipCache | None = None,
    workers: int = 0,
    device: torch.device | str = "cpu",
    skip_unreadable: bool = False,
) -> Statistics:
    """Mean and standard deviation of the log-mel values that a recipe's front end makes of clips.

    Measured over the clips' own frames, cut at the recipe's length, without augmentation: how much
    padding follows does not change them. `with_padding` of the result gives the numbers that
    papers publish, which count the padding.

    Raises:
        ValueError: no clip can be read; without `skip_unreadable`, the first that cannot.
    """
    frontend = Frontend(recipe.frontend_config()).to(device)
    rate = frontend.config.sample_rate
    num_classes = 1 + Clips.of(clips).targets()[0].max(initial=-1)
    dataset = ClipDataset(clips, num_classes, rate, cache, skip_unreadable=skip_unreadable)
    threads = torch.get_num_threads()
    batches = load_batches(dataset, batch_size=BATCH, workers=workers, threads=threads)
    own = total = 0  # frames
    with tqdm(total=len(clips), desc="mean, std", unit="clip", leave=False, disable=None) as bar:

        def own_frames():
            nonlocal own, total
            for batch in batches:
                bar.update(len(batch.lengths))
                if not len(batch.lengths):
                    continue
                fbank = frontend.filterbank(batch.waveforms.to(device), batch.lengths)
                frames = frontend.fbank.num_frames(batch.lengths).clamp(max=recipe.num_frames)
                own += int(frames.sum())
                total += len(frames) * recipe.num_frames
                inside = torch.arange(recipe.num_frames) < frames[:, None]
                yield fbank[inside.to(device)]

        mean, std = moments(own_frames())
    return Statistics(mean, std, 1 - own / total)
