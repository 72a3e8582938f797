"""Evaluation: batches and workers do not matter, and it is what inference gives."""

import torch

import weights
from data import load_audio
from train.evaluation import default_workers, predict_logits
from train.training import build


def test_logits_are_those_of_the_saved_classifier(recipe, manifest, tmp_path):
    training = build(recipe, manifest.classes, torch.device("cpu"))
    clips = manifest.clips[:5]
    logits, targets = predict_logits(training.model, training.frontend, clips, "fp32", batch_size=2)
    assert targets.argmax(dim=1).tolist() == [clip.targets[0] for clip in clips]
    weights.save(tmp_path / "model", training.model, training.frontend, manifest.classes)
    classifier = weights.load(tmp_path / "model")
    for clip, row in zip(clips, logits, strict=True):
        probabilities = classifier.probabilities(load_audio(clip.path)[None])[0]
        assert torch.allclose(row.softmax(dim=0), probabilities, atol=1e-5)


def test_workers_keep_the_order(recipe, manifest):
    training = build(recipe, manifest.classes, torch.device("cpu"))
    parts = training.model, training.frontend, manifest.clips[:6], "fp32", 2
    alone, with_workers = predict_logits(*parts), predict_logits(*parts, workers=2)
    assert torch.equal(alone[0], with_workers[0])


def test_no_worker_competes_with_a_cpu_that_trains():
    assert default_workers(torch.device("cpu")) == 0
    assert 1 <= default_workers(torch.device("cuda")) <= 8
