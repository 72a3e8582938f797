"""Waveform in, named classes out."""

import pytest
import torch

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig

CLASSES = ("dog", "rain", "sea")


def parts(num_classes=3, num_frames=64, frontend_frames=64):
    config = ASTConfig(num_classes=num_classes, num_frames=num_frames, width=24, heads=3, depth=1)
    return AST(config).eval(), Frontend(FrontendConfig(num_frames=frontend_frames))


def test_classes_come_likeliest_first():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(16_000)
    best = classifier(waveform, top_k=2)
    probabilities = classifier.probabilities(waveform[None])[0]
    order = probabilities.argsort(descending=True)[:2].tolist()
    assert best == [(CLASSES[i], pytest.approx(probabilities[i].item())) for i in order]
    assert len(classifier(waveform)) == 3  # top_k=5 of three classes


def test_probabilities_sum_to_one_only_for_single_labels():
    model, frontend = parts()
    waveforms = torch.randn(2, 16_000)
    single = AudioClassifier(model, frontend, CLASSES).probabilities(waveforms)
    multi = AudioClassifier(model, frontend, CLASSES, multi_label=True).probabilities(waveforms)
    assert torch.allclose(single.sum(dim=1), torch.ones(2))
    assert torch.allclose(multi, model(frontend(waveforms)).sigmoid())


def test_a_numpy_waveform_will_do():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(16_000)
    assert classifier(waveform.numpy()) == classifier(waveform)


def test_padded_waveforms_score_as_alone():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(5_000)
    padded = torch.nn.functional.pad(waveform, (0, 3_000))[None]
    alone = classifier.probabilities(waveform[None])
    assert torch.equal(classifier.probabilities(padded, torch.tensor([5_000])), alone)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="takes num_frames 64, but the front end makes 96"):
        AudioClassifier(*parts(frontend_frames=96), CLASSES)
    with pytest.raises(ValueError, match="3 class names for a model of 4 classes"):
        AudioClassifier(*parts(num_classes=4), CLASSES)


def test_stereo_and_empty_wishes_are_refused():
    classifier = AudioClassifier(*parts(), CLASSES)
    with pytest.raises(ValueError, match=r"shape \(2, 16000\), expected \(samples,\)"):
        classifier(torch.randn(2, 16_000))
    with pytest.raises(ValueError, match="top_k 0 is not positive"):
        classifier(torch.randn(16_000), top_k=0)
