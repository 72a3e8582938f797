"""Verdicts given one by one make a folder that `review` and training read, and lose nothing."""

import csv
import io
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import table as clips_of_table
from data.corpora.segments import SEGMENT_COLUMNS
from train.inference.listening import Verdicts, review, write_segments
from train.inference.listening import verdicts as module
from train.inference.listening.tables import Detection

CLASSES = ("owl", "wren", "Owl")


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "dawn.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (10 * 8_000, 2))
    soundfile.write(path, noise, 8_000)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "heard"


def detection(recording, start=2.0, label="owl", score=0.9, length=1.0):
    return Detection(recording, start, start + length, label, score)


def read(folder):
    with (folder / "segments.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def flacs(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.flac"))


def test_a_row_and_its_segment_are_those_of_segments(recording, folder, tmp_path):
    found = [detection(recording, 2 / 3, score=0.123456), detection(recording, 9.0, "Owl")]
    verdicts = Verdicts(folder, CLASSES)
    for each in found:
        verdicts.put(each, "yes", recording)
    with (tmp_path / "all.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(each.recording, *each[1:]) for each in found]
        csv.writer(file).writerows([("file", "start", "end", "class", "probability"), *rows])
    write_segments(tmp_path / "all.csv", tmp_path / "other")
    others = {row["label"]: row for row in read(tmp_path / "other")}
    for row in read(folder):
        other = others[row["label"]]
        assert (row["draw"], row["range"], row["detections"]) == ("chosen", "all", "1")
        for name in ("label", "score", "recording", "segment_start"):
            assert row[name] == other[name]
        for name in ("start", "end"):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=2e-6)
        one, two = folder / row["path"], tmp_path / "other" / other["path"]
        assert one.name == two.name and one.read_bytes() == two.read_bytes()


def test_review_and_training_read_it(recording, folder):
    verdicts = Verdicts(folder, CLASSES)
    for start, verdict in enumerate(("yes", "yes", "no", "unsure", "wren")):
        verdicts.put(detection(recording, float(start)), verdict, recording)
    found = review(folder)
    (owl,) = found.classes
    assert found.draw == "chosen" and (owl.right, owl.wrong, owl.unsure, owl.open) == (2, 2, 1, 0)
    manifest = clips_of_table(folder / "segments.csv")
    assert manifest.classes == ("owl", "wren") and len(manifest.clips) == 3


def test_what_a_person_chose_says_no_precision_from_the_threshold_on(recording, folder):
    verdicts = Verdicts(folder, CLASSES)
    generator = np.random.default_rng(0)
    for number, score in enumerate(np.linspace(0.1, 0.9, 60)):
        is_right = generator.random() < score
        each = Detection(recording, number / 10, number / 10 + 0.05, "owl", float(score))
        verdicts.put(each, "yes" if is_right else "no", recording)
    (owl,) = review(folder, 0.6).classes
    assert owl.threshold is not None and owl.precision_from is None


def test_a_verdict_is_changed_and_taken_back(recording, folder):
    verdicts = Verdicts(folder, CLASSES)
    verdicts.put(detection(recording), "", recording)
    assert not folder.exists()
    verdicts.put(detection(recording), "yes", recording)
    verdicts.put(detection(recording, 4.0, "wren"), " NO ", recording)
    verdicts.put(detection(recording, 2.0 + 1e-7), "unsure", recording)
    assert [row["verdict"] for row in read(folder)] == ["unsure", "no"]
    assert [(each.start, each.verdict) for each in verdicts.of(recording)] == [
        (2.0, "unsure"),
        (4.0, "no"),
    ]
    verdicts.put(detection(recording), "", recording)
    assert [row["label"] for row in read(folder)] == ["wren"] and len(verdicts) == 1
    assert flacs(folder) == ["wren/0.9000_dawn_000004.000.flac"] and not (folder / "owl").exists()
    verdicts.put(detection(recording, 4.0, "wren"), "", recording)
    assert read(folder) == [] and len(verdicts) == 0


def test_a_folder_is_gone_on_with_and_what_somebody_added_stays(recording, folder):
    Verdicts(folder, CLASSES).put(detection(recording), "yes", recording)
    (row,) = read(folder)
    with (folder / "segments.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")  # as a spreadsheet may save it
        writer.writerow([*SEGMENT_COLUMNS, "split"])
        writer.writerow([*row.values(), "train"])
    (folder / "classes.txt").write_text("thrush\n")
    verdicts = Verdicts(folder, CLASSES)
    assert len(verdicts.of(recording)) == 1
    verdicts.put(detection(recording, 5.0), "thrush", recording)
    assert [each["split"] for each in read(folder)] == ["train", ""]
    assert (folder / "classes.txt").read_text().split() == ["thrush", *CLASSES]
    assert review(folder).classes[0].wrong == 1


