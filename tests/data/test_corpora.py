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
