"""A table of clips: columns found or named, labels, divisions, and a line for what is wrong."""

import builtins
import csv
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpora.table import table


def write(folder: Path, text: str, name: str = "clips.csv", files: str = "a.wav b.wav") -> Path:
    """A table beside empty audio files: nothing here may decode them."""
    for file in files.split():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, error: type[Exception] = ValueError, **arguments) -> str:
    with pytest.raises(error) as caught:
        table(path, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def targets(manifest) -> list[tuple[int, ...]]:
    return [clip.targets for clip in manifest.clips]


def test_rows_become_clips_in_their_order_with_the_classes_sorted(tmp_path):
    manifest = table(write(tmp_path, "file,label\nb.wav,owl\na.wav,cow\n"))
    assert (manifest.name, manifest.classes) == ("clips", ("cow", "owl"))
    assert not manifest.multi_label
    assert [clip.path for clip in manifest.clips] == [tmp_path / "b.wav", tmp_path / "a.wav"]
    assert targets(manifest) == [(1,), (0,)]
    assert {(clip.fold, clip.split, clip.group) for clip in manifest.clips} == {(None, None, None)}


@pytest.mark.parametrize("path_name", ["path", "File_Name", "filepath", "audio", "WAV", "fname"])
@pytest.mark.parametrize("label_name", ["label", "Class", "category", "primary_label", " species"])
def test_usual_names_of_columns_are_known(tmp_path, path_name, label_name):
    assert table(write(tmp_path, f"{path_name},{label_name}\na.wav,x\n")).classes == ("x",)


def test_other_columns_are_named_by_arguments(tmp_path):
    path = write(tmp_path, "clip,sound,path,label,k,who\na.wav,x,?,?,3,me\nb.wav,y,?,?,4,you\n")
    manifest = table(
        path, path_column="clip", label_column="sound", fold_column="k", group_column="who"
    )
    assert manifest.classes == ("x", "y")
    assert [(clip.fold, clip.group) for clip in manifest.clips] == [(3, "me"), (4, "you")]


@pytest.mark.parametrize(
    ("header", "argument"),
    [
        ("path,file,label", "path_column"),
        ("path,label,species", "label_column"),
        ("path,label,label", "label_column"),
        ("path,label,split,subset", "split_column"),
        ("path,label,fold,k_fold", "fold_column"),
        ("path,label,speaker,site", "group_column"),
    ],
)
def test_an_ambiguous_column_is_refused_with_the_argument_that_decides(tmp_path, header, argument):
    row = ",".join("a.wav" for _ in header.split(","))
    message = refusal(write(tmp_path, f"{header}\n{row}\n"))
    assert "could each be meant" in message
    assert f"name it with --{argument.replace('_', '-')}" in message


def test_a_folder_is_refused(tmp_path):
    assert "it holds none; a folder of class folders is --corpus folder" in refusal(tmp_path)
    path = write(tmp_path, "path,label\n")
    assert refusal(tmp_path).endswith(f"expected a CSV, TSV or Parquet file; give {path}")


def test_none_goes_without_a_column_or_a_separator(tmp_path):
    path = write(tmp_path, "path,label,fold,split\na.wav,x;y,1,train\nb.wav,z,2,test\n")
    assert table(path, fold_column="none").splits == ("train", "test")
    manifest = table(path, split_column="none", label_separator="none")
    assert (manifest.folds, manifest.classes) == ((1, 2), ("x;y", "z"))


def test_labels_are_not_read_where_none_are_wanted(tmp_path):
    write(tmp_path, "path,label,split\na.wav,,train\nb.wav,[odd],val\n")
    manifest = table(tmp_path / "clips.csv", label_column="none")
    assert (targets(manifest), manifest.classes) == ([(), ()], ())
    assert manifest.splits == ("train", "validation")


def test_a_missing_column_is_refused_with_the_columns_there_are(tmp_path):
    path = write(tmp_path, "sound,label\na.wav,x\n")
    assert "give --path-column, one of 'sound', 'label'" in refusal(path)
    assert "no column 'Sound'" in refusal(path, path_column="Sound")
    assert "no column 'fold'" in refusal(path, path_column="sound", fold_column="fold")


def test_the_usual_names_of_splits_are_known(tmp_path):
    names = ["train", "Training", "val", "validation", "dev", "test", "eval"]
    rows = "".join(f"{n}.wav,x,{name}\n" for n, name in enumerate(names))
    files = " ".join(f"{n}.wav" for n in range(len(names)))
    manifest = table(write(tmp_path, f"path,label,split\n{rows}", files=files))
    splits = [clip.split for clip in manifest.clips]
    assert splits == ["train", "train", "validation", "validation", "validation", "test", "test"]


@pytest.mark.parametrize(("column", "value"), [("split", "holdout"), ("split", ""), ("fold", "A")])
def test_a_split_or_fold_that_is_none_is_refused_with_its_line(tmp_path, column, value):
    path = write(tmp_path, f"path,label,{column}\na.wav,x,{value}\n")
    message = refusal(path)
    assert f"line 2: {column} {value!r}" in message
    assert table(path, **{f"{column}_column": ""}).clips[0].split is None


def test_folds_and_parts_together_are_refused_until_one_is_left_out(tmp_path):
    path = write(tmp_path, "path,label,fold,split\na.wav,x,1,train\n")
    assert "--fold-column none or --split-column none" in refusal(path)
    assert table(path, split_column="").folds == (1,)
    assert len(table(path, fold_column="").in_split("train")) == 1


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_the_separator_of_columns_is_found(tmp_path, separator):
    text = "path,label,note\na.wav,x,-\n".replace(",", separator)
    assert table(write(tmp_path, text)).classes == ("x",)


def test_the_separator_of_columns_can_be_given(tmp_path):
    path = write(tmp_path, "path:label\na.wav:x\n")
    assert table(path, separator=":").classes == ("x",)
    assert "expected one character" in refusal(path, separator="::")


@pytest.mark.parametrize("separator", [";", "|"])
def test_several_labels_in_a_cell_make_it_multi_label(tmp_path, separator):
    text = f"path,labels\na.wav,owl{separator} cow {separator}owl{separator}\nb.wav,\n"
    manifest = table(write(tmp_path, text))
    assert manifest.multi_label
    assert manifest.classes == ("cow", "owl")
    assert targets(manifest) == [(0, 1), ()]


def test_a_comma_in_labels_must_be_decided(tmp_path):
    path = write(tmp_path, 'path,label\na.wav,"bark, howl"\nb.wav,owl\n')
    assert "'bark, howl' may be one class or several" in refusal(path)
    assert table(path, label_separator="").classes == ("bark, howl", "owl")
    manifest = table(path, label_separator=",")
    assert (manifest.classes, manifest.multi_label) == (("bark", "howl", "owl"), True)


def test_a_comma_inside_labels_that_are_separated_otherwise_is_part_of_them(tmp_path):
    path = write(tmp_path, 'path,label\na.wav,"bark, howl;owl"\n')
    assert table(path).classes == ("bark, howl", "owl")


def test_two_separators_of_labels_must_be_decided(tmp_path):
    path = write(tmp_path, "path,label\na.wav,x;y\nb.wav,x|z\n")
    assert "--label-separator" in refusal(path)
    assert table(path, label_separator=";").classes == ("x", "x|z", "y")


def test_a_list_written_as_text_is_refused(tmp_path):
    path = write(tmp_path, "path,label\na.wav,\"['x', 'y']\"\n")
    for separator in (None, ","):
        assert "list" in refusal(path, label_separator=separator)


def test_integer_labels_are_sorted_by_value(tmp_path):
    manifest = table(write(tmp_path, "path,label\na.wav,10\nb.wav,9\n"))
    assert manifest.classes == ("9", "10")


def test_a_row_without_a_label_is_refused_with_its_line(tmp_path):
    assert "line 3 has no label" in refusal(write(tmp_path, "path,label\na.wav,x\nb.wav, \n"))


def test_paths_start_from_the_table_or_from_root_or_are_absolute(tmp_path):
    path = write(tmp_path / "meta", "path,label\n../audio/a.wav,x\n", files="../audio/a.wav")
    assert table(path).clips[0].path.samefile(tmp_path / "audio" / "a.wav")
    path.write_text("path,label\na.wav,x\n")
    assert table(path, root=tmp_path / "audio").clips[0].path == tmp_path / "audio" / "a.wav"
    path.write_text(f"path,label\n{tmp_path / 'audio' / 'a.wav'},x\n")
    assert table(path).clips[0].path == tmp_path / "audio" / "a.wav"


def test_missing_files_are_counted_and_the_first_is_named(tmp_path):
    path = write(tmp_path, "path,label\na.wav,x\nno/1.wav,x\n2.wav,x\n")
    message = refusal(path, FileNotFoundError)
    assert "lacks 2 of the 3 files" in message
    assert "the first is 'no/1.wav'" in message


def test_a_prepared_copy_in_flac_stands_for_the_file_that_is_named(tmp_path):
    path = write(tmp_path, "path,label\nc.wav,x\n", files="c.flac")
    assert table(path).clips[0].path == tmp_path / "c.flac"


@pytest.mark.parametrize("again", ["a.wav", "./a.wav", "x/../a.wav"])
def test_a_file_listed_twice_is_refused_with_both_lines(tmp_path, again):
    (tmp_path / "x").mkdir()
    path = write(tmp_path, f"path,label\na.wav,x\nb.wav,x\n{again},y\n")
    message = refusal(path)
    assert "line 4" in message
    assert "line 2 already" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column"),
        (b"path,label\n", "has no rows"),
        (b"path,label\na.wav\n", "line 2: 1 cells: expected 2"),
        (b"path,label\na.wav,x,y\n", "line 2: 3 cells: expected 2"),
        (b"path,label\n,x\n", "line 2: expected the path"),
        (b"path,label\na.wav,\xff\n", "line 2 is not UTF-8"),
        (b"\xff\xfea\x00", "line 1 holds a zero byte"),
        (b'path,label\na.wav,"x\n', "line 2: no row of a table"),
    ],
)
def test_a_broken_table_is_refused_in_one_line(tmp_path, content, words):
    path = write(tmp_path, "")
    path.write_bytes(content)
    assert words in refusal(path)