def test_classes_that_differ_in_capitals_and_files_that_are_there_are_not_replaced(
    recording, folder
):
    verdicts = Verdicts(folder, CLASSES)
    verdicts.put(detection(recording), "yes", recording)
    verdicts.put(detection(recording, label="Owl"), "yes", recording)
    (folder / "owl" / "0.9000_dawn_000003.000.flac").write_bytes(b"mine")
    verdicts.put(detection(recording, 3.0), "yes", recording)
    assert flacs(folder) == [
        "Owl-2/0.9000_dawn_000002.000.flac",
        "owl/0.9000_dawn_000002.000.flac",
        "owl/0.9000_dawn_000003.000-2.flac",
        "owl/0.9000_dawn_000003.000.flac",
    ]
    assert (folder / "owl" / "0.9000_dawn_000003.000.flac").read_bytes() == b"mine"


def test_many_who_judge_at_a_time_lose_nothing(recording, folder):
    two = [Verdicts(folder, CLASSES), Verdicts(folder, CLASSES)]  # as two servers would

    def judge(number):
        each = Detection(recording, number / 4, number / 4 + 0.2, "owl", 0.5)
        two[number % 2].put(each, "yes", recording)

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(folder)) == len({row["start"] for row in read(folder)}) == 16
    assert len(flacs(folder)) == 16


@pytest.mark.parametrize("step", ["write_csv", "write_flac"])
def test_a_verdict_that_cannot_be_written_leaves_the_table_as_it_was(
    recording, folder, monkeypatch, step
):
    verdicts = Verdicts(folder, CLASSES)
    verdicts.put(detection(recording), "yes", recording)
    before = (folder / "segments.csv").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, step, fail)
        with pytest.raises(OSError, match="No space"):
            verdicts.put(detection(recording, 5.0), "no", recording)
    assert (folder / "segments.csv").read_bytes() == before and len(verdicts) == 1
    verdicts.put(detection(recording, 5.0), "no", recording)
    assert [row["verdict"] for row in read(folder)] == ["yes", "no"]
    assert review(folder).classes[0].wrong == 1


def test_what_is_no_verdict_no_span_or_too_long_is_refused(recording, folder, monkeypatch):
    verdicts = Verdicts(folder, CLASSES)
    with pytest.raises(ValueError, match=r"owl at 2.000 s: verdict 'maybe': expected yes, no"):
        verdicts.put(detection(recording), "maybe", recording)
    with pytest.raises(ValueError, match=r"dawn.wav lasts 10.000 s, expected 'owl' from 9.500"):
        verdicts.put(detection(recording, 9.5), "yes", recording)
    monkeypatch.setattr(module, "MOST_SAMPLES", 3 * 8_000 * 2 - 1)
    with pytest.raises(ValueError, match="too long for a segment"):
        verdicts.put(detection(recording), "yes", recording)
    verdicts.put(detection(recording, length=0.9), "yes", recording)
    assert len(read(folder)) == len(flacs(folder)) == 1


def test_a_folder_of_something_else_is_left_alone(recording, folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        Verdicts(tmp_path / "file", CLASSES)
    with pytest.raises(ValueError, match="a folder of something else"):
        Verdicts(recording.parent, CLASSES)
    folder.mkdir()
    (folder / "segments.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        Verdicts(folder, CLASSES)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chosen", "stratified", r"line 2 was drawn \('stratified'\): `review` takes one draw"),
        ("owl/", "../owl/", "leads out of the folder"),
        ("2.000000", "2;0", "start '2;0': expected a number"),
    ],
)
def test_a_table_that_is_not_as_it_was_written_is_named(recording, folder, old, new, message):
    verdicts = Verdicts(folder, CLASSES)
    verdicts.put(detection(recording), "yes", recording)
    path = folder / "segments.csv"
    path.write_text(path.read_text().replace(old, new))
    for try_it in (
        lambda: Verdicts(folder, CLASSES),
        lambda: verdicts.put(detection(recording, 5.0), "no", recording),
    ):
        with pytest.raises(ValueError, match=message):
            try_it()


def test_the_zip_is_a_folder_that_review_reads(recording, folder, tmp_path):
    verdicts = Verdicts(folder, CLASSES)
    with pytest.raises(ValueError, match="no verdicts yet"):
        verdicts.write_zip(io.BytesIO())
    verdicts.put(detection(Path("upload-0/dawn.wav")), "yes", recording)
    file = io.BytesIO()
    verdicts.write_zip(file)
    zipfile.ZipFile(file).extractall(tmp_path)
    assert review(tmp_path / "verdicts").classes[0].right == 1
    (row,) = read(tmp_path / "verdicts")
    assert row["recording"] == "upload-0/dawn.wav"
