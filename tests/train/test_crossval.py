"""Cross-validation: the table's arithmetic, and folds that are run once."""

import csv
import shutil
from dataclasses import replace
from statistics import stdev

import pytest

from data import esc50
from train import crossval
from train.crossval import best_mean_epoch, cross_validate, markdown, summary


def rows(*accuracies):
    return [{"epoch": i + 1, "accuracy": a, "f1": a, "mAP": a} for i, a in enumerate(accuracies)]


RUNS = {1: rows(0.5, 0.9, 0.7), 2: rows(0.6, 0.6, 0.5), 3: rows(0.2, 0.3, 0.4)}


def test_best_mean_epoch_is_best_on_average_not_in_any_fold():
    assert best_mean_epoch(RUNS, "accuracy") == 2
    assert best_mean_epoch({1: rows(0.5, 0.5)}, "accuracy") == 1


def test_summary_has_folds_mean_and_sample_deviation():
    table = summary(RUNS, "accuracy")
    assert [row["fold"] for row in table] == ["1", "2", "3", "mean", "standard deviation"]
    last = [row["accuracy, final checkpoint (epoch 3)"] for row in table]
    assert last == pytest.approx([0.7, 0.5, 0.4, 1.6 / 3, stdev([0.7, 0.5, 0.4])])
    assert [row["accuracy, epoch with the best mean (2)"] for row in table][:4] == pytest.approx(
        [0.9, 0.6, 0.3, 0.6]
    )


def test_folds_that_stopped_at_different_epochs_have_their_own_last_one():
    runs = {1: rows(0.5, 0.6), 2: rows(0.4, 0.7, 0.8)}
    table = summary(runs, "accuracy")
    last = [row["accuracy, final checkpoint (epochs 2 to 3)"] for row in table]
    assert last[:3] == pytest.approx([0.6, 0.8, 0.7])
    assert "| accuracy, epoch with the best mean (2) |" in markdown("esc10", table)


def test_one_fold_has_no_deviation():
    assert [row["fold"] for row in summary({1: rows(0.5)}, "accuracy")] == ["1", "mean"]


def test_markdown_names_both_choices_of_epoch():
    text = markdown("esc10", summary(RUNS, "accuracy"))
    assert (
        "| accuracy, final checkpoint (epoch 3) | accuracy, epoch with the best mean (2) |" in text
    )
    assert "| mean | 53.33 | 60.00 |" in text


def test_folds_are_run_once_and_the_table_is_written(recipe, manifest, tmp_path, monkeypatch):
    recipe = replace(recipe, epochs=1)
    cross_validate(recipe, manifest, tmp_path, folds=[1, 2], device="cpu")
    trained = []
    original = crossval.train

    def watched(recipe, manifest, folder, *, fold, **options):
        before = (folder / "state/state.pt").stat().st_mtime_ns if folder.exists() else None
        result = original(recipe, manifest, folder, fold=fold, **options)
        if (folder / "state/state.pt").stat().st_mtime_ns != before:
            trained.append(fold)
        return result

    monkeypatch.setattr(crossval, "train", watched)
    text = cross_validate(recipe, manifest, tmp_path, folds=[1, 2, 3], device="cpu")
    assert trained == [3]
    assert (tmp_path / "crossval.md").read_text() == text
    with (tmp_path / "crossval.csv").open() as file:
        assert [row["fold"] for row in csv.DictReader(file)][:3] == ["1", "2", "3"]
    plots = {path.name for path in (tmp_path / "plots").iterdir()}
    assert plots == {"learning_curves.png", "confusion.png"}


def test_several_classes_a_clip_are_cross_validated(recipe, manifest, tmp_path):
    """By the recipe's metric, and without a confusion matrix, which they cannot have."""
    clips = tuple(replace(c, targets=(*c.targets, (c.targets[0] + 1) % 8)) for c in manifest.clips)
    corpus = replace(manifest, clips=clips, multi_label=True)
    recipe = replace(recipe, epochs=1, loss="bce", metric="mAP")
    text = cross_validate(recipe, corpus, tmp_path, folds=[1, 2], device="cpu")
    assert "| mAP, final checkpoint (epoch 1) |" in text
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["learning_curves.png"]


def test_the_plots_are_of_the_clips_that_were_scored(recipe, corpus_folder, tmp_path, monkeypatch):
    shutil.copytree(corpus_folder, tmp_path / "corpus")
    manifest = esc50(tmp_path / "corpus")
    broken = manifest.split(1)[1][0].path
    broken.write_bytes(broken.read_bytes()[:20_000])
    titles = []
    monkeypatch.setattr(crossval, "learning_curves", lambda *parts: titles.append(parts[3]))
    recipe = replace(recipe, epochs=1, skip_unreadable=True)
    cross_validate(recipe, manifest, tmp_path / "out", folds=[1], device="cpu")
    assert "7 clips" in titles[0]


def test_lines_that_are_equal_in_all_folds_are_said_once(recipe, manifest, tmp_path, caplog):
    caplog.set_level("INFO")
    cross_validate(replace(recipe, epochs=1), manifest, tmp_path, folds=[1, 2], device="cpu")
    said = [each.message for each in caplog.records if each.name == "train.preparation.preflight"]
    assert len(said) == len(set(said)) > 5
    for fold in (1, 2):
        assert any(f"(fold {fold})" in line for line in caplog.messages)


def test_a_missing_fold_is_refused_before_any_is_trained(recipe, manifest, tmp_path):
    with pytest.raises(ValueError, match="fold 7 does not exist"):
        cross_validate(recipe, manifest, tmp_path / "runs", folds=[1, 7], device="cpu")
    assert not (tmp_path / "runs").exists()


def test_data_without_folds_are_refused(recipe, manifest, tmp_path):
    clips = tuple(replace(clip, fold=None) for clip in manifest.clips)
    with pytest.raises(ValueError, match="synthetic has no folds"):
        cross_validate(recipe, replace(manifest, clips=clips), tmp_path, device="cpu")
