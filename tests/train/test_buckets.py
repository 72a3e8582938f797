"""Clips of mixed length: batches without padding, and results that do not depend on them."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model.baseline import Baseline, BaselineConfig
from data import Clip, load_audio
from train.buckets import buckets, own_frames
from train.evaluation import predict_logits
from train.inference import embed, predict

COUNT = 16  # recordings


@given(st.lists(st.integers(0, 300)), st.integers(1, 5), st.booleans())
def test_every_clip_is_in_one_batch_with_others_of_its_frames(samples, batch_size, pad):
    frames = None if pad else lambda count: count // 100
    batches = list(buckets(samples, batch_size, frames))
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(samples)))
    assert [samples[index] for index in order] == sorted(samples)
    assert all(0 < len(batch) <= batch_size for batch in batches)
    for batch in batches if frames else ():
        assert len({frames(samples[index]) for index in batch}) == 1


def test_frames_are_those_of_the_patches_that_hold_the_clip(classifier):
    """Patches of 16 frames every 10, of an input of 64; a frame lasts 400 samples, each 160."""
    frames = own_frames("it", classifier.model, classifier.frontend)
    at = {100: 16, 400: 16, 400 + 15 * 160: 16, 400 + 16 * 160: 26, 10_000: 64, 99_999: 64}
    assert {samples: frames(samples) for samples in at} == at


def test_a_model_that_is_no_ast_is_refused(classifier):
    baseline = Baseline(BaselineConfig("test_efficientnet", 3, 64, 128))
    with pytest.raises(ValueError, match="runs/x is no AST"):
        own_frames("runs/x", baseline, classifier.frontend)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Recordings of 25 ms to 0.7 s, and a few at another rate; the model hears 0.66 s."""
    folder, generator = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    paths = [folder / f"{number:02}.wav" for number in range(COUNT)]
    for number, path in enumerate(paths):
        rate = 16_000 if number % 4 else 22_050
        noise = 0.1 * generator.standard_normal(int(rate * generator.uniform(0.026, 0.7)))
        soundfile.write(path, noise, rate)
    return paths


@pytest.fixture(scope="module")
def alone(mixed, classifier):
    """What each recording gives alone, without padding: probabilities, vectors, logits."""
    found = {}
    for path in mixed:
        clip = load_audio(path)[None]
        with torch.no_grad():
            logits = classifier(clip, pad=False)[0]
        vectors = {level: classifier.embed(clip, level=level, pad=False)[0] for level in LEVELS}
        found[path] = classifier.probabilities(clip, pad=False)[0], vectors, logits
    return found


LEVELS = ("clip", "frame")
chosen = st.lists(st.integers(0, COUNT - 1), min_size=1, unique=True)


@pytest.mark.precision
@settings(max_examples=10, deadline=None)
@given(chosen, st.integers(1, 9))
def test_neither_order_nor_batches_change_predictions(
    model_folder, mixed, alone, numbers, batch_size
):
    files = [mixed[number] for number in numbers]
    found = predict(model_folder, files, pad=False, batch_size=batch_size, device="cpu")
    rows = {each.path: each.timeline.probabilities[0] for each in found}
    assert rows.keys() == set(files)
    for path, row in rows.items():
        assert torch.allclose(row, alone[path][0], rtol=0, atol=1e-5)


@pytest.mark.precision
@settings(max_examples=10, deadline=None)
@given(chosen, st.integers(1, 9), st.sampled_from(LEVELS))
def test_neither_order_nor_batches_change_vectors(
    model_folder, mixed, alone, numbers, batch_size, level
):
    files = [mixed[number] for number in numbers]
    words = {"pad": False, "batch_size": batch_size, "level": level, "device": "cpu"}
    found = list(embed(model_folder, files, **words))
    assert [each.path for each in found] == files
    for each in found:
        expected = alone[each.path][1][level].numpy()
        assert np.allclose(each.vectors[0], expected, rtol=0, atol=1e-5)


@pytest.mark.precision
@settings(max_examples=10, deadline=None)
@given(chosen, st.integers(1, 9))
def test_neither_order_nor_batches_change_scores(mixed, classifier, alone, numbers, batch_size):
    clips = [Clip(mixed[number], (number % 3,)) for number in numbers]
    vectors = []
    words = {"batch_size": batch_size, "pad": False, "vectors": vectors}
    logits, targets = predict_logits(classifier.model, classifier.frontend, clips, "fp32", **words)
    assert targets.argmax(1).tolist() == [number % 3 for number in numbers]
    for clip, row, vector in zip(clips, logits, vectors, strict=True):
        _, expected, expected_logits = alone[clip.path]
        assert torch.allclose(row, expected_logits, rtol=0, atol=1e-5)
        assert torch.allclose(vector, expected["clip"], rtol=0, atol=1e-5)


@pytest.mark.precision
def test_a_wrong_header_changes_no_result(mixed, classifier, alone, model_folder, monkeypatch):
    """All of them seem to be of one length, so that one batch holds all."""
    monkeypatch.setattr("data.audio.Header.seconds", 0.3)
    found = list(predict(model_folder, mixed, pad=False, batch_size=COUNT, device="cpu"))
    clips = [Clip(path, (0,)) for path in mixed]
    logits, _ = predict_logits(classifier.model, classifier.frontend, clips, "fp32", pad=False)
    for each in found:
        assert torch.allclose(each.timeline.probabilities[0], alone[each.path][0], atol=1e-5)
    for path, row in zip(mixed, logits, strict=True):
        assert torch.allclose(row, alone[path][2], rtol=0, atol=1e-5)
