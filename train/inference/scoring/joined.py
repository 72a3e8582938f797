"""How well a model of clips names them in a long recording: clips joined, with silence between.

A model scores well on clips and may still call silence a word, or miss a word that begins in the
middle of its window. Here the times are known, so that this can be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ast_model.timeline import Timeline
from data import Clips, load_audio
from data.cache import ClipCache
from data.placement import is_background
from train.device import autocast
from train.inference.scoring.selection import Selection, load_trained, select

GAPS = (1.0, 3.0)  # silence between two clips, in windows of the model
MOST_MISFITS = 20  # clips that are too long for what is left, before no more are tried
THRESHOLD = 0.5  # least probability of what counts as heard
BACKGROUNDS = {"silence": None, "noise at -50 dB": -50.0}


class Event(NamedTuple):
    """One clip in the joined recording."""

    start: float  # seconds
    end: float
    targets: tuple[int, ...]  # its classes


@dataclass(frozen=True)
class JoinedScores:
    """Of a model on a joined recording."""

    seconds: float
    events: int
    named: float  # share of clips that the window around them names
    event_f1: float
    silent_windows: int  # those that touch no clip
    silence_highest: float  # highest probability of any class in one of them; 0 without any
    silence_heard: float  # share of them in which a class reaches `THRESHOLD`


def join_clips(
    clips: Clips,
    load: Callable[[Path, int], Tensor],
    sample_rate: int,
    seconds: float,
    gap_seconds: float,
    noise_db: float | None = None,
    seed: int = 0,
) -> tuple[Tensor, list[Event]]:
    """Clips in random order, each once, with silence between, up to a length.

    Args:
        load: decodes a file at a sample rate.
        seconds: of the recording, at most; less where there are fewer clips.
        gap_seconds: silences last `GAPS` times this.
        noise_db: white noise under the whole recording, in dB of full scale; None: digital silence
            between the clips.
        seed: of order, silences and noise.

    Returns:
        (samples,) float32, and the clips' times.

    Raises:
        ValueError: there are no clips, or not even one fits.
    """
    generator = np.random.default_rng(seed)

    def gap() -> Tensor:
        return torch.zeros(round(generator.uniform(*GAPS) * gap_seconds * sample_rate))

    pieces, events = [gap()], []
    samples, most, misfits = len(pieces[0]), round(seconds * sample_rate), 0
    for index in generator.permutation(len(clips)):
        waveform, after = load(clips[index].path, sample_rate), gap()
        end = samples + len(waveform)
        if end + len(after) > most:  # a shorter clip may fit
            misfits += 1
            if misfits == MOST_MISFITS:
                break
            continue
        events.append(Event(samples / sample_rate, end / sample_rate, clips[index].targets))
        pieces += [waveform, after]
        samples = end + len(after)
    if not events:
        raise ValueError(
            f"{len(clips)} clips and {seconds:g} s make no joined recording: give clips, and more "
            "time than one clip with silence around it takes"
        )
    joined = torch.cat(pieces)
    if noise_db is not None:
        level = np.float32(10 ** (noise_db / 20))
        joined += torch.from_numpy(generator.standard_normal(len(joined), np.float32)) * level
    return joined, events


def score_timeline(timeline: Timeline, events: Sequence[Event]) -> JoinedScores:
    """Compare what a model hears when with what is there.

    A clip is named where its likeliest class is one of the clip's in the window that holds most of
    it (of equals, the one whose middle is nearest). For the event F1, a segment of the timeline at
    `THRESHOLD` is right if it overlaps a clip of its class that no earlier segment was matched to.
    A class of background may be heard anywhere: it is neither right nor wrong.
    """
    sounds = sound_classes(timeline.classes)
    starts, ends = timeline.starts.numpy(), timeline.ends.numpy()
    probabilities = timeline.probabilities.numpy()
    touched = np.zeros(len(starts), dtype=bool)
    named = 0
    for event in events:
        overlap = np.minimum(ends, event.end) - np.maximum(starts, event.start)
        touched |= overlap > 0
        distance = np.abs((starts + ends) - (event.start + event.end))
        window = np.lexsort((distance, -overlap.round(6)))[0]
        named += int(probabilities[window].argmax()) in event.targets
    silence = probabilities[~touched][:, sounds].max(axis=1, initial=0.0)
    return JoinedScores(
        seconds=float(ends[-1]),
        events=len(events),
        named=named / len(events),
        event_f1=_event_f1(timeline, events),
        silent_windows=len(silence),
        silence_highest=float(silence.max(initial=0.0)),
        silence_heard=float((silence >= THRESHOLD).mean()) if len(silence) else 0.0,
    )


def sound_classes(classes: Sequence[str]) -> list[int]:
    """Which classes are no background."""
    return [index for index, name in enumerate(classes) if not is_background(name)]


def _event_f1(timeline: Timeline, events: Sequence[Event]) -> float:
    missing = [
        (event.start, event.end, timeline.classes[target])
        for event in events
        for target in event.targets
        if not is_background(timeline.classes[target])
    ]
    expected, right = len(missing), 0
    segments = [each for each in timeline.segments(THRESHOLD) if not is_background(each[2])]
    for start, end, name, _ in segments:
        for event in missing:
            if event[2] == name and event[0] < end and start < event[1]:
                missing.remove(event)
                right += 1
                break
    return 2 * right / (expected + len(segments)) if expected + len(segments) else 0.0


def joined_scores(
    model: str | Path,
    data: str | Path,
    *,
    minutes: float = 10.0,
    corpus: str | None = None,
    fold: int | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    precision: str = "fp32",
    device: str = "auto",
    keep_tokens: float = 1.0,
    cache: ClipCache | None = None,
) -> tuple[Selection, dict[str, JoinedScores]]:
    """Join the clips that `evaluate` would score, and score the model's timeline of them.

    Without clips of no class or of background alone.

    Args:
        minutes: of the joined recording, at most.
        Others: as in `evaluate`.

    Returns:
        The clips, and scores by what lies between them, the keys of `BACKGROUNDS`.

    Raises:
        FileNotFoundError, ValueError: as `evaluate` and `join_clips`.
    """
    trained = load_trained(model, device, precision, keep_tokens=keep_tokens)
    selection = select(trained, data, corpus, fold, split, columns)
    classifier = trained.classifier
    rate = classifier.frontend.config.sample_rate
    window = classifier.window_size / rate
    load = cache.load if cache else load_audio
    sounds = set(sound_classes(classifier.classes))
    clips = Clips.of(clip for clip in selection.clips if sounds & set(clip.targets))
    scores = {}
    for name, level in BACKGROUNDS.items():
        joined, events = join_clips(clips, load, rate, 60 * minutes, window, level)
        with autocast(next(classifier.parameters()).device, trained.precision):
            scores[name] = score_timeline(classifier.timeline(joined), events)
    return selection, scores
