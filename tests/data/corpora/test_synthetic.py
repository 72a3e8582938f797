"""The synthetic data set: layout, repeatability, and that it is written whole or not at all."""

import numpy as np
import pytest
import soundfile

from data.corpora.esc50 import esc50
from data.corpora.synthetic import (
    CLIP_SECONDS,
    SAMPLE_RATE,
    SOUNDS,
    make_clip,
    read_synthetic,
    synthetic,
)


def contents(root) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    return root, synthetic(root, clips_per_class=5)


def test_every_class_occurs_in_every_fold(corpus):
    _, manifest = corpus
    assert (manifest.name, len(manifest.classes), manifest.folds) == (
        "synthetic",
        8,
        (1, 2, 3, 4, 5),
    )
    assert len({(clip.targets, clip.fold) for clip in manifest.clips}) == len(manifest.clips) == 40


def test_it_is_laid_out_as_esc50_and_says_that_it_is_synthetic(corpus):
    root, manifest = corpus
    assert esc50(root).clips == manifest.clips
    assert all("synthetic" in clip.path.name for clip in manifest.clips)
    assert (root / "README.txt").read_text().startswith("Synthetic data")


def test_clips_are_two_seconds_of_mono_pcm16_at_16_khz_and_do_not_clip(corpus):
    _, manifest = corpus
    for clip in manifest.clips:
        info = soundfile.info(clip.path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert info.frames == CLIP_SECONDS * SAMPLE_RATE
        assert 0.05 < np.abs(soundfile.read(clip.path)[0]).max() < 1


def test_the_same_seed_gives_the_same_files_and_another_seed_other_sounds(corpus, tmp_path):
    root, manifest = corpus
    synthetic(tmp_path / "same", clips_per_class=5)
    assert contents(tmp_path / "same") == contents(root)
    other = synthetic(tmp_path / "other", clips_per_class=5, seed=1)
    pairs = zip(manifest.clips, other.clips, strict=True)
    assert all(one.path.read_bytes() != two.path.read_bytes() for one, two in pairs)


def test_more_clips_leave_the_first_ones_as_they_are(corpus, tmp_path):
    root, _ = corpus
    synthetic(tmp_path, clips_per_class=6)
    small, large = contents(root / "audio"), contents(tmp_path / "audio")
    assert len(large) == 48 and small.items() <= large.items()


def test_no_two_clips_of_a_class_are_alike(corpus):
    _, manifest = corpus
    assert len({clip.path.read_bytes() for clip in manifest.clips}) == 40


@pytest.mark.parametrize("category", SOUNDS)
def test_start_loudness_and_noise_vary_within_a_class(category):
    clips = [make_clip(SOUNDS[category], np.random.default_rng(seed)) for seed in range(20)]
    peaks = [np.abs(clip).max() for clip in clips]
    edges = [np.std(clip[:800]) / np.std(clip) for clip in clips]  # noise alone, or the sound
    assert max(peaks) > 3 * min(peaks)
    assert max(edges) > 3 * min(edges)


def test_a_finished_set_is_not_written_again(corpus, monkeypatch):
    root, manifest = corpus
    monkeypatch.setitem(SOUNDS, "rising_chirps", None)  # would not bear being called
    assert synthetic(root, clips_per_class=5) == manifest


def test_a_set_broken_off_half_way_is_redone(corpus, tmp_path, monkeypatch):
    def break_off(*_):
        raise KeyboardInterrupt

    root, _ = corpus
    with monkeypatch.context() as patch:
        patch.setitem(SOUNDS, "vibrato_tone", break_off)
        with pytest.raises(KeyboardInterrupt):
            synthetic(tmp_path, clips_per_class=5)
    assert (tmp_path / "audio").exists() and not (tmp_path / "meta" / "esc50.csv").exists()
    synthetic(tmp_path, clips_per_class=5)
    assert contents(tmp_path) == contents(root)


def test_a_clip_that_was_deleted_is_made_again(tmp_path):
    manifest = synthetic(tmp_path, clips_per_class=5)
    before = contents(tmp_path)
    manifest.clips[7].path.unlink()
    synthetic(tmp_path, clips_per_class=5)
    assert contents(tmp_path) == before


def test_another_data_set_is_never_overwritten(tmp_path):
    table = tmp_path / "meta" / "esc50.csv"
    table.parent.mkdir()
    table.write_text("filename,fold,target,category,esc10\n")
    with pytest.raises(ValueError, match="belongs to another data set or other settings"):
        synthetic(tmp_path)
    assert list(contents(tmp_path)) == ["meta/esc50.csv"]


@pytest.mark.parametrize("name", ["README.txt", "notes.txt", "audio"])
def test_nothing_is_written_into_a_folder_that_holds_something_else(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        synthetic(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_notice_that_was_edited_is_kept(tmp_path):
    manifest = synthetic(tmp_path, clips_per_class=5)
    (tmp_path / "README.txt").write_text("mine")
    manifest.clips[7].path.unlink()
    synthetic(tmp_path, clips_per_class=5)
    assert (tmp_path / "README.txt").read_text() == "mine"


def test_reading_takes_a_set_of_any_settings_and_writes_nothing(corpus, tmp_path):
    root, manifest = corpus
    assert read_synthetic(root) == manifest
    with pytest.raises(FileNotFoundError, match=r"no synthetic data in .*train demo --data"):
        read_synthetic(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_reading_refuses_another_data_set(corpus, tmp_path):
    table = tmp_path / "meta" / "esc50.csv"
    table.parent.mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    table.write_text("filename,fold,target,category,esc10\na.wav,1,0,dog,False\n")
    with pytest.raises(ValueError, match="another data set than the synthetic one"):
        read_synthetic(tmp_path)


@pytest.mark.parametrize("arguments", [{"clips_per_class": 4}, {"seed": -1}], ids=str)
def test_arguments_out_of_range_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="expected at least 5 clips in a class and a seed from 0"):
        synthetic(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: expected a folder"):
        synthetic(tmp_path / "file")
