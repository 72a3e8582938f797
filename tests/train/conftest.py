"""A recipe and a data set so small that a run takes a second; a browser."""

from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import soundfile
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import synthetic
from data.files import write_json
from train.cli import main
from train.recipes.demo import DEMO
from train.run import plots
from train.run.folder import write_table

TINY = [
    "--corpus", "esc50", "--depth", "1", "--num-frames", "64", "--frequency-mask", "8",
    "--time-mask", "16", "--epochs", "1", "--precision", "fp32", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny():
    """Options of `ast-audio train demo` that make a run of a second."""
    return TINY


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    """Synthetic data: 8 classes of 5 clips, one a fold."""
    folder = tmp_path_factory.mktemp("corpus")
    synthetic(folder, clips_per_class=5)
    return folder


@pytest.fixture(scope="session")
def manifest(corpus_folder):
    return synthetic(corpus_folder, clips_per_class=5)


@pytest.fixture(scope="session")
def recipe():
    """One block; everything random is on: mixup, masks, noise, time shift, dropout, drop path."""
    return replace(
        DEMO,
        depth=1,
        num_frames=64,
        epochs=2,
        frequency_mask=8,
        time_mask=16,
        mixup_rate=0.5,
        noise=True,
        dropout=0.1,
        drop_path=0.1,
        precision="fp32",
    )


@pytest.fixture(scope="session")
def classifier():
    """A random AST of 0.66 s; its head is large, so that probabilities differ."""
    torch.manual_seed(0)
    model = AST(ASTConfig(num_classes=3, num_frames=64, width=16, depth=2, heads=2)).eval()
    model.head.weight.data.mul_(40)
    frontend = Frontend(FrontendConfig(num_frames=64))
    return AudioClassifier(model, frontend, ("dog", "rain", "costs $5 _and_ $6"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, classifier):
    """A tiny model as `weights.save` writes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    weights.save(folder, classifier)
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """A folder of recordings: two of a clip's length, a shorter one at 8 kHz, one of 5 s."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "deeper").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 80_000)
    soundfile.write(folder / "a.wav", noise[:10_000], 16_000)
    soundfile.write(folder / "deeper" / "a.flac", noise[20_000:29_000], 16_000)
    soundfile.write(folder / "short.wav", noise[:2_400], 8_000)
    soundfile.write(folder / "long.wav", noise * np.linspace(0, 3, 80_000), 16_000)
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden.wav").write_text("no recording either")
    return folder


@pytest.fixture(scope="session")
def run_folder(corpus_folder, tmp_path_factory):
    """A run that the command line trained, of one epoch validated on fold 2."""
    folder = tmp_path_factory.mktemp("runs") / "fold2"
    words = ["train", "demo", "--data", str(corpus_folder), "--fold", "2", "--out", str(folder)]
    assert main([*words, *TINY, "--cache", str(tmp_path_factory.mktemp("cache"))]) == 0
    return folder


@pytest.fixture
def fake_run(recipe):
    """Writes a run folder of no model, finished if it has a score (accuracy, and half as mAP)."""

    def write(folder, score=None, recipe=recipe, fold=1, clips="those"):
        content = {"recipe": recipe.to_json(), "fold": fold, "clips": clips}
        write_json(folder / "recipe.json", content)
        if score is not None:
            row = {"epoch": recipe.epochs, "accuracy": score, "mAP": score / 2}
            write_table(folder / "metrics.csv", [{**row, "epoch": 1}, row])
            results = {"validation_split": f"fold {fold}", "validation": {"last": row}}
            write_json(folder / "results.json", results)
            (folder / "predictions.csv").write_text("clip,target,a,b,c\n")
        return folder

    return write


@pytest.fixture
def run_command(capsys):
    """Runs `ast-audio` on the CPU; (exit code, standard output, standard error)."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True, scope="session")
def no_plots():
    """Most runs of the tests need no pictures, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("learning_curves", "confusion"):
            patch.setattr(f"train.run.log.{name}", lambda *_: None)
        yield


@pytest.fixture
def with_plots(monkeypatch):
    """Runs draw their plots after all."""
    for name in ("learning_curves", "confusion"):
        monkeypatch.setattr(f"train.run.log.{name}", getattr(plots, name))


@pytest.fixture(scope="module")
def browser():
    """Chromium; without it, or without playwright, the test skips."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    places = "/usr/lib/chromium/chromium", which("chromium") or ""  # Debian's; the shell's
    chromium = next((place for place in places if Path(place).is_file()), None)
    if chromium is None:
        pytest.skip("needs Chromium")
    flags = [
        "--no-sandbox",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()