def test_empty_lines_and_a_byte_order_mark_are_tolerated(tmp_path):
    assert len(table(write(tmp_path, "\ufeffpath,label\na.wav,x\n\nb.wav,y\n\n")).clips) == 2


def test_no_table(tmp_path):
    assert "no table" in refusal(tmp_path / "absent.csv", FileNotFoundError)


def test_esc10_as_a_table(recordings):
    manifest = table(
        recordings / "esc10" / "meta" / "esc50.csv",
        root=recordings / "esc10" / "audio",
        label_column="category",
    )
    assert (len(manifest.clips), len(manifest.classes)) == (400, 10)
    assert manifest.folds == (1, 2, 3, 4, 5)


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


def write_parquet(parquet, folder: Path, **columns) -> Path:
    import pyarrow

    path = write(folder, "", "clips.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_with_lists_of_labels_is_multi_label(tmp_path, parquet):
    path = write_parquet(
        parquet, tmp_path, path=["a.wav", "b.wav"], labels=[["owl", "cow"], []], fold=[1, 2]
    )
    manifest = table(path)
    assert (manifest.classes, manifest.multi_label) == (("cow", "owl"), True)
    assert targets(manifest) == [(0, 1), ()]
    assert manifest.folds == (1, 2)


def test_parquet_with_numbers_and_nulls(tmp_path, parquet):
    path = write_parquet(parquet, tmp_path, path=["a.wav", "b.wav"], label=[10, 9])
    assert table(path).classes == ("9", "10")
    path = write_parquet(parquet, tmp_path, path=["a.wav", "b.wav"], label=["x", None])
    assert "row 2 has no label" in refusal(path)
    path = write_parquet(parquet, tmp_path, path=["a.wav", None], label=["x", "y"])
    assert "row 2: expected the path" in refusal(path)


def test_parquet_that_holds_the_audio_is_for_hugging_face(tmp_path, parquet):
    path = write_parquet(parquet, tmp_path, audio=[{"bytes": b"RIFF", "path": "a"}], label=["x"])
    assert "data.hugging_face" in refusal(path)


def test_a_broken_parquet_file_is_refused_in_one_line(tmp_path, parquet):
    assert "not a Parquet file" in refusal(write(tmp_path, "PAR1", "clips.parquet"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def no_pyarrow(name, *arguments, **keywords):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    assert "pip install pyarrow" in refusal(write(tmp_path, "", "clips.parquet"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C"], exclude_characters=",;|[]"), min_size=1)
        .map(str.strip)
        .filter(bool),
        min_size=1,
    )
)
def test_any_label_comes_back_as_the_class_of_its_clip(tmp_path, labels):
    path = tmp_path / "clips.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number, label in enumerate(labels):
            (tmp_path / f"{number}.wav").touch()
            writer.writerow([f"{number}.wav", label])
    manifest = table(path)
    assert [manifest.classes[clip.targets[0]] for clip in manifest.clips] == labels


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["", "path,label\na.wav,"]))
def test_no_bytes_cause_anything_but_one_line(tmp_path, content, start):
    path = write(tmp_path, "")
    path.write_bytes(start.encode() + content)
    try:
        table(path)
    except (FileNotFoundError, ValueError) as error:
        assert "\n" not in str(error)


def test_nan_is_no_label(tmp_path, parquet):
    path = write_parquet(parquet, tmp_path, path=["a.wav", "b.wav"], label=[1.0, float("nan")])
    assert "row 2 has no label" in refusal(path)


@pytest.mark.parametrize("column", ["fold", "label"])
def test_a_column_of_another_kind_is_refused(tmp_path, parquet, column):
    columns = {"path": ["a.wav"], "label": ["x"], column: [[["x"]]]}
    assert "row 1: expected" in refusal(write_parquet(parquet, tmp_path, **columns))


def test_a_pipe_in_place_of_a_file_is_missing(tmp_path):
    path = write(tmp_path, "path,label\na.wav,x\npipe.wav,x\n")
    os.mkfifo(tmp_path / "pipe.wav")
    assert "lacks 1 of the 2 files" in refusal(path, FileNotFoundError)


@pytest.mark.parametrize("row", ["b.wav,d\x1b[2Jg", 'b.wav,"cat;d\x1b[2Jg"'])
def test_a_class_with_control_characters_is_named_with_its_line(tmp_path, row):
    path = write(tmp_path, f"path,label\na.wav,cat\n{row}\n")
    assert f"{path}, line 3: its class 'd\\x1b[2Jg' has control characters" in refusal(path)


def test_a_class_with_control_characters_in_parquet_is_named_with_its_row(tmp_path, parquet):
    columns = {"path": ["a.wav", "b.wav"], "label": [["cat"], ["cat", "d\x07g"]]}
    path = write_parquet(parquet, tmp_path, **columns)
    assert f"{path}, row 2: its class 'd\\x07g' has control characters" in refusal(path)
