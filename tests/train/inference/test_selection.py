"""Which clips a model is scored on: never by default those that it was trained on."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from data import folder as folder_corpus
from data.splits import split_clips
from train.inference.selection import Trained, load_trained, select
from train.run_folder import fingerprint


@pytest.fixture(scope="session")
def undivided(tmp_path_factory):
    """A folder of class folders, ten clips each, without splits."""
    root = tmp_path_factory.mktemp("undivided")
    for name in ("costs $5 _and_ $6", "dog", "rain"):
        (root / name).mkdir()
        for index in range(10):
            soundfile.write(root / name / f"{index}.wav", np.zeros(8_000), 16_000)
    return root


@pytest.fixture(scope="session")
def divided(undivided, tmp_path_factory):
    """The same classes below train/, valid/ and test/."""
    root = tmp_path_factory.mktemp("divided")
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        for name in ("costs $5 _and_ $6", "dog", "rain"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                soundfile.write(root / split / name / f"{split}{index}.wav", np.zeros(800), 16_000)
    return root


@pytest.fixture
def trained(classifier, undivided, recipe):
    """A model whose run divided `undivided` by its recipe's seed."""
    manifest = folder_corpus(undivided)
    sorted_classes = classifier.__class__(classifier.model, classifier.frontend, manifest.classes)
    recipe = replace(recipe, corpus="folder", seed=3)
    return Trained("RUN", sorted_classes, recipe, None, fingerprint(manifest))


@pytest.fixture
def stranger(trained):
    """The same model without a run."""
    return Trained("MODEL", trained.classifier)


def test_a_run_is_scored_on_the_fold_that_it_held_out(run_folder, corpus_folder, capsys):
    trained = load_trained(str(run_folder), "cpu")
    chosen = select(trained, corpus_folder, None, None, None)
    assert (chosen.corpus, chosen.name, chosen.fold) == ("esc50", "fold 2", 2)
    assert {clip.fold for clip in chosen.clips} == {2}
    assert not capsys.readouterr().err
    train = select(trained, corpus_folder, None, None, "train")
    assert {clip.fold for clip in train.clips} == {1, 3, 4, 5}
    assert train.fold is None


def test_another_fold_is_scored_with_a_warning(run_folder, corpus_folder, capsys):
    trained = load_trained(str(run_folder / "last"), "cpu")
    assert {c.fold for c in select(trained, corpus_folder, None, 3, None).clips} == {3}
    assert "held out fold 2 and was trained on fold 3" in capsys.readouterr().err


def test_a_run_that_divided_the_clips_itself_is_scored_on_its_test_part(trained, undivided):
    splits = split_clips(folder_corpus(undivided), None, 3)
    named = {None: splits.test, "validation": splits.validation, "train": splits.train}
    for split, clips in named.items():
        assert select(trained, undivided, None, None, split).clips == clips
    assert select(trained, undivided, None, None, None).name == "test"
    assert len(select(trained, undivided, None, None, "all").clips) == 30


def test_clips_that_the_run_did_not_divide_are_refused(trained, undivided):
    other = replace(trained, clips="of something else")
    with pytest.raises(ValueError, match="--split all to score every clip"):
        select(other, undivided, None, None, None)
    assert len(select(other, undivided, None, None, "all").clips) == 30


def test_parts_of_the_data_set_are_used(trained, stranger, divided):
    for model in (trained, stranger):
        assert len(select(model, divided, "folder", None, None).clips) == 3
        assert len(select(model, divided, "folder", None, "validation").clips) == 6


def test_without_run_and_parts_all_clips_are_scored(stranger, undivided):
    assert len(select(stranger, undivided, "folder", None, None).clips) == 30
    with pytest.raises(ValueError, match="no 'validation' clips"):
        select(stranger, undivided, "folder", None, "validation")


def test_what_does_not_fit_is_named(trained, stranger, undivided, corpus_folder):
    with pytest.raises(ValueError, match="give --corpus"):
        select(stranger, undivided, None, None, None)
    with pytest.raises(ValueError, match="--fold 1 and --split test do not go together"):
        select(trained, undivided, None, 1, "test")
    with pytest.raises(ValueError, match="fold 1 does not exist"):
        select(trained, undivided, None, 1, None)
    with pytest.raises(ValueError, match=r"knows the classes costs.*give the data it was trained"):
        select(stranger, corpus_folder, "esc50", None, None)


def test_classes_in_another_order_are_refused(trained, undivided):
    classifier = trained.classifier
    splits = (classifier.model, classifier.frontend, classifier.classes[::-1])
    other = replace(trained, classifier=classifier.__class__(*splits))
    with pytest.raises(ValueError, match="in another order"):
        select(other, undivided, None, None, None)


def test_a_table_is_read_by_the_columns_of_the_run(trained, undivided, tmp_path):
    files = sorted(undivided.rglob("*.wav"))
    lines = [f"{file},{file.parent.name},{index % 2}" for index, file in enumerate(files)]
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["sound,what,half", *lines]))
    names = {"path_column": "sound", "label_column": "what", "fold_column": "half"}
    run = replace(trained, recipe=replace(trained.recipe, corpus="table", **names), fold=1)
    chosen = select(run, table, None, None, None)
    assert [clip.path for clip in chosen.clips] == files[1::2]
