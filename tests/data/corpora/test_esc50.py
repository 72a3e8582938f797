"""Reading ESC-50's layout: classes, folds, and one clear line for everything that is wrong."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpora.esc50 import COLUMNS, esc50

ROWS = [
    # filename, fold, target, category, esc10
    ("1-1-A-40.wav", 1, 40, "helicopter", True),
    ("1-2-A-0.wav", 1, 0, "dog", True),
    ("2-3-A-7.wav", 2, 7, "rooster", False),
    ("5-4-A-11.wav", 5, 11, "sea_waves", True),
]


def write_corpus(root: Path, rows=ROWS, columns=COLUMNS, encoding="utf-8") -> Path:
    """A corpus whose audio files are empty: nothing here may decode them."""
    for folder in ("meta", "audio"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with (root / "meta" / "esc50.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows([columns, *rows])
    for name, *_ in ROWS:
        (root / "audio" / name).touch()
    return root


def changed(row: int, **values) -> list[tuple]:
    """ROWS with some columns of one row replaced."""
    rows = list(ROWS)
    rows[row] = tuple((dict(zip(COLUMNS, rows[row], strict=True)) | values).values())
    return rows


def refusal(root: Path, error: type[Exception] = ValueError, subset: str = "esc50") -> str:
    with pytest.raises(error) as caught:
        esc50(root, subset)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_class_indices_are_the_ranks_of_the_target_ids(tmp_path):
    manifest = esc50(write_corpus(tmp_path))
    assert manifest.name == "esc50"
    assert manifest.classes == ("dog", "rooster", "sea_waves", "helicopter")
    assert [clip.targets for clip in manifest.clips] == [(3,), (0,), (1,), (2,)]
    assert [clip.fold for clip in manifest.clips] == [1, 1, 2, 5]
    assert manifest.clips[0].path == tmp_path / "audio" / "1-1-A-40.wav"


def test_esc10_keeps_its_rows_and_closes_the_gaps_in_their_ids(tmp_path):
    manifest = esc50(write_corpus(tmp_path), subset="esc10")
    assert (manifest.name, manifest.folds) == ("esc10", (1, 5))
    assert manifest.classes == ("dog", "sea_waves", "helicopter")
    assert [clip.targets for clip in manifest.clips] == [(2,), (0,), (1,)]


def test_esc10_does_not_ask_for_the_other_files(tmp_path):
    (write_corpus(tmp_path) / "audio" / "2-3-A-7.wav").unlink()
    assert len(esc50(tmp_path, "esc10").clips) == 3


def test_the_folder_around_the_unpacked_zip_will_do(tmp_path):
    write_corpus(tmp_path / "ESC-50-master")
    assert len(esc50(tmp_path).clips) == 4


def test_a_byte_order_mark_is_tolerated(tmp_path):
    assert esc50(write_corpus(tmp_path, encoding="utf-8-sig")) == esc50(write_corpus(tmp_path))


def test_missing_folder_says_how_to_get_the_data(tmp_path):
    message = refusal(tmp_path / "absent", FileNotFoundError)
    assert f"ast-audio download esc50 {tmp_path / 'absent'}" in message


def test_missing_csv_is_named(tmp_path):
    assert "meta/esc50.csv" in refusal(tmp_path, FileNotFoundError)


def test_missing_columns_are_named(tmp_path):
    columns = ("filename", "split", "target", "label", "esc10")
    assert "lacks the columns fold, category:" in refusal(write_corpus(tmp_path, columns=columns))


def test_an_empty_file_lacks_every_column(tmp_path):
    (write_corpus(tmp_path) / "meta" / "esc50.csv").write_text("")
    assert f"lacks the columns {', '.join(COLUMNS)}:" in refusal(tmp_path)


@pytest.mark.parametrize("column", ["fold", "target"])
@pytest.mark.parametrize("value", ["", "one", "1.5", "0x1"])
def test_numbers_that_are_none_are_named_with_their_line(tmp_path, column, value):
    message = refusal(write_corpus(tmp_path, changed(1, **{column: value})))
    assert f"line 3: {column} {value!r}" in message


@pytest.mark.parametrize(
    "name", ["../x.wav", "/etc/passwd", "a/b.wav", "..", ".", "", "a\\b.wav", "C:x.wav", "x/"]
)
def test_file_names_with_a_path_are_refused(tmp_path, name):
    assert f"line 4: filename {name!r}" in refusal(
        write_corpus(tmp_path, changed(2, filename=name))
    )


def test_a_short_row_is_named_with_its_line(tmp_path):
    rows = [*ROWS, ("5-5-A-1.wav", "5")]
    assert "line 6: 2 cells: expected 5" in refusal(write_corpus(tmp_path, rows))


def test_missing_audio_files_are_counted_and_the_first_is_named(tmp_path):
    for name in ("1-2-A-0.wav", "5-4-A-11.wav"):
        (write_corpus(tmp_path) / "audio" / name).unlink(missing_ok=True)
    (tmp_path / "audio" / "1-2-A-0.wav").unlink()
    message = refusal(tmp_path, FileNotFoundError)
    assert "lacks 2 of the 4 files" in message and "'1-2-A-0.wav'" in message


def test_a_csv_without_rows_is_refused(tmp_path):
    assert "holds no clips of esc50" in refusal(write_corpus(tmp_path, rows=[]))


def test_a_csv_without_esc10_rows_is_refused_for_esc10(tmp_path):
    message = refusal(write_corpus(tmp_path, rows=[ROWS[2]]), subset="esc10")
    assert "holds no clips of esc10" in message


def test_a_category_with_control_characters_is_named_with_its_line(tmp_path):
    message = refusal(write_corpus(tmp_path, changed(2, category="roo\x1b[2Jster")))
    assert "esc50.csv, line 4: its class 'roo\\x1b[2Jster' has control characters" in message


@pytest.mark.parametrize("change", [{"category": "cat"}, {"target": 3}], ids=str)
def test_a_target_and_a_category_belong_together(tmp_path, change):
    rows = [*changed(1, **change), ("1-9-A-0.wav", 1, 0, "dog", True)]
    (write_corpus(tmp_path, rows) / "audio" / "1-9-A-0.wav").touch()
    assert "contradicts another row" in refusal(tmp_path)


def test_a_file_listed_twice_is_refused(tmp_path):
    assert "line 6: '1-1-A-40.wav' is listed twice" in refusal(
        write_corpus(tmp_path, [*ROWS, ROWS[0]])
    )


def test_unknown_subset_is_refused_with_the_known_ones(tmp_path):
    assert "'esc20': expected one of esc50, esc10" in refusal(tmp_path, subset="esc20")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'filename,fold\n"open'], ids=str)
def test_a_file_that_is_no_csv_is_refused(tmp_path, content):
    (write_corpus(tmp_path) / "meta" / "esc50.csv").write_bytes(content)
    assert str(tmp_path / "meta" / "esc50.csv") in refusal(tmp_path)


@given(content=st.binary(max_size=80) | st.text(alphabet='a.,1"\n\r/\x00', max_size=80))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_behind_the_header_is_read_or_refused_in_one_line(tmp_path, content):
    table = write_corpus(tmp_path) / "meta" / "esc50.csv"
    body = content if isinstance(content, bytes) else content.encode()
    table.write_bytes(",".join(COLUMNS).encode() + b"\n" + body)
    refusal(tmp_path, (ValueError, FileNotFoundError))


def test_the_real_esc10_has_ten_classes_of_forty_clips(recordings):
    manifest = esc50(recordings / "esc10", subset="esc10")
    assert (len(manifest.clips), manifest.folds) == (400, (1, 2, 3, 4, 5))
    assert manifest.classes[:3] == ("dog", "rooster", "rain")
    per_class = [clip.targets[0] for clip in manifest.clips]
    assert all(per_class.count(index) == 40 for index in range(10))
