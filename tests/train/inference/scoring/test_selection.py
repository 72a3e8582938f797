"""Which clips a model is scored on: never by default those that it was trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ast_model import AudioClassifier
from data import folder as folder_corpus
from data.splits import split_clips
from train.inference.scoring.selection import Trained, load_trained, select
from train.run.folder import RunRecord, fingerprint


@pytest.fixture(scope="session")
def without_splits(tmp_path_factory):
    """A folder of class folders, ten clips each, without splits."""
    root = tmp_path_factory.mktemp("without_splits")
    for name in ("costs $5 _and_ $6", "dog", "rain"):
        (root / name).mkdir()
        for index in range(10):
            soundfile.write(root / name / f"{index}.wav", np.zeros(8_000), 16_000)
    return root


@pytest.fixture(scope="session")
def with_splits(without_splits, tmp_path_factory):
    """The same classes below train/, validation/ and test/."""
    root = tmp_path_factory.mktemp("divided")
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        for name in ("costs $5 _and_ $6", "dog", "rain"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                soundfile.write(root / split / name / f"{split}{index}.wav", np.zeros(800), 16_000)
    return root


@pytest.fixture
def trained(classifier, without_splits, recipe):
    """A model whose run split `without_splits` by its recipe's seed."""
    manifest = folder_corpus(without_splits)
    sorted_classes = AudioClassifier(classifier.model, classifier.frontend, manifest.classes)
    recipe = replace(recipe, corpus="folder", seed=3)
    record = RunRecord(Path("RUN"), recipe, None, fingerprint(manifest), "fp32", True)
    return Trained("RUN", sorted_classes, record)


@pytest.fixture
def stranger(trained):
    """The same model without a run."""
    return Trained("MODEL", trained.classifier)


def test_a_run_is_scored_on_the_fold_that_it_validated_on(run_folder, corpus_folder, caplog):
    trained = load_trained(run_folder, "cpu")
    chosen = select(trained, corpus_folder)
    assert (chosen.corpus, chosen.name, chosen.fold) == ("esc50", "fold 2", 2)
    assert {clip.fold for clip in chosen.clips} == {2}
    assert not caplog.records
    train = select(trained, corpus_folder, None, None, "train")
    assert {clip.fold for clip in train.clips} == {1, 3, 4, 5}
    assert train.fold is None
    assert select(trained, corpus_folder, split="validation") == chosen


def test_another_fold_is_scored_with_a_warning(run_folder, corpus_folder, caplog):
    trained = load_trained(run_folder / "last", "cpu")
    assert {c.fold for c in select(trained, corpus_folder, None, 3, None).clips} == {3}
    assert "validated on fold 2 and was trained on fold 3" in caplog.text


def test_the_runs_clips_are_known_by_another_corpus_name(run_folder, corpus_folder, caplog):
    trained = load_trained(run_folder, "cpu")
    assert select(trained, corpus_folder, "synthetic").name == "fold 2"
    assert not caplog.records
    select(trained, corpus_folder, "synthetic", fold=3)
    assert "was trained on fold 3" in caplog.text


def test_that_other_data_may_hold_training_clips_is_said(trained, with_splits, caplog):
    other = replace(
        trained, run=replace(trained.run, recipe=replace(trained.run.recipe, corpus="esc50"))
    )
    assert select(other, with_splits, "folder").name == "test"
    assert "RUN was trained on other data (esc50)" in caplog.text


def test_a_run_that_split_the_clips_itself_is_scored_on_its_test_split(trained, without_splits):
    splits = split_clips(folder_corpus(without_splits), None, 3)
    named = {None: splits.test, "validation": splits.validation, "train": splits.train}
    for split, clips in named.items():
        assert select(trained, without_splits, None, None, split).clips == clips
    assert select(trained, without_splits).name == "test"
    assert len(select(trained, without_splits, None, None, "all").clips) == 30


def test_clips_that_the_run_did_not_split_are_refused(trained, without_splits):
    other = replace(trained, run=replace(trained.run, fingerprint="of something else"))
    with pytest.raises(ValueError, match="--split all to score every clip"):
        select(other, without_splits)
    assert len(select(other, without_splits, None, None, "all").clips) == 30


def test_splits_of_the_data_set_are_used(trained, stranger, with_splits):
    for model in (trained, stranger):
        assert len(select(model, with_splits, "folder", None, None).clips) == 3
        assert len(select(model, with_splits, "folder", None, "validation").clips) == 6


def test_without_run_and_splits_all_clips_are_scored(stranger, without_splits):
    assert len(select(stranger, without_splits, "folder", None, None).clips) == 30
    with pytest.raises(ValueError, match="no 'validation' clips"):
        select(stranger, without_splits, "folder", None, "validation")


def test_what_does_not_fit_is_named(trained, stranger, without_splits, corpus_folder):
    with pytest.raises(ValueError, match="give --corpus"):
        select(stranger, without_splits)
    with pytest.raises(ValueError, match="--fold 1 and --split test do not go together"):
        select(trained, without_splits, None, 1, "test")
    with pytest.raises(ValueError, match="fold 1 does not exist"):
        select(trained, without_splits, None, 1, None)
    with pytest.raises(ValueError, match=r"knows the classes costs.*give the data it was trained"):
        select(stranger, corpus_folder, "esc50", None, None)


def test_classes_in_another_order_are_refused(trained, without_splits):
    classifier = trained.classifier
    parts = (classifier.model, classifier.frontend, classifier.classes[::-1])
    other = replace(trained, classifier=AudioClassifier(*parts))
    with pytest.raises(ValueError, match="in another order"):
        select(other, without_splits)


def test_a_table_is_read_by_the_columns_of_the_run(trained, without_splits, tmp_path):
    files = sorted(without_splits.rglob("*.wav"))
    lines = [f"{file},{file.parent.name},{index % 2}" for index, file in enumerate(files)]
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["sound,what,half", *lines]))
    names = {"path_column": "sound", "label_column": "what", "fold_column": "half"}
    recipe = replace(trained.run.recipe, corpus="table", **names)
    of_table = replace(trained, run=replace(trained.run, recipe=recipe, fold=1))
    chosen = select(of_table, table)
    assert [clip.path for clip in chosen.clips] == files[1::2]


def test_a_table_is_read_by_the_columns_that_are_given(stranger, without_splits, tmp_path):
    table = tmp_path / "clips.csv"
    rows = [f"{file},{file.parent.name}" for file in without_splits.rglob("*.wav")]
    table.write_text("\n".join(["recording,bird", *rows, ""]))
    with pytest.raises(ValueError, match="--label-column"):
        select(stranger, table, "table", columns={"path_column": "recording"})
    columns = {"path_column": "recording", "label_column": "bird"}
    assert len(select(stranger, table, "table", columns=columns).clips) == 30
