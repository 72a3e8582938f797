"""Reading AudioSet: both forms of table, clips however they are named, and what is missing."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpora.audioset import audioset

LABELS = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Man, speech"\n2,/t/dd01,Hum\n'
COMMENTS = "# Segments csv created\n# num_ytids=2\n# YTID, start_seconds, end_seconds, labels\n"
TRAIN = '--aaaaaaaaa, 30.000, 40.000, "/m/05zppz,/m/09x0r"\nYbbbbbbbb_1, 0.000, 9.000, "/t/dd01"\n'
EVAL = 'ccccccccccc, 120.000, 130.000, "/m/09x0r"\n'
CLIPS = ("--aaaaaaaaa.wav", "YYbbbbbbbb_1.flac", "deep/er/ccccccccccc_120.000.mp3")


def write_corpus(root: Path, clips=CLIPS, **tables: str) -> Path:
    """Segments and clips that are empty files: nothing here may decode them."""
    tables = {"balanced_train": TRAIN, "eval": EVAL, **tables}
    write(root, clips)
    root.mkdir(exist_ok=True)
    (root / "class_labels_indices.csv").write_text(LABELS)
    for name, rows in tables.items():
        (root / f"{name}_segments.csv").write_text(COMMENTS + rows)
    return root


def write(root: Path, names) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_json(path: Path, *entries: tuple[object, object]) -> Path:
    data = [{"wav": wav, "labels": labels} for wav, labels in entries]
    path.write_text(json.dumps({"data": data}))
    return path


def refusal(root: Path, error: type[Exception] = ValueError, **options) -> str:
    with pytest.raises(error) as caught:
        audioset(root, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def listing(manifest, root) -> list[tuple]:
    return [
        (str(clip.path.relative_to(root)), clip.targets, clip.split, clip.group)
        for clip in manifest.clips
    ]


def test_segments_give_splits_labels_and_videos(tmp_path, caplog):
    manifest = audioset(write_corpus(tmp_path))
    assert (manifest.name, manifest.multi_label) == ("audioset_balanced", True)
    assert manifest.classes == ("Speech", "Man, speech", "Hum")
    assert listing(manifest, tmp_path) == [
        ("--aaaaaaaaa.wav", (0, 1), "train", "--aaaaaaaaa"),
        ("YYbbbbbbbb_1.flac", (2,), "train", "Ybbbbbbbb_1"),
        ("deep/er/ccccccccccc_120.000.mp3", (0,), "test", "ccccccccccc"),
    ]
    assert not caplog.messages  # nothing is missing


@pytest.mark.parametrize("prefix", ["", "Y"])
@pytest.mark.parametrize("mark", ["", "_120", "_120.000", "_120000"])
@pytest.mark.parametrize("suffix", [".wav", ".FLAC", ".mp3", ".ogg", ".opus"])
def test_a_clip_may_be_named_by_its_video_and_start(tmp_path, prefix, mark, suffix):
    name = f"{prefix}ccccccccccc{mark}{suffix}"
    manifest = audioset(write_corpus(tmp_path, (*CLIPS[:2], name)))
    assert [clip.path.name for clip in manifest.in_split("test")] == [name]


def test_two_segments_of_one_video_are_told_apart_by_their_start(tmp_path):
    rows = "".join(f'ddddddddddd, {start}.000, 99.000, "/t/dd01"\n' for start in (0, 30))
    clips = (*CLIPS, "ddddddddddd_0.wav", "ddddddddddd_30.wav")
    manifest = audioset(write_corpus(tmp_path, clips, balanced_train=rows))
    assert [clip.path.name for clip in manifest.in_split("train")] == list(clips[3:])


def test_the_segment_of_another_start_is_not_taken(tmp_path):
    write_corpus(tmp_path, (*CLIPS[:2], "ccccccccccc_12.wav", "ccccccccccc_1200.wav"))
    assert "none of the 1 clips" in refusal(tmp_path, FileNotFoundError)


def test_a_header_without_comment_sign_is_no_clip(tmp_path):
    header = "YTID,start_seconds,end_seconds,positive_labels\n"
    assert len(audioset(write_corpus(tmp_path, eval=header + EVAL)).in_split("test")) == 1


def test_missing_clips_are_counted_in_one_line(tmp_path, caplog):
    manifest = audioset(write_corpus(tmp_path, CLIPS[1:]))
    assert len(manifest.in_split("train")) == 1
    assert caplog.messages == ["balanced_train_segments.csv: 1 of 2 clips are here, 1 missing"]


def test_a_table_without_any_of_its_clips_is_refused(tmp_path):
    message = refusal(write_corpus(tmp_path, CLIPS[2:]), FileNotFoundError)
    assert "none of the 2 clips" in message and "balanced_train_segments.csv" in message


def test_the_full_subset_trains_on_both_tables(tmp_path):
    write_corpus(tmp_path, unbalanced_train='ddddddddddd, 0.000, 10.000, "/t/dd01"\n')
    write(tmp_path, ["ddddddddddd.wav"])
    assert len(audioset(tmp_path).in_split("train")) == 2
    full = audioset(tmp_path, "full")
    assert (full.name, len(full.in_split("train")), len(full.in_split("test"))) == (
        "audioset_full",
        3,
        1,
    )


def test_the_full_subset_without_the_unbalanced_table_is_refused(tmp_path):
    message = refusal(write_corpus(tmp_path), FileNotFoundError, subset="full")
    assert "no table of the unbalanced clips" in message


def test_json_paths_are_relative_to_the_file_or_absolute(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "tables").mkdir()
    train = write_json(tmp_path / "tables" / "a.json", ("../--aaaaaaaaa.wav", "/t/dd01, /m/09x0r"))
    test = write_json(tmp_path / "tables" / "b.json", (str(tmp_path / CLIPS[2]), "/m/09x0r"))
    manifest = audioset(tmp_path, train=train, test=test)
    assert [(clip.path.name, clip.targets, clip.group) for clip in manifest.clips] == [
        ("--aaaaaaaaa.wav", (0, 2), "--aaaaaaaaa"),
        ("ccccccccccc_120.000.mp3", (0,), "ccccccccccc"),
    ]


@pytest.mark.parametrize(
    ("subset", "table"), [("balanced", "balanced_train_data.json"), ("full", "train_data.json")]
)
def test_json_in_the_root_comes_before_segments(tmp_path, subset, table):
    write_corpus(tmp_path)
    write_json(tmp_path / table, ("YYbbbbbbbb_1.wav", "/m/09x0r"))  # prepared: it is a .flac
    train = audioset(tmp_path, subset).in_split("train")
    assert [(clip.path.name, clip.targets) for clip in train] == [("YYbbbbbbbb_1.flac", (0,))]


def test_explicit_paths_stand_in_for_the_root(tmp_path):
    write_corpus(tmp_path / "a", clips=())
    write(tmp_path / "clips", CLIPS)
    (tmp_path / "a" / "class_labels_indices.csv").rename(tmp_path / "labels.csv")
    (tmp_path / "a" / "balanced_train_segments.csv").rename(tmp_path / "mine.csv")
    manifest = audioset(
        tmp_path / "a",
        train=tmp_path / "mine.csv",
        labels=tmp_path / "labels.csv",
        clips=tmp_path / "clips",
    )
    assert len(manifest.clips) == 3


def test_two_tables_for_one_part_are_refused(tmp_path):
    for name in ("eval.json", "eval_data.json"):
        write_json(write_corpus(tmp_path) / name)
    assert "eval.json and eval_data.json for one split" in refusal(tmp_path)


def test_a_table_may_be_absent_but_not_all(tmp_path):
    (write_corpus(tmp_path) / "balanced_train_segments.csv").unlink()
    assert len(audioset(tmp_path).clips) == 1
    (tmp_path / "eval_segments.csv").unlink()
    assert "no table of AudioSet" in refusal(tmp_path, FileNotFoundError)
    assert "no table" in refusal(tmp_path, FileNotFoundError, train=tmp_path / "absent.csv")


def test_an_unknown_label_is_named_with_its_line_though_its_clip_is_missing(tmp_path):
    rows = TRAIN + 'eeeeeeeeeee, 0.000, 10.000, "/t/dd01,/m/xyz"\n'
    message = refusal(write_corpus(tmp_path, balanced_train=rows))
    assert "balanced_train_segments.csv, line 6: unknown label '/m/xyz'" in message
    table = write_json(tmp_path / "t.json", (CLIPS[0], "/t/dd01"), (CLIPS[1], ""))
    assert "t.json, entry 2: unknown label ''" in refusal(tmp_path, train=table)


@pytest.mark.parametrize("name", ["--aaaaaaaaa_200.wav", "Y--aaaaaaaaa_0.000_10.000.flac"])
def test_a_video_that_trains_and_tests_is_refused(tmp_path, name):
    write_corpus(tmp_path)
    write(tmp_path, [name])
    table = write_json(tmp_path / "t.json", (name, "/t/dd01"))
    message = refusal(tmp_path, test=table)
    assert "1 videos of AudioSet train and test, the first is '--aaaaaaaaa'" in message


def test_a_file_that_trains_and_tests_is_refused_whatever_its_name(tmp_path):
    write_corpus(tmp_path, ["dog.wav"])
    tables = [write_json(tmp_path / name, ("dog.wav", "/t/dd01")) for name in ("a.json", "b.json")]
    assert "dog.wav" in refusal(tmp_path, train=tables[0], test=tables[1])


def test_two_files_for_one_clip_are_refused(tmp_path):
    write_corpus(tmp_path, (*CLIPS, "other/--aaaaaaaaa.flac"))
    assert "have one name: expected one file for a clip" in refusal(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        "aaaaaaaaaaa, 0.000, 10.000",
        "aaaaaaaaaaa, zero, 10.000, /t/dd01",
        "aaaaaaaaaaa, inf, 10.000, /t/dd01",
        "aaaaaaaaaaa, nan, 10.000, /t/dd01",
        "aaaaaaaaaaa, -1, 10.000, /t/dd01",
        "aaaaaaaaaaa, 20, 10.000, /t/dd01",
        "aaaaaaaaaaa, 0.000, inf, /t/dd01",
        "aaaaaaaaaaa, 0.000, 10.000, /t/dd01,/m/09x0r",
    ],
)
def test_a_row_that_is_no_segment_is_named_with_its_line(tmp_path, row):
    message = refusal(write_corpus(tmp_path, eval=EVAL + row + "\n"))
    assert "eval_segments.csv, line 5: " in message and "expected YTID, start_seconds" in message


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"data": 3}', "{", '{"data": [["a", "b"]]}', '{"data": [{"wav": 3}]}']
)
def test_json_of_another_form_is_refused(tmp_path, content):
    (write_corpus(tmp_path) / "t.json").write_text(content)
    assert "t.json" in refusal(tmp_path, train=tmp_path / "t.json")


@pytest.mark.parametrize(
    "labels",
    [
        "",
        "index,mid\n0,/m/a\n",
        LABELS.replace("2,", "3,"),
        LABELS.replace("2,", "x,"),
        LABELS.replace("Hum", "Speech"),
        LABELS.replace("/t/dd01", "/m/09x0r"),
    ],
)
def test_a_table_of_classes_with_gaps_or_doubles_is_refused(tmp_path, labels):
    (write_corpus(tmp_path) / "class_labels_indices.csv").write_text(labels)
    assert "class_labels_indices.csv" in refusal(tmp_path)


def test_a_class_with_control_characters_is_named_with_its_line(tmp_path):
    table = write_corpus(tmp_path) / "class_labels_indices.csv"
    table.write_text(LABELS.replace("Hum", "H\x07m"))
    assert f"{table}, line 4: its class 'H\\x07m' has control" in refusal(tmp_path)


def test_a_missing_table_of_classes_is_named(tmp_path):
    (write_corpus(tmp_path) / "class_labels_indices.csv").unlink()
    assert "class_labels_indices.csv" in refusal(tmp_path, FileNotFoundError)


def test_an_unknown_subset_is_refused(tmp_path):
    assert "'all': expected one of balanced, full" in refusal(tmp_path, subset="all")


def test_hidden_files_and_folders_hold_no_clips(tmp_path):
    write_corpus(tmp_path)
    write(tmp_path, [".trash/--aaaaaaaaa.wav", "._--aaaaaaaaa.wav"])
    assert len(audioset(tmp_path).clips) == 3


def test_a_folder_that_links_to_itself_is_read_once(tmp_path):
    (write_corpus(tmp_path) / "deep" / "loop").symlink_to(tmp_path)
    assert len(audioset(tmp_path).clips) == 3


def test_the_real_table_has_527_classes(recordings, tmp_path):
    labels = recordings / "audioset" / "class_labels_indices.csv"
    manifest = audioset(
        write_corpus(
            tmp_path,
            balanced_train=TRAIN.replace("/t/dd01", "/m/0jbk"),
        ),
        labels=labels,
    )
    assert len(manifest.classes) == 527
    assert manifest.classes[:2] == ("Speech", "Male speech, man speaking")
    assert manifest.clips[0].targets == (0, 1)


@given(content=st.binary(max_size=80) | st.text(alphabet='aY_#.,1"\n\r/\x00{}[]: ', max_size=80))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_any_table_is_read_or_refused_in_one_line(tmp_path, name, content):
    table = write_corpus(tmp_path) / name
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    refusal(tmp_path, (ValueError, FileNotFoundError), train=table)
