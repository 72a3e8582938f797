"""Corpora by name, on the real recordings where they are at hand."""

import pytest

from data.corpora import open_corpus


def test_esc10_by_name(recordings):
    manifest = open_corpus("esc10", recordings / "esc10")
    assert (len(manifest.clips), len(manifest.classes)) == (400, 10)
    assert manifest.folds == (1, 2, 3, 4, 5)
    assert {target for clip in manifest.clips for target in clip.targets} == set(range(10))


def test_unknown_corpus_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="corpus 'esc51' is unknown; use one of esc50, esc10"):
        open_corpus("esc51", tmp_path)


def test_columns_reach_a_table_and_are_refused_elsewhere(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "clips.csv").write_text("sound,animal\na.wav,dog\n")
    columns = {"path_column": "sound", "label_column": "animal"}
    assert open_corpus("table", tmp_path / "clips.csv", **columns).classes == ("dog",)
    with pytest.raises(ValueError, match="--label-column: only for --corpus table or"):
        open_corpus("folder", tmp_path, label_column="animal")
    with pytest.raises(ValueError, match="has splits, no column of them"):
        open_corpus("hugging_face", tmp_path, split_column="part")
