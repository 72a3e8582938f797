"""What the audit finds, each in a line, and that it reads little to find it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import data.audit
from data.audit import audit, read_header
from data.corpora.esc50 import esc50
from data.corpora.folder import folder
from data.manifest import Clip, Manifest
from data.splits import stratified_split

CLASSES = ("cow", "owl")


def sound(path: Path, level: float = 0.1, samples: int = 1600, rate: int = 16_000) -> Path:
    soundfile.write(path, np.full(samples, level), rate)
    return path


@pytest.fixture
def splits(tmp_path) -> tuple[list[Clip], list[Clip]]:
    """12 training and 2 held-out clips of each class, all of one size, no two alike."""
    clips = [
        Clip(sound(tmp_path / f"{target}-{n}.wav", (1 + n + 20 * target) / 100), (target,))
        for target in (0, 1)
        for n in range(14)
    ]
    held_out = [clips[n] for n in (0, 1, 14, 15)]
    return [clip for clip in clips if clip not in held_out], held_out


def run(training, held_out, **arguments):
    manifest = Manifest("farm", (*training, *held_out), CLASSES)
    found = audit(manifest, training, held_out, **arguments)
    assert all("\n" not in line for line in found.lines())
    return found


def test_sound_data_have_facts_only(splits):
    found = run(*splits)
    assert (found.notes, found.errors, found.unreadable) == ((), (), {})
    assert found.facts == (
        "farm: 24 training and 4 held-out clips, 2 classes",
        "duration 0:00:03 (h:mm:ss) in total, shortest 0.10 s (0-0.wav), longest 0.10 s (1-9.wav)",
        "sample rates: 28 clips at 16000 Hz",
    )
    assert (found.training, found.held_out) == tuple(map(tuple, splits))
    found.require_sound()


def test_the_shortest_and_the_longest_clip_of_either_part_are_named(splits, tmp_path):
    training, held_out = splits
    training.append(Clip(sound(tmp_path / "short.wav", samples=800), (0,)))
    held_out.append(Clip(sound(tmp_path / "long.wav", samples=8000), (1,)))
    assert (
        run(training, held_out)
        .facts[1]
        .endswith("shortest 0.05 s (short.wav), longest 0.50 s (long.wav)")
    )


def test_equal_files_in_both_parts_are_an_error_whatever_their_names(splits, tmp_path):
    training, held_out = splits
    copy = tmp_path / "copy.wav"
    copy.write_bytes(training[3].path.read_bytes())
    (error,) = run(training, [*held_out, Clip(copy, (0,))]).errors
    assert error.startswith(f"1 held-out clips are trained on as well, the first is {copy} = ")
    assert str(training[3].path) in error


def test_one_clip_in_both_parts_is_an_error(splits):
    training, held_out = splits
    assert (
        "1 held-out clips are trained on as well"
        in run(training, [*held_out, training[0]]).errors[0]
    )


def test_equal_files_in_one_part_are_none(splits, tmp_path):
    training, held_out = splits
    copy = tmp_path / "copy.wav"
    copy.write_bytes(training[3].path.read_bytes())
    assert run([*training, Clip(copy, (0,))], held_out).errors == ()


def test_only_files_of_equal_size_are_read(splits, tmp_path, monkeypatch):
    read = []
    digest = data.audit._digest
    monkeypatch.setattr(data.audit, "_digest", lambda path: read.append(path) or digest(path))
    training = [Clip(sound(tmp_path / f"{n}.wav", samples=2000 + n), (n % 2,)) for n in range(24)]
    held_out = [Clip(sound(tmp_path / f"held{n}.wav", samples=2023 + n), (1,)) for n in range(9)]
    run(training, held_out)
    assert sorted(path.name for path in read) == ["23.wav", "held0.wav"]


@pytest.mark.parametrize(("target", "name"), [(0, "cow"), (1, "owl")])
def test_classes_without_training_clips_are_an_error(splits, target, name):
    training, held_out = splits
    found = run([clip for clip in training if clip.targets != (target,)], held_out)
    assert len(found.errors) == 1
    assert f"1 of 2 classes have no training clips ('{name}')" in found.errors[0]
    assert found.notes == ()  # nor are they noted as having few


def test_no_training_clips_at_all(splits):
    assert "no clips to train on" in run([], splits[1]).errors[0]


def test_no_held_out_clips_are_no_finding(splits):
    found = run(splits[0], [])
    assert (found.notes, found.errors) == ((), ())


def test_clips_shorter_than_a_window_are_an_error(splits, tmp_path):
    training, held_out = splits
    enough = Clip(sound(tmp_path / "enough.wav", samples=400), (0,))
    assert run([*training, enough], held_out).errors == ()
    short = Clip(sound(tmp_path / "short.wav", samples=199, rate=8000), (0,))
    (error,) = run([*training, short], held_out).errors
    assert "1 clips are shorter than one window of 25 ms" in error
    assert "short.wav (24.9 ms)" in error


def spoil(splits) -> tuple[list[Clip], list[Clip]]:
    """One missing file, one that is no audio, one truncated, one empty, one without samples."""
    training, held_out = splits
    training[0].path.unlink()
    training[1].path.write_bytes(b"no audio at all\n" * 100)
    training[2].path.write_bytes(training[2].path.read_bytes()[:1000])
    held_out[0].path.write_bytes(b"")
    sound(held_out[3].path, samples=0)
    return training, held_out


def test_missing_and_unreadable_files_are_an_error_and_listed_with_reasons(splits):
    training, held_out = spoil(splits)
    found = run(training, held_out)
    (error,) = found.errors
    assert error.startswith("5 of 28 clips cannot be used, 1 files are missing and 4 unreadable")
    assert str(training[0].path) in error
    assert list(found.unreadable) == [
        clip.path for clip in (*training[:3], held_out[0], held_out[3])
    ]
    reasons = [line for line in found.lines() if line.startswith("unreadable: ")]
    words = ["does not exist", "cannot be decoded", "truncated", "is empty", "no samples"]
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))
    with pytest.raises(ValueError, match="5 of 28 clips"):
        found.require_sound()


def test_skipping_them_is_noted_and_gives_the_clips_that_are_left(splits):
    training, held_out = spoil(splits)
    found = run(training, held_out, skip_unreadable=True)
    assert found.errors == ()
    assert found.notes[0].startswith("5 of 28 clips cannot be used")
    assert found.training == tuple(training[3:])
    assert found.held_out == tuple(held_out[1:3])
    assert len(found.unreadable) == 5


def test_a_class_that_skipping_leaves_without_clips_is_an_error(splits):
    training, held_out = splits
    for clip in training:
        if clip.targets == (1,):
            clip.path.unlink()
    (error,) = run(training, held_out, skip_unreadable=True).errors
    assert "('owl')" in error


def test_what_the_audit_reads_is_as_long_as_what_training_decodes(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((3000, 2)), 44_100)
    header = read_header(path)
    assert (header.samples, header.sample_rate, header.size) == (3000, 44_100, path.stat().st_size)
    # a FLAC from a pipe: the 36 bits of the number of samples in its STREAMINFO are 0
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert read_header(path).samples == 3000


def test_a_few_clips_in_a_class_are_noted(splits):
    training, held_out = splits
    assert run(training[2:], held_out).notes == ()
    (note,) = run(training[3:], held_out).notes
    assert note == "1 classes have fewer than 10 training clips: 'cow 9'"


def test_classes_without_held_out_clips_are_noted(splits):
    training, held_out = splits
    (note,) = run(training, held_out[:2]).notes
    assert note == "1 classes have no held-out clips, no score will show them: 'owl'"


def test_clips_of_no_class_are_noted(splits, tmp_path):
    training, held_out = splits
    (note,) = run([*training, Clip(sound(tmp_path / "none.wav"), ())], held_out).notes
    assert note.startswith("1 clips are of no class")


def test_a_rate_below_the_models_is_noted_and_one_above_is_not(splits, tmp_path):
    training, held_out = splits
    training.append(Clip(sound(tmp_path / "8.wav", rate=8000), (0,)))
    training.append(Clip(sound(tmp_path / "44.wav", rate=44_100), (0,)))
    found = run(training, held_out)
    assert "1 clips are recorded at 8000 Hz: nothing in them above 4000 Hz" in found.notes[0]
    assert len(found.notes) == 1
    assert (
        found.facts[2]
        == "sample rates: 28 clips at 16000 Hz, 1 clips at 8000 Hz, 1 clips at 44100 Hz"
    )
    assert len(run(training, held_out, sample_rate=44_100).notes) == 2


def test_groups_in_both_parts_are_noted(splits):
    groups = ["ada", "ben"]
    training, held_out = (
        [Clip(clip.path, clip.targets, group=groups[clip.targets[0] * odd]) for clip in split]
        for split, odd in zip(splits, (0, 1), strict=True)
    )
    training[0] = replace(training[0], group="cid")
    (note,) = run(training, held_out).notes
    assert note.startswith("1 of 2 held-out groups are trained on as well ('ada')")


def test_mean_and_std_are_compared_with_the_recipes(splits):
    expected = (-6.6268, 5.3585)
    near = run(*splits, measure=lambda clips: (-6.5, 5.0), expected=expected)
    assert near.facts[-1] == "mean -6.5000, std 5.0000; the recipe has -6.6268, 5.3585"
    assert near.notes == ()
    for measured in [(-4.27, 5.36), (-6.63, 3.0), (-6.63, 7.0)]:
        (note,) = run(*splits, measure=lambda clips, found=measured: found, expected=expected).notes
        assert f"--mean {measured[0]:.4f} --std {measured[1]:.4f}" in note


def test_the_first_error_is_raised_with_the_number_of_the_others(splits):
    training, held_out = splits
    found = run(training[:12], [*held_out, training[0]])
    assert len(found.errors) == 2
    with pytest.raises(ValueError, match=r"no training clips.*\(and 1 more errors\)$"):
        found.require_sound()


def test_a_long_list_of_names_is_cut(splits):
    manifest = Manifest("nine", tuple(splits[0]), (*CLASSES, *"abcdefg"))
    (error,) = audit(manifest, *splits).errors
    assert "7 of 9 classes have no training clips ('a', 'b', 'c', 'd', 'e' and 2 more)" in error


def test_real_recordings_are_sound(recordings):
    esc10 = esc50(recordings / "esc10", "esc10")
    digits = stratified_split(folder(recordings / "spoken_digits"))
    first = audit(esc10, *esc10.split(1))
    second = audit(digits, digits.in_split("train"), digits.in_split("test"))
    assert (first.errors, first.notes, second.errors) == ((), (), ())
    assert "duration 0:33:23" in first.facts[1]
    assert "1800 clips are recorded at 8000 Hz" in second.notes[0]
