"""Long recordings: every sample is heard, and blocks do not matter."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig, Timeline
from ast_model.timeline import windows

CLASSES = ("dog", "rain", "sea")


@pytest.fixture(scope="module")
def classifier():
    """Hears 26 frames: windows of 4,400 samples, 0.275 s."""
    torch.manual_seed(0)
    config = ASTConfig(num_classes=3, num_frames=26, width=24, heads=3, depth=1, stride=(16, 10))
    return AudioClassifier(
        AST(config).eval(), Frontend(FrontendConfig(num_frames=26)), CLASSES, multi_label=True
    )


def made(probabilities, multi_label=True, hop=5.0, size=10.0):
    """A timeline of windows of `size` seconds every `hop`."""
    starts = hop * torch.arange(len(probabilities), dtype=torch.float64)
    return Timeline(starts, starts + size, torch.tensor(probabilities), CLASSES, multi_label)


def split(samples, cuts):
    bounds = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    return [samples[a:b] for a, b in pairwise(bounds)]


@given(
    samples=st.integers(1, 300),
    size=st.integers(1, 60),
    hop=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_windows_cover_every_sample_once_started_every_hop(samples, size, hop, cuts):
    hop = min(hop, size)
    recording = torch.arange(samples)
    found = list(windows(split(recording, cuts), size, hop))
    starts = [start for start, _ in found]
    for start, window in found:
        assert torch.equal(window, recording[start : start + size])
        assert len(window) == min(size, samples)
    regular = list(range(0, max(samples - size, 0) + 1, hop))
    at_the_end = [] if regular[-1] + size >= samples else [samples - size]
    assert starts == regular + at_the_end
    assert set().union(*(range(s, s + len(w)) for s, w in found)) == set(range(samples))


@given(
    samples=st.integers(400, 20_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
    hop=st.sampled_from([None, 0.05, 0.1, 0.275]),
    batch_size=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_blocks_change_no_bit(classifier, samples, cuts, hop, batch_size):
    recording = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    whole = classifier.timeline(recording, None, hop, batch_size)
    in_blocks = classifier.timeline(iter(split(recording, cuts)), None, hop, batch_size)
    for name in ("starts", "ends", "probabilities"):
        assert torch.equal(getattr(whole, name), getattr(in_blocks, name))
    assert (whole.starts[0], whole.ends[-1]) == (0, samples / 16_000)


def test_a_window_scores_as_the_clip_that_it_is(classifier):
    recording = torch.randn(13_000)
    timeline = classifier.timeline(recording, batch_size=2)
    assert timeline.starts.tolist() == [s / 16_000 for s in (0, 2_200, 4_400, 6_600, 8_600)]
    for start, end, found in zip(
        timeline.starts, timeline.ends, timeline.probabilities, strict=True
    ):
        clip = recording[round(16_000 * start.item()) : round(16_000 * end.item())]
        torch.testing.assert_close(found, classifier.probabilities(clip[None])[0])


def test_a_short_recording_is_padded_as_in_training(classifier):
    recording = torch.randn(3_000)
    timeline = classifier.timeline(recording)
    assert (timeline.starts.tolist(), timeline.ends.tolist()) == ([0], [3_000 / 16_000])
    assert torch.equal(timeline.probabilities, classifier.probabilities(recording[None]))


@pytest.mark.parametrize(
    ("share", "samples", "warned"), [(0.3, 9_000, 1), (0.3, 4_000, 0), (0.1, 9_000, 0)]
)
def test_a_model_of_padded_clips_warns_once_of_long_recordings(share, samples, warned, caplog):
    config = ASTConfig(num_classes=3, num_frames=26, width=24, heads=3, depth=1)
    frontend = Frontend(FrontendConfig(num_frames=26, padded_share=share))
    classifier = AudioClassifier(AST(config).eval(), frontend, CLASSES)
    for _ in range(2):
        classifier.timeline(torch.zeros(samples))
    assert caplog.text.count("30% was padding") == warned


def test_only_a_few_windows_are_held(classifier):
    """Blocks are asked for as they are needed, and the scores come before the end."""
    asked, heard_at = [], []

    def blocks():
        for index in range(40):
            asked.append(index)
            yield torch.randn(4_400)

    with classifier.frontend.register_forward_hook(lambda *_: heard_at.append(len(asked))):
        classifier.timeline(blocks(), batch_size=2)
    steps = [later - earlier for earlier, later in pairwise([0, *heard_at])]
    assert max(steps) <= 2  # two windows, half a window apart


def test_a_block_may_be_overwritten_when_the_next_is_asked_for(classifier):
    recording = np.random.default_rng(0).standard_normal(12_000).astype(np.float32)

    def blocks():
        buffer = np.empty(1_000, np.float32)
        for start in range(0, 12_000, 1_000):
            buffer[:] = recording[start : start + 1_000]
            yield buffer

    reused, whole = classifier.timeline(blocks()), classifier.timeline(recording)
    assert torch.equal(reused.probabilities, whole.probabilities)


@pytest.mark.parametrize(
    ("recording", "options", "message"),
    [
        (torch.randn(9_000), {"hop": 0.3}, r"hop 0.3 s is not in \(0, 0.275\] s"),
        (torch.randn(9_000), {"hop": 0}, "hop 0 s"),
        (torch.randn(9_000), {"hop": float("nan")}, "hop nan s"),
        (torch.randn(9_000), {"batch_size": 0}, "batch_size 0 is not positive"),
        (torch.randn(2, 9_000), {}, r"shape \(2, 9000\), expected \(samples,\)"),
        ([torch.randn(9_000), torch.randn(9, 2)], {}, r"shape \(9, 2\), expected \(samples,\)"),
        (torch.randn(300), {}, "300 samples; at least 400"),
        (torch.zeros(9_000, dtype=torch.int16), {}, "floating point"),
        (torch.zeros(0), {}, "holds no samples"),
        ([], {}, "holds no samples"),
    ],
)
def test_bad_recordings_get_one_clear_line(classifier, recording, options, message):
    with pytest.raises(ValueError, match=message):
        classifier.timeline(recording, **options)


def test_a_recording_has_the_mean_of_single_labels_and_the_highest_of_several():
    probabilities = [[0.9, 0.1, 0.0], [0.5, 0.3, 0.2]]
    single = made(probabilities, multi_label=False).clip_probabilities()
    assert single.tolist() == pytest.approx([0.7, 0.2, 0.1])
    multi = made(probabilities)
    assert multi.clip_probabilities().tolist() == pytest.approx([0.9, 0.3, 0.2])
    assert multi.top(2) == [("dog", pytest.approx(0.9)), ("rain", pytest.approx(0.3))]


def test_neighbouring_windows_of_a_class_are_one_segment():
    dog = [0.5, 0.75, 0.5, 0.1, 0.1]
    rain = [0.9, 0.1, 0.1, 0.1, 0.1]
    timeline = made([[*both, 0.1] for both in zip(dog, rain, strict=True)] * 2)
    assert timeline.segments(0.5) == [
        (0, 10, "rain", pytest.approx(0.9)),
        (0, 20, "dog", 0.75),
        (25, 35, "rain", pytest.approx(0.9)),
        (25, 45, "dog", 0.75),
    ]
    assert timeline.segments(1.0) == []
    with pytest.raises(ValueError, match=r"threshold 1\.5 is not a probability"):
        timeline.segments(1.5)


@given(
    heard=st.lists(st.booleans(), min_size=1, max_size=30),
    hop=st.sampled_from([2.5, 5.0, 10.0]),
)
def test_segments_are_the_time_that_windows_over_the_threshold_cover(heard, hop):
    segments = made([[float(over), 0.0, 0.0] for over in heard], hop=hop).segments(0.5)
    tick = 2.5
    covered = {
        round((index * hop) / tick) + step
        for index, over in enumerate(heard)
        if over
        for step in range(4)
    }
    found = [range(round(start / tick), round(end / tick)) for start, end, _, _ in segments]
    assert sorted(t for ticks in found for t in ticks) == sorted(covered)  # and none twice
    assert all(a.stop < b.start for a, b in pairwise(found))


def test_a_timeline_keeps_no_tensor_of_a_window(classifier, tensors_alive):
    """They lay between large ones: 24 hours took 300 MB more than 4."""
    model = deepcopy(classifier)
    counts = tensors_alive(model.model)
    model.timeline(torch.zeros(60_000), batch_size=1)
    assert len(counts) > 20 and max(counts[2:]) == counts[2]
