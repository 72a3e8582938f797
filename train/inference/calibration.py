"""Clips that show a quantiser what a model hears."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from torch import Tensor

from ast_model import AudioClassifier
from ast_model.timeline import windows
from train.inference.recordings import Recordings, find_recordings

MOST_CLIPS = 100  # more changed no score, and 100 of 10 s take 65 MB


def calibration_clips(paths: Sequence[str | Path], classifier: AudioClassifier) -> list[Tensor]:
    """Clips of at most the model's length, spread evenly over the recordings, at most 100.

    Of up to 100 recordings each gives as many consecutive windows from its beginning as make 100
    together, if it is as long; of more, every so-many-th gives one window. Nothing else is decoded.

    Args:
        paths: recordings, and folders that are searched for them.
        classifier: the model that is to hear them; gives sample rate and length.

    Returns:
        (samples,) each.

    Raises:
        FileNotFoundError, ValueError: there are no recordings, or one that is to be heard cannot
            be decoded or is too short for a model.
    """
    files = find_recordings(paths)
    count = min(len(files), MOST_CLIPS)
    chosen = [files[number * len(files) // count] for number in range(count)]
    recordings = Recordings(chosen, classifier)
    recordings.log_notes()
    size = classifier.window_size
    clips = []
    for path in chosen:
        for _, clip in islice(windows(recordings.stream(path), size, size), MOST_CLIPS // count):
            recordings.require_length(path, clip)
            clips.append(clip)
    return clips
