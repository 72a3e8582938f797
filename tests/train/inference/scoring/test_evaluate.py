"""`evaluate` and its command: the scores of a run are repeated, in the precision asked for."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.quantise import Int8Linear
from data import load_audio
from data.files import read_json, write_json
from train import evaluate
from train.inference.scoring.evaluate import score
from train.inference.scoring.selection import Trained, select
from train.metrics import evaluate_scores
from train.run.folder import read_metrics, read_run

CPU = torch.device("cpu")


@pytest.mark.precision
def test_a_run_is_scored_as_its_last_epoch_was(run_folder, corpus_folder):
    found = evaluate(run_folder, corpus_folder, device="cpu")
    last = list(read_metrics(run_folder))[-1]
    assert (found.selection.name, len(found.selection.clips)) == ("fold 2", 8)
    assert found.scores.keys() < last.keys()
    for name, value in found.scores.items():
        assert value == pytest.approx(last[name], abs=1e-6), name


@pytest.mark.precision
def test_the_command_prints_what_the_function_gives(run_command, run_folder, corpus_folder):
    words = ("evaluate", run_folder, "--data", corpus_folder, "--device", "cpu", "--no-use-cache")
    code, out, err = run_command(*words, "--json")
    assert code == 0, err
    found = evaluate(run_folder, corpus_folder, device="cpu")
    printed = json.loads(out)
    assert {name: printed[name] for name in found.scores} == found.scores
    assert [printed[name] for name in ("corpus", "split", "fold", "clips", "unreadable")] == [
        "esc50", "fold 2", 2, 8, [],
    ]  # fmt: skip
    out = run_command(*words)[1]
    assert "; CPU, fp32\nesc50, fold 2, 8 clips\n" in out
    assert f"mAP        {found.scores['mAP']:.4f}\n" in out


@pytest.fixture
def of_sigmoids(manifest):
    """A model of one label a clip that was trained with binary cross-entropy."""
    torch.manual_seed(0)
    model = AST(ASTConfig(8, 64, width=16, depth=1, heads=2)).eval()
    model.head.weight.data.mul_(40)
    return AudioClassifier(model, Frontend(FrontendConfig(64)), manifest.classes)


def test_the_runs_loss_says_how_clips_are_ranked(of_sigmoids, run_folder, corpus_folder):
    run = read_run(run_folder)
    selection = select(Trained("x", of_sigmoids), corpus_folder, "esc50", split="all")
    for loss in ("bce", "cross_entropy"):
        trained = Trained("x", of_sigmoids, replace(run, recipe=replace(run.recipe, loss=loss)))
        found = score(trained, selection)
        arrays = found.logits.numpy(), found.targets.numpy()
        assert found.scores == evaluate_scores(*arrays, False, sigmoid=loss == "bce")
        assert found.sigmoid == (loss == "bce")
        # probabilities are the classifier's, whose classes exclude each other
        assert torch.allclose(found.probabilities.sum(1), torch.ones(40))


@pytest.fixture
def copied(corpus_folder, manifest, tmp_path):
    """A copy of the corpus, and its files of fold 2."""
    shutil.copytree(corpus_folder, tmp_path / "corpus")
    names = [clip.path.relative_to(corpus_folder) for clip in manifest.clips if clip.fold == 2]
    return tmp_path / "corpus", [tmp_path / "corpus" / name for name in names]


@pytest.fixture
def broken_corpus(copied):
    """The corpus with a file of fold 2 cut off behind a sound header, and that file."""
    corpus, (file, *_) = copied
    file.write_bytes(file.read_bytes()[:20_000])
    return corpus, file


def test_a_broken_file_stops_an_evaluation(run_folder, broken_corpus):
    corpus, file = broken_corpus
    with pytest.raises(ValueError, match=f"{file.name} is truncated"):
        evaluate(run_folder, corpus, device="cpu")


def test_a_run_that_left_out_broken_files_is_scored_without_them(
    run_command, run_folder, broken_corpus, tmp_path
):
    corpus, file = broken_corpus
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    record = read_json(run / "recipe.json")
    record["recipe"]["skip_unreadable"] = True
    write_json(run / "recipe.json", record)
    words = ("--data", corpus, "--device", "cpu", "--no-use-cache", "--json")
    code, out, err = run_command("evaluate", run, *words)
    assert code == 0, err
    assert (json.loads(out)["clips"], json.loads(out)["unreadable"]) == (7, [str(file)])
    assert (
        f"note: 1 of 8 clips left out, which cannot be read or are shorter than 25 ms:\n  {file}\n"
        in err
    )
    code, out, _ = run_command("evaluate", run_folder, *words, "--skip-unreadable")
    assert (code, json.loads(out)["clips"]) == (0, 7)
    code, _, err = run_command("evaluate", run, *words, "--no-skip-unreadable")
    assert (code, f"{file.name} is truncated" in err) == (2, True)
    code, _, err = run_command("ensemble", run, run, *words[:-1], "--no-skip-unreadable")
    assert (code, f"{file.name} is truncated" in err) == (2, True)
    with pytest.raises(ValueError, match=file.name):
        evaluate(run, corpus, skip_unreadable=False, device="cpu")


@pytest.mark.parametrize("name", ["scores.json", "worst.csv", "predictions.csv", "confusion.csv"])
def test_a_report_replaces_no_file_of_others(
    run_command, run_folder, corpus_folder, tmp_path, name
):
    words = ("--data", corpus_folder, "--device", "cpu", "--no-use-cache", "--out", tmp_path / "a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text("mine")
    for command in (("evaluate", run_folder), ("ensemble", run_folder, run_folder)):
        code, _, error = run_command(*command, *words)
        assert code == 2 and f"{name} exists and was not written by this command" in error
    assert (tmp_path / "a" / name).read_text() == "mine"
    (tmp_path / "a" / name).unlink()
    for command, expected in (("evaluate", 0), ("evaluate", 0), ("ensemble", 2)):
        models = [run_folder] * (1 + (command == "ensemble"))
        code, _, error = run_command(command, *models, *words)
        assert code == expected, error
    assert "holds the report of one model; give another folder" in error


def test_a_clip_without_one_window_is_named_or_left_out(run_command, run_folder, copied):
    corpus, files = copied
    soundfile.write(files[5], np.full(100, 0.1), 16_000)
    words = ("evaluate", run_folder, "--data", corpus, "--device", "cpu", "--no-use-cache")
    code, _, error = run_command(*words)
    assert code == 2 and f"{files[5]} has 100 samples at 16000 Hz; at least 400" in error
    code, _, error = run_command(*words, "--skip-unreadable")
    assert code == 0 and f"shorter than 25 ms:\n  {files[5]}\n" in error


def test_nothing_readable_is_an_error(run_folder, copied):
    corpus, files = copied
    for file in files:
        file.write_bytes(b"no sound")
    with pytest.raises(ValueError, match="none of 8 clips can be read"):
        evaluate(run_folder, corpus, skip_unreadable=True, device="cpu")


@pytest.mark.precision
def test_without_padding_clips_score_as_alone(run_command, classifier, manifest, tmp_path, sounds):
    """Clips of two lengths, and vectors that stand beside their own clips."""
    for name in ("dog", "rain", "costs $5 _and_ $6"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in ("a.wav", "short.wav"):
            shutil.copy(sounds / file, tmp_path / "data" / name)
    classes = sorted(classifier.classes)
    classifier = AudioClassifier(classifier.model, classifier.frontend, classes)
    weights.save(tmp_path / "model", classifier)
    words = {"corpus": "folder", "split": "all", "device": "cpu"}
    found, padded = (
        evaluate(tmp_path / "model", tmp_path / "data", pad=pad, vectors=True, **words)
        for pad in (False, True)
    )
    for clip, logits, vector in zip(
        found.selection.clips, found.logits, found.vectors, strict=True
    ):
        waveform = load_audio(clip.path)[None]
        assert torch.allclose(logits, classifier(waveform, pad=False)[0], rtol=0, atol=1e-5)
        expected = classifier.embed(waveform, pad=False)[0]
        assert torch.allclose(vector, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found.logits, padded.logits, atol=0.01)
    words = ("evaluate", tmp_path / "model", "--data", tmp_path / "data", "--corpus", "folder")
    code, out, err = run_command(*words, "--split", "all", "--no-pad", "--device", "cpu")
    assert code == 0, err
    assert "all clips, 6 clips, without padding\n" in out
    assert f"loss       {found.scores['loss']:.4f}" in out


def test_vectors_are_what_the_classifier_embeds(run_folder, corpus_folder):
    assert evaluate(run_folder, corpus_folder, device="cpu").vectors is None
    found = evaluate(run_folder, corpus_folder, device="cpu", vectors=True)
    classifier = weights.load(run_folder / "last")
    for clip, vector in zip(found.selection.clips[:2], found.vectors, strict=False):
        expected = classifier.embed(load_audio(clip.path)[None])[0]
        assert torch.allclose(vector, expected, atol=1e-4)


@pytest.mark.precision
def test_int8_is_scored_in_8_bit_integers(run_folder, corpus_folder, monkeypatch):
    layers = []
    original = Int8Linear.__init__
    monkeypatch.setattr(Int8Linear, "__init__", lambda *args: layers.append(original(*args)))
    exact, rough = (
        evaluate(run_folder, corpus_folder, precision=precision, device="cpu").scores["loss"]
        for precision in ("fp32", "int8")
    )
    assert len(layers) > 4
    assert 0 < abs(rough - exact) < 0.1
