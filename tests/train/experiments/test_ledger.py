"""The ledger: every published score, and ours only where there is a run of the same recipe."""

import re
from dataclasses import asdict, replace

import pytest

from data.files import write_json
from train.experiments.cost import Cost, count
from train.experiments.ledger import ledger
from train.experiments.paper import published_results
from train.recipes.audioset import AUDIOSET_BALANCED, AUDIOSET_FULL
from train.recipes.esc50 import ESC50, ESC50_IMAGENET

# The scores of the paper and of the authors' released logs, once more.
SCORES = """0.347 0.459 0.448 0.363 0.475 0.378 0.485 88.7 95.6 95.75 98.11 98.13 97.88
0.148 0.366 0.320 0.330 0.305 0.346 0.336 0.342 0.344 0.451 0.456 0.455 0.154 0.143 0.139"""


@pytest.fixture
def runs(fake_run, tmp_path):
    """Two folds of ESC-50 from ImageNet, and runs that are not of a published recipe."""
    for fold, score in ((1, 0.87), (2, 0.89)):
        recipe = replace(ESC50_IMAGENET, precision="bf16", seed=fold)
        fake_run(tmp_path / "runs" / f"fold{fold}", score, recipe, fold)
    fake_run(tmp_path / "runs" / "longer", 0.99, replace(ESC50_IMAGENET, epochs=26))
    fake_run(tmp_path / "runs" / "unfinished", None, ESC50)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "recipe.json").write_text('{"recipe": {}, "fold": 1}')
    return tmp_path / "runs"


def lines(text, beginning):
    return [line for line in text.splitlines() if line.startswith(f"| {beginning}")]


def test_every_published_score_has_a_line(runs):
    text = ledger(runs)
    scores = {re.match(r"[\d.]+", result.score)[0] for result in published_results()}
    assert scores == set(SCORES.split())
    assert all(f"| {each.title} | {each.score} |" in text for each in published_results())


def test_our_score_is_that_of_finished_runs_of_the_same_recipe(runs):
    (line,) = lines(ledger(runs), "ESC-50 accuracy (%), from ImageNet")
    assert "| 88.7 ± 0.7 |" in line
    name = "accuracy on the validation split, final checkpoint"
    assert f"| 88.00 ± 1.41 (2 runs, folds 1, 2; {name}) |" in line
    assert "`ast-audio crossval esc50_imagenet --data datasets/esc50`" in line


def test_what_was_not_run_says_so_and_what_it_needs(runs):
    text = ledger(runs)
    for line in lines(text, "ESC-50 accuracy (%), from AudioSet"):
        assert "not run here: needs ESC-50 (600 MB) and AudioSet weights" in line
    (line,) = lines(text, "AudioSet full mAP, pretraining: none")
    assert "not run here: needs AudioSet full and no weights" in line
    assert text.count("not run here") == len(list(published_results())) - 1


def test_a_map_of_the_final_checkpoint_is_that_and_an_ensemble_is_no_single_run(fake_run, tmp_path):
    run = fake_run(tmp_path / "full", 0.8, AUDIOSET_FULL, fold=None)
    scores = {
        name: {"accuracy": 0.5, "mAP": value}
        for name, value in (("last", 0.44), ("averaged", 0.45))
    }
    write_json(run / "results.json", {"validation_split": "test", "validation": scores})
    text = ledger(tmp_path)
    (averaged,) = lines(text, "AudioSet full mAP, averaged weights")
    (last,) = lines(text, "AudioSet full mAP, last checkpoint")
    assert "| 0.450 (1 run; mAP on the validation split, averaged weights) |" in averaged
    assert "| 0.440 (1 run; mAP of the final checkpoint) |" in last
    assert all("not run here" in line for line in lines(text, "AudioSet full mAP, ensemble"))


def test_hours_follow_from_a_measured_speed(runs, tmp_path):
    flops = count(AUDIOSET_BALANCED, 527)[2]
    cost = Cost(1212, 87_000_000, flops // 2, "a GPU", "bf16", 12, 100.0, 1, 300.0, 1)
    write_json(tmp_path / "bench.json", asdict(cost))
    far = replace(cost, flops=10**6, training_speed=1e-3)
    write_json(tmp_path / "far.json", asdict(far))
    text = ledger(runs, [tmp_path / "far.json", tmp_path / "bench.json"])
    (line,) = lines(text, "AudioSet balanced mAP, averaged weights")
    hours = 25 * 22_176 / 100 * 2 / 3600  # epochs, clips, clips/s at half the FLOPs
    assert f"| {hours:.1f} (a GPU) |" in line
    assert "| not measured |" in lines(ledger(runs), "AudioSet balanced mAP, averaged")[0]


def test_a_file_that_holds_no_cost_is_refused(runs, tmp_path):
    (tmp_path / "bench.json").write_text('{"speed": 3}')
    with pytest.raises(ValueError, match="no measured cost; write it with `ast-audio cost RECIPE"):
        ledger(runs, [tmp_path / "bench.json"])


def test_the_command_writes_a_file(runs, run_command, tmp_path):
    code, output, _ = run_command("ledger", "--runs", runs, "--out", tmp_path / "LEDGER.md")
    assert code == 0 and output == f"wrote {tmp_path / 'LEDGER.md'}\n"
    assert (tmp_path / "LEDGER.md").read_text(encoding="utf-8") == ledger(runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flops": 0}, "flops is 0"),
        ({"training_speed": 0.0}, "training_speed is 0.0"),
        ({"training_speed": "fast"}, "training_speed is 'fast'"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"device": ["a GPU"]}, "device is"),
    ],
)
def test_a_cost_of_something_else_is_refused(runs, tmp_path, change, message):
    cost = Cost(None, 87_000_000, 10**9, "a GPU", "bf16", 12, 100.0, 1, 300.0, 1)
    write_json(tmp_path / "bench.json", asdict(cost) | change)
    with pytest.raises(ValueError, match=rf"bench\.json: {message}"):
        ledger(runs, [tmp_path / "bench.json"])


def test_a_run_whose_results_are_damaged_is_left_out(fake_run, tmp_path):
    run = fake_run(tmp_path / "full", 0.8, AUDIOSET_FULL, fold=None)
    assert "(1 run;" in ledger(tmp_path)
    (run / "results.json").write_text("[]")
    assert "(1 run;" not in ledger(tmp_path)
