"""Evaluation: batches and workers do not matter, and it is what inference gives."""

from dataclasses import replace

import pytest
import torch

import weights
from data import load_audio
from train.evaluation import default_workers, predict_logits


def test_logits_are_those_of_the_saved_classifier(classifier, manifest, tmp_path):
    clips = manifest.clips[:5]
    clips = tuple(replace(clip, targets=(clip.targets[0] % 3,)) for clip in clips)
    model, frontend = classifier.model, classifier.frontend
    logits, targets = predict_logits(model, frontend, clips, "fp32", batch_size=2)
    assert targets.argmax(dim=1).tolist() == [clip.targets[0] for clip in clips]
    weights.save(tmp_path / "model", classifier)
    saved = weights.load(tmp_path / "model")
    for clip, row in zip(clips, logits, strict=True):
        wanted = saved(load_audio(clip.path)[None])[0]
        assert torch.allclose(row, wanted, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_workers_keep_the_order(classifier, manifest, workers):
    clips = tuple(replace(clip, targets=()) for clip in manifest.clips[:6])
    parts = classifier.model, classifier.frontend, clips, "fp32"
    whole = predict_logits(*parts, 6)[0]
    assert torch.allclose(predict_logits(*parts, 2, workers=workers)[0], whole, atol=1e-5)


@pytest.mark.parametrize("pad", [True, False])
def test_no_tensor_of_a_batch_is_kept(classifier, manifest, tensors_alive, pad):
    """They lay between large ones: 50,000 clips took 2 GB more than 5,000."""
    counts, vectors = tensors_alive(classifier.model), []
    clips = tuple(replace(clip, targets=()) for clip in manifest.clips[:8])
    parts = classifier.model, classifier.frontend, clips, "fp32"
    predict_logits(*parts, batch_size=1, pad=pad, vectors=vectors)
    assert len(counts) == len(vectors) == 8
    assert max(counts[2:]) == counts[2]


def test_no_worker_competes_with_a_cpu_that_trains():
    assert default_workers(torch.device("cpu")) == 0
    assert 1 <= default_workers(torch.device("cuda")) <= 8
