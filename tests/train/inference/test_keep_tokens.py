"""--keep-tokens: every command that scores or embeds clips merges patches, and says so."""

import copy
import json

import numpy as np
import pytest
import torch

import weights
from ast_model import AudioClassifier
from ast_model.baseline import Baseline, BaselineConfig
from train.inference import embed, ensemble, evaluate, predict
from train.inference.models import load_model
from train.inference.scoring.joined import joined_scores

KEEP = 0.3


@pytest.fixture
def merging(classifier):
    """The classifier of `model_folder`, with patches that merge."""
    merging = copy.deepcopy(classifier)
    merging.model.merge_tokens(KEEP)
    return merging


def test_predict_and_embed_run_on_fewer_tokens(run_command, merging, model_folder, sounds):
    file = sounds / "a.wav"
    plain, fewer = (
        next(predict(model_folder, file, device="cpu", keep_tokens=keep)) for keep in (1, KEEP)
    )
    assert dict(fewer.timeline.top()) == pytest.approx(dict(merging.classify(file)))
    assert fewer.timeline.top() != plain.timeline.top()
    (embedded,) = embed(model_folder, file, device="cpu", keep_tokens=KEEP)
    np.testing.assert_allclose(embedded.vectors[0], merging.embed(file), atol=1e-6)

    words = [model_folder, file, "--device", "cpu", "--keep-tokens", KEEP]
    _, out, err = run_command("predict", *words, "--json")
    assert "3 classes; CPU, fp32, patches merge to 30%" in err
    (entry,) = json.loads(out)
    assert entry["classes"][0]["probability"] == round(fewer.timeline.top()[0][1], 6)
    out = run_command("embed", *words, "--out", sounds.parent / "vectors.npz")[1]
    assert "patches merge to 30%" in out
    with np.load(sounds.parent / "vectors.npz") as written:
        np.testing.assert_array_equal(written["vectors"], embedded.vectors)


def test_evaluate_and_ensemble_score_fewer_tokens(run_command, run_folder, corpus_folder, tmp_path):
    plain, fewer = (
        evaluate(run_folder, corpus_folder, device="cpu", keep_tokens=keep) for keep in (1, KEEP)
    )
    assert not torch.allclose(fewer.logits, plain.logits, atol=1e-4)
    words = ["--data", corpus_folder, "--device", "cpu", "--keep-tokens", KEEP]
    out = run_command("evaluate", run_folder, *words, "--out", tmp_path / "report")[1]
    assert "fold 2, 8 clips, patches merged to 30%\n" in out
    assert f"  loss       {fewer.scores['loss']:.4f}" in out
    assert json.loads((tmp_path / "report/scores.json").read_text())["keep_tokens"] == KEEP

    both = ensemble([run_folder] * 2, corpus_folder, device="cpu", keep_tokens=KEEP)
    torch.testing.assert_close(both.probabilities, fewer.probabilities.double())
    out = run_command("ensemble", run_folder, run_folder, *words)[1]
    assert out.count("patches merge to 30%") == 2  # a line a model


def test_a_joined_recording_is_scored_on_fewer_tokens(run_folder, corpus_folder, caplog):
    with caplog.at_level("INFO", "train"):
        joined_scores(run_folder, corpus_folder, minutes=0.1, device="cpu", keep_tokens=KEEP)
    assert any("patches merge to 30%" in message for message in caplog.messages)


def test_a_model_without_patches_is_refused(classifier, tmp_path):
    model = Baseline(BaselineConfig("resnet10t", 3, 64, 128)).eval()
    weights.save(tmp_path, AudioClassifier(model, classifier.frontend, classifier.classes))
    load_model(tmp_path, "cpu")
    with pytest.raises(ValueError, match="is no AST: it has no patches to merge; keep all tokens"):
        load_model(tmp_path, "cpu", keep_tokens=KEEP)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("predict", "a.wav"), "--keep-tokens: a share of 0.1 of the patch tokens cannot be kept"),
        (("predict", "a.wav", "--keep-tokens", "0.5", "--no-pad", "--compile"), "leave out --comp"),
        (
            ("embed", "a.wav", "--keep-tokens", "0.5", "--out", "a.npz", "--level", "frame"),
            "vectors at frame level are of single patches, which do not merge: keep all tokens",
        ),
    ],
)
def test_what_cannot_merge_is_refused_in_a_line_before_a_model_is_read(run_command, words, said):
    command, file, *options = words
    code, _, err = run_command(command, "model", file, *(options or ["--keep-tokens", "0.1"]))
    assert code != 0
    assert said in err
    assert err.count("\n") == 1
