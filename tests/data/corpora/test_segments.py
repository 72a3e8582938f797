"""A table of segments trains as it is: by its verdicts, and no other table is taken for one."""

import csv
import logging

import pytest

from data import table
from data.corpora.segments import SEGMENT_COLUMNS

ROWS = [  # label, recording, verdict
    ("owl, tawny", "a.wav", "yes"),
    ("owl, tawny", "a.wav", "no"),
    ("owl, tawny", "b.wav", "wren; eurasian"),
    ("wren; eurasian", "b.wav", " YES "),
    ("wren; eurasian", "c.wav", "unsure"),
    ("wren; eurasian", "c.wav", ""),
]


def write(folder, rows=ROWS, columns=SEGMENT_COLUMNS, name="segments.csv"):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="1", extrasaction="ignore")
        writer.writeheader()
        for number, (label, recording, verdict, *others) in enumerate(rows):
            (folder / f"{number}.flac").touch()
            row = {"path": f"{number}.flac", "label": label, "recording": recording}
            extra = dict(zip(columns[len(SEGMENT_COLUMNS) :], others, strict=True))
            writer.writerow(row | {"verdict": verdict} | extra)
    return folder / name


def clips(manifest):
    return [
        (clip.path.name, *(manifest.classes[t] for t in clip.targets)) for clip in manifest.clips
    ]


EXPECTED = [
    ("0.flac", "owl, tawny"),
    ("2.flac", "wren; eurasian"),
    ("3.flac", "wren; eurasian"),
]


def test_verdicts_say_which_segments_train_and_as_what(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    manifest = table(write(tmp_path))
    assert clips(manifest) == EXPECTED
    assert [clip.group for clip in manifest.clips] == ["a.wav", "b.wav", "b.wav"]
    assert not manifest.multi_label and manifest.classes == ("owl, tawny", "wren; eurasian")
    assert (
        "2 segments with verdict yes, 1 with a class's name; left out: 1 no, 1 unsure, 1 without"
        in caplog.text
    )


def test_a_split_added_to_the_table_is_kept(tmp_path):
    rows = [(*row, ("train", "val", "test")[number % 3]) for number, row in enumerate(ROWS)]
    manifest = table(write(tmp_path, rows, (*SEGMENT_COLUMNS, "split")))
    assert manifest.splits == ("train", "test")
    assert [clip.split for clip in manifest.clips] == ["train", "test", "train"]


def test_only_files_that_train_need_to_be_there(tmp_path):
    path = write(tmp_path)
    (tmp_path / "1.flac").unlink()
    assert clips(table(path)) == EXPECTED
    (tmp_path / "2.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 3 files .* first is '2.flac'"):
        table(path)


def test_an_unknown_verdict_names_its_line(tmp_path):
    path = write(tmp_path, [*ROWS, ("owl, tawny", "a.wav", "sparrow")])
    with pytest.raises(ValueError, match=r"line 8: verdict 'sparrow': expected yes, no, unsure"):
        table(path)
    (tmp_path / "classes.txt").write_text("sparrow\n")
    assert clips(table(path))[-1] == ("6.flac", "sparrow")


def test_verdicts_that_leave_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no segment of a class: expected the verdict yes or"):
        table(write(tmp_path, [("owl", "a.wav", "no"), ("owl", "a.wav", "")]))


def test_another_table_with_a_column_verdict_is_as_any_other(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "mine.csv").write_text("path,label,score,verdict\na.wav,owl,1,guilty\n")
    assert clips(table(tmp_path / "mine.csv")) == [("a.wav", "owl")]


def test_with_a_label_column_it_is_a_table_like_any_other(tmp_path):
    manifest = table(write(tmp_path), label_column="label", label_separator="none")
    assert len(manifest.clips) == len(ROWS)
