"""What the audit finds, each in a line, and that it reads little to find it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.audio import load_audio
from data.audit import audit
from data.corpora.esc50 import esc50
from data.corpora.folder import folder
from data.manifest import Clip, Clips, Manifest
from data.splits import Splits, split_clips, stratified_split
from data.statistics import Statistics

CLASSES = ("cow", "owl")


def sound(path: Path, level: float = 0.1, samples: int = 1600, rate: int = 16_000) -> Path:
    soundfile.write(path, np.full(samples, level), rate)
    return path


@pytest.fixture
def splits(tmp_path) -> tuple[list[Clip], list[Clip]]:
    """12 training and 2 validation clips of each class, all of one size, no two alike."""
    clips = [
        Clip(sound(tmp_path / f"{target}-{n}.wav", (1 + n + 20 * target) / 100), (target,))
        for target in (0, 1)
        for n in range(14)
    ]
    evaluation = [clips[n] for n in (0, 1, 14, 15)]
    return [clip for clip in clips if clip not in evaluation], evaluation


def split(training, validation, test=(), name="validation"):
    return Splits(*map(Clips.of, (training, validation, test)), None, name)


def run(training, evaluation, **arguments):
    manifest = Manifest("farm", (*training, *evaluation), CLASSES)
    found = audit(manifest, split(training, evaluation), **arguments)
    assert all("\n" not in line for line in found.lines())
    return found


def test_sound_data_have_facts_only(splits):
    found = run(*splits)
    assert (found.notes, found.errors, found.unreadable) == ((), (), {})
    assert found.facts == (
        "farm: 24 training and 4 validation clips, 2 classes",
        "training clips by class: 12 of each",
        "duration 0:00:03 (h:mm:ss) in total, each clip 0.10 s",
        "sample rates: 28 clips at 16000 Hz",
    )
    assert (found.training, found.evaluation) == tuple(map(tuple, splits))
    found.require_sound()


def test_without_labels_there_is_no_word_on_classes(splits):
    training, evaluation = ([replace(c, targets=()) for c in clips] for clips in splits)
    manifest = Manifest("farm", (*training, *evaluation), (), multi_label=True)
    found = audit(manifest, split(training, evaluation))
    assert found.facts[0] == "farm: 24 training and 4 validation clips, without labels"
    assert not any("class" in line for line in found.lines())


@pytest.mark.parametrize(
    ("validation", "test", "name", "expected"),
    [
        (2, 2, "validation", "24 training, 2 validation and 2 test clips, 2 classes"),
        (4, 0, "fold 3", "24 training and 4 validation clips (fold 3), 2 classes"),
        (4, 0, "test", "24 training and 4 validation clips (validated on the test split), 2"),
        (0, 0, "validation", "24 training clips, 2 classes"),
    ],
)
def test_clips_are_counted_by_split(splits, validation, test, name, expected):
    training, evaluation = splits
    parts = evaluation[:validation], evaluation[4 - test :] if test else []
    manifest = Manifest("farm", (*training, *evaluation), CLASSES)
    (first, *_) = audit(manifest, split(training, *parts, name)).facts
    assert first.startswith(f"farm: {expected}")


def test_the_shortest_and_the_longest_clip_of_either_split_are_named(splits, tmp_path):
    training, evaluation = splits
    training.append(Clip(sound(tmp_path / "short.wav", samples=800), (0,)))
    evaluation.append(Clip(sound(tmp_path / "long.wav", samples=8000), (1,)))
    facts = run(training, evaluation).facts
    assert facts[2].endswith("shortest 0.05 s (short.wav), longest 0.50 s (long.wav)")
    assert facts[3] == (
        "lengths: one clip in twenty up to 0.10 s, half up to 0.10 s, nineteen in twenty up to "
        "0.10 s"
    )


def test_equal_files_in_both_splits_are_an_error_whatever_their_names(splits, tmp_path):
    training, evaluation = splits
    copy = tmp_path / "copy.wav"
    copy.write_bytes(training[3].path.read_bytes())
    (error,) = run(training, [*evaluation, Clip(copy, (0,))]).errors
    assert error.startswith(
        f"1 validation and test clips are trained on as well, the first is {copy} = "
    )
    assert str(training[3].path) in error


def test_equal_files_in_validation_and_test_are_noted(splits, tmp_path):
    training, evaluation = splits
    copy = tmp_path / "copy.wav"
    copy.write_bytes(evaluation[1].path.read_bytes())
    test = [*evaluation[2:], Clip(copy, evaluation[1].targets)]
    manifest = Manifest("farm", (*training, *evaluation, *test), CLASSES)
    found = audit(manifest, split(training, evaluation[:2], test))
    assert not found.errors
    (note,) = [note for note in found.notes if "validation clips as well" in note]
    assert note.startswith(f"1 test clips are validation clips as well, the first is {copy} = ")
    assert str(evaluation[1].path) in note


def test_one_clip_in_both_splits_is_an_error(splits):
    training, evaluation = splits
    assert (
        "1 validation and test clips are trained on as well"
        in run(training, [*evaluation, training[0]]).errors[0]
    )


def test_equal_files_in_one_split_are_none(splits, tmp_path):
    training, evaluation = splits
    copy = tmp_path / "copy.wav"
    copy.write_bytes(training[3].path.read_bytes())
    assert run([*training, Clip(copy, (0,))], evaluation).errors == ()


@pytest.mark.parametrize(("target", "name"), [(0, "cow"), (1, "owl")])
def test_classes_without_training_clips_are_an_error(splits, target, name):
    training, evaluation = splits
    found = run([clip for clip in training if clip.targets != (target,)], evaluation)
    assert len(found.errors) == 1
    assert f"1 of 2 classes have no training clips ('{name}')" in found.errors[0]
    assert found.notes == ()  # nor are they noted as having few


def test_no_training_clips_at_all(splits):
    assert "no clips to train on" in run([], splits[1]).errors[0]


def test_no_evaluated_clips_are_no_finding(splits):
    found = run(splits[0], [])
    assert (found.notes, found.errors) == ((), ())


def test_clips_shorter_than_a_window_are_an_error(splits, tmp_path):
    training, evaluation = splits
    enough = Clip(sound(tmp_path / "enough.wav", samples=400), (0,))
    assert run([*training, enough], evaluation).errors == ()
    short = Clip(sound(tmp_path / "short.wav", samples=199, rate=8000), (0,))
    (error,) = run([*training, short], evaluation).errors
    assert "1 clips are shorter than one window of 25 ms" in error
    assert "short.wav (24.9 ms)" in error


def spoil(splits) -> tuple[list[Clip], list[Clip]]:
    """One missing file, one that is no audio, one truncated, one empty, one without samples."""
    training, evaluation = splits
    training[0].path.unlink()
    training[1].path.write_bytes(b"no audio at all\n" * 100)
    training[2].path.write_bytes(training[2].path.read_bytes()[:1000])
    evaluation[0].path.write_bytes(b"")
    sound(evaluation[3].path, samples=0)
    return training, evaluation


def test_missing_and_unreadable_files_are_an_error_and_listed_with_reasons(splits):
    training, evaluation = spoil(splits)
    found = run(training, evaluation)
    (error,) = found.errors
    assert error.startswith("5 of 28 clips cannot be used, 1 files are missing and 4 unreadable")
    assert str(training[0].path) in error
    assert list(found.unreadable) == [
        clip.path for clip in (*training[:3], evaluation[0], evaluation[3])
    ]
    reasons = [line for line in found.lines() if line.startswith("unreadable: ")]
    words = ["does not exist", "cannot be decoded", "truncated", "is empty", "no samples"]
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))
    with pytest.raises(ValueError, match="5 of 28 clips"):
        found.require_sound()


def test_skipping_them_is_noted_and_gives_the_clips_that_are_left(splits):
    training, evaluation = spoil(splits)
    found = run(training, evaluation, skip_unreadable=True)
    assert found.errors == ()
    assert found.notes[0].startswith("5 of 28 clips cannot be used")
    assert found.training == tuple(training[3:])
    assert found.evaluation == tuple(evaluation[1:3])
    assert len(found.unreadable) == 5


def test_a_class_that_skipping_leaves_without_clips_is_an_error(splits):
    training, evaluation = splits
    for clip in training:
        if clip.targets == (1,):
            clip.path.unlink()
    (error,) = run(training, evaluation, skip_unreadable=True).errors
    assert "('owl')" in error


def test_a_few_clips_in_a_class_are_noted(splits):
    training, evaluation = splits
    assert run(training[2:], evaluation).notes == ()
    (note,) = run(training[3:], evaluation).notes
    assert note == "1 classes have fewer than 10 training clips: 'cow 9'"


def test_classes_without_evaluated_clips_are_noted(splits):
    training, evaluation = splits
    (note,) = run(training, evaluation[:2]).notes
    assert note == "1 classes have no validation or test clips, no score will show them: 'owl'"


def test_clips_of_no_class_are_noted(splits, tmp_path):
    training, evaluation = splits
    (note,) = run([*training, Clip(sound(tmp_path / "none.wav"), ())], evaluation).notes
    assert note.startswith("1 clips are of no class")


def test_a_rate_below_the_models_is_noted_and_one_above_is_not(splits, tmp_path):
    training, evaluation = splits
    training.append(Clip(sound(tmp_path / "8.wav", rate=8000), (0,)))
    training.append(Clip(sound(tmp_path / "44.wav", rate=44_100), (0,)))
    found = run(training, evaluation)
    assert "1 clips are recorded at 8000 Hz: nothing in them above 4000 Hz" in found.notes[0]
    assert len(found.notes) == 1
    assert (
        found.facts[4]
        == "sample rates: 28 clips at 16000 Hz, 1 clips at 8000 Hz, 1 clips at 44100 Hz"
    )
    assert len(run(training, evaluation, sample_rate=44_100).notes) == 2
    assert len(run(training, evaluation, sample_rate=44_100, highest=8e3).notes) == 1
    assert not run(training, evaluation, sample_rate=44_100, highest=4e3).notes
    assert found.training_rates.tolist()[-2:] == [8_000, 44_100]


def test_groups_in_both_splits_are_noted(splits):
    groups = ["ada", "ben"]
    training, evaluation = (
        [Clip(clip.path, clip.targets, group=groups[clip.targets[0] * odd]) for clip in split]
        for split, odd in zip(splits, (0, 1), strict=True)
    )
    training[0] = replace(training[0], group="cid")
    (note,) = run(training, evaluation).notes
    assert note.startswith(
        "1 of 2 groups of validation and test clips are trained on as well ('ada')"
    )


def test_clips_are_counted_by_class_and_by_length(splits, tmp_path):
    training, evaluation = splits
    training.append(Clip(sound(tmp_path / "long.wav", samples=160_000), (1,)))
    found = run(training, evaluation)
    assert found.facts[1] == "training clips by class: owl 13, cow 12"
    assert found.training_seconds.tolist() == [0.1] * 24 + [10.0]
    many = Manifest("many", tuple(training), tuple(f"class {n:02}" for n in range(20)))
    counted = audit(many, split(training, [])).facts[1]
    assert counted.startswith("training clips by class: class 01 13, class 00 12, class 02 0")
    assert counted.endswith(", …, class 15 0, class 16 0, class 17 0, class 18 0, class 19 0")


def test_loudness_clipping_and_near_silence_are_told(splits, tmp_path):
    training, evaluation = splits
    assert run(training, evaluation, load=load_audio).facts[-1] == (
        "loudness of 24 training clips: median -15 dB of full scale, nine in ten between -28 and "
        "-10; none clipped, none nearly silent"
    )
    silent, loud = tmp_path / "silent.wav", tmp_path / "loud.wav"
    training += [Clip(sound(silent, 0.0005), (0,)), Clip(sound(loud, 1.0), (0,))]
    found = run(training, evaluation, load=load_audio)
    assert found.facts[-1].endswith("; 1 clipped, 1 nearly silent")
    quiet, clipped = found.notes
    assert quiet.startswith("1 of 26 clips listened to are nearly silent (below -60 dB)")
    assert str(silent) in quiet
    assert clipped.startswith("1 of 26 clips listened to are clipped")
    assert str(loud) in clipped


def test_only_some_clips_are_decoded_and_none_where_there_are_errors(splits, monkeypatch):
    decoded = []

    def load(path, sample_rate):
        decoded.append(path)
        return load_audio(path, sample_rate)

    monkeypatch.setattr("data.audit.LISTENED", 5)
    run(*splits, load=load)
    assert len(decoded) == 5
    splits[0][0].path.unlink()
    run(*splits, load=load)
    assert len(decoded) == 5


def test_mean_and_std_are_compared_with_the_recipes(splits):
    expected = (-6.6268, 5.3585)
    near = run(*splits, measure=lambda clips: Statistics(-6.5, 5.0, 0.0), expected=expected)
    assert near.facts[-1] == (
        "mean -6.5000, std 5.0000 (padding included -6.5000, 5.0000); "
        "the recipe has -6.6268, 5.3585"
    )
    assert near.notes == ()
    for mean, std in [(-4.27, 5.36), (-6.63, 3.0), (-6.63, 7.0)]:
        measured = Statistics(mean, std, 0.0)
        (note,) = run(*splits, measure=lambda _, found=measured: found, expected=expected).notes
        assert f"--mean {mean:.4f} --std {std:.4f}" in note


def test_a_recipe_may_count_the_padding_as_published_ones_do(splits):
    measured = Statistics(-9.0, 4.0, 0.25)
    mean, std = measured.with_padding()
    for expected in [(-9.0, 4.0), (mean, std)]:
        assert run(*splits, measure=lambda _: measured, expected=expected).notes == ()
    assert len(run(*splits, measure=lambda _: measured, expected=(-3.0, 4.0)).notes) == 1


def test_mean_and_std_are_those_of_the_training_clips(splits):
    measured = []
    run(*splits, measure=lambda clips: measured.append(clips) or Statistics(0.0, 1.0, 0.0))
    assert measured == [tuple(splits[0])]


def test_the_first_error_is_raised_with_the_number_of_the_others(splits):
    training, evaluation = splits
    found = run(training[:12], [*evaluation, training[0]])
    assert len(found.errors) == 2
    with pytest.raises(ValueError, match=r"no training clips.*\(and 1 more errors\)$"):
        found.require_sound()


def test_a_long_list_of_names_is_cut(splits):
    manifest = Manifest("nine", tuple(splits[0]), (*CLASSES, *"abcdefg"))
    (error,) = audit(manifest, split(*splits)).errors
    assert "7 of 9 classes have no training clips ('a', 'b', 'c', 'd', 'e' and 2 more)" in error


def test_real_recordings_are_sound(recordings):
    esc10 = esc50(recordings / "esc10", "esc10")
    digits = stratified_split(folder(recordings / "spoken_digits"))
    first = audit(esc10, split_clips(esc10, 1, seed=0))
    second = audit(digits, split_clips(digits, None, seed=0))
    assert (first.errors, first.notes, second.errors) == ((), (), ())
    assert "duration 0:33:23" in first.facts[2]
    assert "2000 clips are recorded at 8000 Hz" in second.notes[0]
