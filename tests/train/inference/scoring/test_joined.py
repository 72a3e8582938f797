"""Clips joined with silence between, and how a timeline of them is scored."""

import numpy as np
import pytest
import soundfile
import torch

from ast_model import Timeline
from data import folder
from data.audio import load_audio
from train.inference.scoring import joined
from train.inference.scoring.joined import (
    GAPS,
    Event,
    join_clips,
    joined_scores,
    score_timeline,
)

CLASSES = ("dog", "rain")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two classes of five constant clips, 0.1 s to 0.5 s, of levels that tell them apart."""
    root = tmp_path_factory.mktemp("clips")
    for row, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(5):
            level = 0.1 + 0.1 * index + 0.05 * row
            clip = np.full(1_600 * (index + 1), level, np.float32)
            soundfile.write(root / name / f"{index}.wav", clip, 16_000, subtype="FLOAT")
    return folder(root)


def test_every_clip_lies_once_where_its_event_says_with_silence_between(manifest):
    waveform, events = join_clips(manifest.clips, load_audio, 16_000, 600, 0.25)
    assert len(events) == 10
    heard = torch.zeros(len(waveform), dtype=torch.bool)
    for event in events:
        samples = slice(round(event.start * 16_000), round(event.end * 16_000))
        clip = waveform[samples]
        assert clip.unique().numel() == 1
        assert any(
            other.targets == event.targets and torch.equal(load_audio(other.path, 16_000), clip)
            for other in manifest.clips
        )
        heard[samples] = True
    assert not waveform[~heard].any()
    edges = [0.0, *(edge for event in events for edge in event[:2]), len(waveform) / 16_000]
    gaps = np.diff(edges)[::2]
    assert gaps.min() > GAPS[0] * 0.25 - 1e-4 and gaps.max() < GAPS[1] * 0.25 + 1e-4


def test_noise_lies_under_all_of_it_and_the_length_is_kept(manifest):
    waveform, events = join_clips(manifest.clips, load_audio, 16_000, 2.0, 0.25, noise_db=-40)
    assert len(waveform) <= 2.0 * 16_000
    assert 0 < len(events) < 10
    silence = waveform[: round(events[0].start * 16_000)]
    assert 10 * silence.square().mean().log10() == pytest.approx(-40, abs=0.5)
    again, _ = join_clips(manifest.clips, load_audio, 16_000, 2.0, 0.25, noise_db=-40)
    assert torch.equal(waveform, again)
    other, _ = join_clips(manifest.clips, load_audio, 16_000, 2.0, 0.25, noise_db=-40, seed=1)
    assert not torch.equal(waveform[:1_000], other[:1_000])


def test_no_clips_or_no_time_is_one_line(manifest):
    with pytest.raises(ValueError, match=r"10 clips and 0\.1 s make no joined recording"):
        join_clips(manifest.clips, load_audio, 16_000, 0.1, 0.25)


def test_a_clip_that_is_too_long_does_not_end_the_recording(manifest):
    def load(path, rate):
        waveform = load_audio(path, rate)
        return torch.ones(20 * rate) if path == first else waveform

    order = np.random.default_rng(0)
    order.uniform()
    first = manifest.clips[int(order.permutation(10)[0])].path
    _, events = join_clips(manifest.clips, load, 16_000, 15.0, 0.25)
    assert len(events) == 9


EVENTS = [Event(1.0, 2.0, (0,)), Event(4.0, 5.0, (1,))]


def timeline(*probabilities):
    """Windows of 1 s every second."""
    starts = torch.arange(len(probabilities), dtype=torch.float64)
    return Timeline(starts, starts + 1, torch.tensor(probabilities), CLASSES, False)


QUIET, DOG, RAIN = (0.4, 0.4), (0.9, 0.1), (0.2, 0.8)


def test_a_right_timeline_has_full_scores():
    scores = score_timeline(timeline(QUIET, DOG, QUIET, QUIET, RAIN, QUIET), EVENTS)
    assert (scores.events, scores.named, scores.event_f1) == (2, 1.0, 1.0)
    assert (scores.silent_windows, scores.silence_heard) == (4, 0.0)
    assert scores.silence_highest == pytest.approx(0.4)


def test_a_wrong_name_a_false_alarm_and_a_miss_cost():
    wrong = score_timeline(timeline(QUIET, DOG, QUIET, QUIET, DOG, QUIET), EVENTS)
    assert (wrong.named, wrong.event_f1) == (0.5, 2 * 1 / (2 + 2))
    alarm = score_timeline(timeline(DOG, QUIET, DOG, QUIET, RAIN, QUIET), EVENTS)
    assert alarm.silence_heard == 0.5 and alarm.silence_highest == pytest.approx(0.9)
    assert alarm.event_f1 == 2 * 1 / (2 + 3)  # rain is right, two dogs lie in silence
    unsure = score_timeline(timeline(QUIET, (0.45, 0.3), QUIET, QUIET, RAIN, QUIET), EVENTS)
    assert (unsure.named, unsure.event_f1) == (1.0, 2 * 1 / (2 + 1))


def test_a_class_of_background_may_be_heard_in_silence():
    starts = torch.arange(4, dtype=torch.float64)
    rows = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [1.0, 0.0]])
    heard = Timeline(starts, starts + 1, rows, ("_background_noise_", "dog"), False)
    scores = score_timeline(heard, [Event(1.0, 2.0, (1,))])
    assert (scores.named, scores.event_f1, scores.silence_heard) == (1.0, 1.0, 0.0)
    assert scores.silence_highest == pytest.approx(0.4)


def test_a_clip_is_named_by_the_window_that_holds_most_of_it():
    starts = torch.tensor([0.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    rows = torch.tensor([QUIET, RAIN, DOG, RAIN])
    overlapping = Timeline(starts, starts + 1, rows, CLASSES, False)
    assert score_timeline(overlapping, [Event(1.1, 1.9, (0,))]).named == 1.0
    assert score_timeline(overlapping, [Event(0.6, 1.4, (0,))]).named == 0.0


def test_a_model_is_scored_over_silence_and_over_noise(run_folder, corpus_folder, monkeypatch):
    levels, original = [], joined.join_clips

    def join(*arguments):
        waveform, events = original(*arguments)
        before = waveform[: round(events[0].start * 16_000)]
        levels.append(before.square().mean().item())
        return waveform, events

    monkeypatch.setattr(joined, "join_clips", join)
    selection, scores = joined_scores(run_folder, corpus_folder, minutes=1, device="cpu")
    assert selection.name == "fold 2"
    assert list(scores) == ["silence", "noise at -50 dB"]
    assert levels == [0, pytest.approx(1e-5, rel=0.1)]
    for found in scores.values():
        assert 0 < found.seconds <= 60 and found.events > 0 and found.silent_windows > 0
        assert 0 <= found.named <= 1 and 0 <= found.silence_highest <= 1


def test_evaluate_prints_the_scores_of_a_joined_recording(run_command, run_folder, corpus_folder):
    words = ["evaluate", str(run_folder), "--data", str(corpus_folder), "--no-use-cache"]
    code, out, _ = run_command(*words, "--joined", "1")
    assert code == 0
    assert "clips joined to" in out and "noise at -50 dB between them" in out
    assert out.count("event F1") == 2
