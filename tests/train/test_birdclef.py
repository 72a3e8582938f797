"""BirdCLEF from the competitors' folder to a submission and its scores, at 32 kHz."""

import csv

import pytest

from ast_model.baseline import BaselineConfig, without_memory
from data.files import read_json
from tests.birdclef_layout import TONES, row, write_birdclef, write_sound
from train.recipes import RECIPES

MICRO = [
    "--init-from", "scratch", "--preset", "tiny224", "--depth", "1", "--patch", "128", "50",
    "--stride", "128", "50", "--epochs", "1", "--batch-size", "8", "--device", "cpu",
    "--precision", "fp32", "--workers", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven recordings of 3 s; one species has one."""
    folder = tmp_path_factory.mktemp("birdclef")
    rows = [
        row(species, f"XC{number}", f"author {number}", "['barswa']" if number == 3 else "[]")
        for species in ("amecro", "barswa")
        for number in range(5)
    ]
    rows.append(row("comrav", "XC9", "author 9"))
    write_birdclef(folder, rows, seconds=3.0)
    (folder / "soundscapes").mkdir()
    for number, tone in enumerate(TONES.values()):
        write_sound(folder / "soundscapes" / f"s_{number}.ogg", tone, 10.0, seed=number)
    return folder


@pytest.mark.parametrize("recipe", ["birdclef", "birdclef_cnn"])
def test_a_model_is_trained_submits_and_is_scored(folder, tmp_path, run_command, recipe):
    pytest.importorskip("audiomentations")
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    micro = MICRO if recipe == "birdclef" else [*MICRO, "--model", "test_resnet.r160_in1k"]
    code, _, err = run_command("train", recipe, "--data", folder, "--out", run, *micro, *cache)
    assert code == 0, err
    stored = read_json(run / "recipe.json")["recipe"]
    assert (stored["sample_rate"], stored["loss"], stored["corpus"]) == (32_000, "bce", "birdclef")
    assert stored["mean"] != RECIPES[recipe].mean  # measured

    out = tmp_path / "submission.csv"
    words = ("--format", "birdclef", "--out", out, "--device", "cpu")
    code, _, err = run_command("predict", run, folder / "soundscapes", *words)
    assert code == 0, err
    with out.open(newline="") as opened:
        header, *rows = csv.reader(opened)
    assert header == ["row_id", *TONES]
    assert [each[0] for each in rows] == [f"s_{n}_{end}" for n in range(3) for end in (5, 10)]
    assert all(0 <= float(cell) <= 1 for each in rows for cell in each[1:])

    words = ("evaluate", run, "--data", folder, "--out", tmp_path / "report", "--device", "cpu")
    code, printed, err = run_command(*words, *cache)
    assert code == 0, err
    assert "padded_cmAP" in printed
    assert (tmp_path / "report" / "per_class.csv").read_text().count("\n") == 4


def test_the_cnn_takes_the_recipes_input():
    recipe = RECIPES["birdclef_cnn"]
    without_memory(BaselineConfig(recipe.model, 3, recipe.num_frames, recipe.num_mel_bins))
