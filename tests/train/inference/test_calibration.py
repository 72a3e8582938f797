"""Clips to calibrate with: spread over what is given, and never more than a hundred."""

import numpy as np
import pytest
import soundfile

from train.inference import calibration
from train.inference.calibration import calibration_clips
from train.inference.recordings import Unreadable


def write(path, seconds, value=0.1, rate=16_000):
    samples = np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(path, value * samples, rate)
    return path


def test_of_many_recordings_every_so_many_th_gives_a_clip(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_CLIPS", 5)
    for number in range(12):
        write(tmp_path / f"{number:02}.wav", 0.1 + number / 100)
    heard = {len(clip) for clip in calibration_clips([tmp_path], classifier)}
    assert heard == {round(16_000 * (0.1 + number / 100)) for number in (0, 2, 4, 7, 9)}


def test_only_recordings_that_are_heard_are_opened(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_CLIPS", 1)
    write(tmp_path / "a.wav", 1.0)
    (tmp_path / "b.wav").write_text("no audio")
    assert len(calibration_clips([tmp_path], classifier)) == 1


def test_a_long_recording_gives_windows_of_the_models_length(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_CLIPS", 7)
    size = classifier.window_size
    one, two = write(tmp_path / "one.wav", 30.0), write(tmp_path / "two.wav", 0.3)
    clips = calibration_clips([one, two], classifier)
    assert [len(clip) for clip in clips] == [size] * 3 + [4_800]
    samples, _ = soundfile.read(one, dtype="float32")
    assert (clips[1].numpy() == samples[size : 2 * size]).all()


def test_a_recording_that_cannot_be_heard_is_named(classifier, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(Unreadable, match=r"text\.wav cannot be decoded"):
        calibration_clips([tmp_path / "text.wav"], classifier)
    short = write(tmp_path / "short.wav", 0.01)
    with pytest.raises(Unreadable, match=r"short\.wav lasts 10\.0 ms"):
        calibration_clips([short], classifier)
