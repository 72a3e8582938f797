"""Tables of a season: complete, resumed, shared, and never over what is somebody else's."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

import weights
from ast_model import AudioClassifier
from data.audio import stream_audio
from train.inference.detections import FORMATS, choose, detect
from train.inference.predict import Predictor
from train.inference.season import model_digest
from train.inference.season.journal import Journal
from train.run.tables import has_pyarrow
from train.shards import Shard

OPTIONS = {"threshold": 0.4, "batch_size": 2, "device": "cpu"}


class Killed(BaseException):
    """No handler may catch it."""


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    """Eleven recordings in two folders, short and long, of two sample rates."""
    folder = tmp_path_factory.mktemp("season")
    generator = np.random.default_rng(0)
    for number in range(11):
        place = folder / ("north", "south")[number % 2]
        place.mkdir(exist_ok=True)
        noise = generator.normal(0, 0.1, int(generator.integers(3_000, 40_000)))
        soundfile.write(place / f"{number:02}.wav", noise, (16_000, 44_100)[number % 3 == 0])
    return folder


@pytest.fixture
def copy(season, tmp_path):
    return shutil.copytree(season, tmp_path / "season")


@pytest.fixture(scope="module")
def undisturbed(season, model_folder, tmp_path_factory):
    """The table of all, in one go."""
    out = tmp_path_factory.mktemp("undisturbed") / "all.csv"
    detect(model_folder, season, out, **OPTIONS)
    return out.read_bytes()


def rows(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def tables(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "journal" not in str(file.relative_to(folder))
    }


@pytest.mark.precision
def test_the_detections_are_those_of_the_classifiers_timeline(
    model_folder, classifier, season, tmp_path
):
    detect(model_folder, season, tmp_path / "out", **OPTIONS)
    choice = choose(classifier.classes, 0.4)
    for path in sorted(season.rglob("*.wav")):
        table = tmp_path / "out" / path.relative_to(season).with_suffix(".csv")
        timeline = classifier.timeline(stream_audio(path))
        expected = choice.detections(timeline)
        found = rows(table)
        assert [row["class"] for row in found] == [
            choice.classes[number] for number in expected["class"]
        ]
        for column in ("start", "end", "probability"):
            values = [float(row[column]) for row in found]
            assert values == pytest.approx(expected[column].tolist(), abs=1e-4)


def test_times_are_the_recordings_also_where_it_was_resampled(model_folder, tmp_path):
    """A file of 44.1 kHz and the same sound at the model's rate."""
    sound = np.sin(np.arange(66_150) / 30) * np.linspace(0, 1, 66_150)
    (tmp_path / "s").mkdir()
    soundfile.write(tmp_path / "s" / "a.wav", sound, 44_100)
    detect(model_folder, tmp_path / "s", tmp_path / "all.csv", hop=0.5, device="cpu")
    assert sorted({float(row["start"]) for row in rows(tmp_path / "all.csv")}) == pytest.approx(
        [0, 0.5, 1.5 - 0.655], abs=1e-4
    )
    assert max(float(row["end"]) for row in rows(tmp_path / "all.csv")) == 1.5


def test_every_form_is_written_beside_the_others_without_hearing_again(
    model_folder, season, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    detect(model_folder, season, out, "raven", **OPTIONS)
    monkeypatch.setattr(Predictor, "_batch", None)
    monkeypatch.setattr(Predictor, "_windows", None)
    for form in FORMATS if has_pyarrow() else FORMATS.keys() - {"parquet"}:
        written = detect(model_folder, season, out, form, **OPTIONS)
        assert written.recordings == 11
        for path in season.rglob("*.wav"):
            place = out / path.relative_to(season).parent
            assert (place / f"{path.stem}{FORMATS[form].suffix}").is_file()


@pytest.mark.parametrize(("parts", "together"), [(0, True), (1, False), (3, True), (5, False)])
def test_stopped_anywhere_it_goes_on_and_ends_with_the_same_bytes(
    model_folder, season, tmp_path, undisturbed, monkeypatch, parts, together
):
    out = tmp_path / ("all.csv" if together else "out")
    whole, left = Journal.add, iter(range(parts))

    def add(journal, heard):
        heard = list(heard)
        if next(left, None) is None:
            raise Killed
        whole(journal, heard)

    monkeypatch.setattr(Journal, "add", add)
    with pytest.raises(Killed):
        detect(model_folder, season, out, **OPTIONS)
    monkeypatch.setattr(Journal, "add", whole)
    heard = []
    monkeypatch.setattr(
        Journal, "add", lambda journal, some: whole(journal, heard.extend(s := list(some)) or s)
    )
    detect(model_folder, season, out, **OPTIONS)
    assert len(heard) == 11 - 2 * parts
    if together:
        assert out.read_bytes() == undisturbed
    else:
        detect(model_folder, season, tmp_path / "again", **OPTIONS)
        assert tables(out) == tables(tmp_path / "again")


@pytest.mark.parametrize("count", [2, 8])
def test_the_shards_are_the_whole(model_folder, season, tmp_path, undisturbed, count):
    out = tmp_path / "all.csv"
    pieces = []
    for number in range(1, count + 1):
        written = detect(model_folder, season, out, shard=Shard(number, count), **OPTIONS)
        assert written.path == tmp_path / f"all.{number}-of-{count}.csv"
        pieces.append(written.path.read_bytes().split(b"\r\n", 1)[1])
    assert not out.exists()
    header = undisturbed.split(b"\r\n", 1)[0]
    assert header + b"\r\n" + b"".join(pieces) == undisturbed
    detect(model_folder, season, out, **OPTIONS)
    assert out.read_bytes() == undisturbed


def test_what_a_shard_that_failed_left_out_is_heard_by_the_whole(
    model_folder, season, tmp_path, undisturbed
):
    out = tmp_path / "all.csv"
    detect(model_folder, season, out, shard=Shard(2, 3), **OPTIONS)
    detect(model_folder, season, out, **OPTIONS)
    assert out.read_bytes() == undisturbed


def test_a_file_that_has_changed_and_a_new_one_are_heard_others_not(
    model_folder, copy, tmp_path, monkeypatch, caplog
):
    out = tmp_path / "out"
    detect(model_folder, copy, out, **OPTIONS)
    detect(model_folder, copy, out, "raven", **OPTIONS)
    (out / "north" / "02.csv").write_text("what somebody made of it")  # heard with 00.wav
    before = tables(out)
    noise = np.random.default_rng(5).normal(0, 0.1, 30_000)
    soundfile.write(copy / "north" / "00.wav", noise, 16_000)
    soundfile.write(copy / "zoo.wav", noise, 16_000)
    heard, whole = [], Journal.add

    def add(journal, some):
        some = list(some)
        heard.extend(name for name, *_ in some)
        whole(journal, some)

    monkeypatch.setattr(Journal, "add", add)
    detect(model_folder, copy, out, **OPTIONS)
    assert heard == ["north/00.wav", "zoo.wav"]
    after = tables(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"north/00.csv", "zoo.csv"}
    (note,) = [message for message in caplog.messages if "before that changed" in message]
    assert note.startswith(f"{out / 'north' / '00.selections.txt'} is of {copy / 'north/00.wav'}")


def test_a_season_may_get_its_second_night(model_folder, copy, tmp_path):
    season, out = tmp_path / "nights", tmp_path / "out"
    shutil.copytree(copy / "north", season / "1")
    detect(model_folder, season, out, **OPTIONS)
    first = tables(out)
    assert all(name.startswith("1/") for name in first)
    shutil.copytree(copy / "south", season / "2")
    detect(model_folder, season, out, **OPTIONS)
    both = tables(out)
    assert first.items() < both.items() and any(name.startswith("2/") for name in both)


def test_a_file_that_is_gone_is_in_the_table_no_more(model_folder, copy, tmp_path):
    detect(model_folder, copy, tmp_path / "all.csv", **OPTIONS)
    (copy / "south" / "03.wav").unlink()
    written = detect(model_folder, copy, tmp_path / "all.csv", **OPTIONS)
    assert written.recordings == 10
    assert not any("03.wav" in row["file"] for row in rows(tmp_path / "all.csv"))


def test_a_table_that_somebody_worked_on_is_left_and_one_that_is_gone_written(
    model_folder, season, tmp_path
):
    out = tmp_path / "out"
    detect(model_folder, season, out, "raven", **OPTIONS)
    first, second = out / "north" / "00.selections.txt", out / "north" / "02.selections.txt"
    lost = second.read_bytes()
    first.write_text("my annotations")
    second.unlink()
    detect(model_folder, season, out, "raven", **OPTIONS)
    assert first.read_text() == "my annotations"
    assert second.read_bytes() == lost


def test_unreadable_files_are_listed_and_tried_again(model_folder, copy, tmp_path, run_command):
    broken = copy / "south" / "05.wav"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    words = ["predict", model_folder, copy, "--format", "csv", "--out", tmp_path / "all.csv"]
    words += ["--threshold", "0.4", "--batch-size", "2", "--device", "cpu"]
    code, _, err = run_command(*words)
    assert (code, err.count("\n")) == (2, 1)
    for _ in range(2):
        code, out, err = run_command(*words, "--skip-unreadable")
        assert code == 0
        assert "note: 1 of 11 recordings left out:\n" in err
        assert "05.wav is truncated" in err
        assert out.endswith("in 10 recordings\n")
    status = broken.stat()
    broken.write_bytes(whole)
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, out, _ = run_command(*words)
    assert (code, out.endswith("in 11 recordings\n")) == (0, True)


def test_what_was_heard_is_said_when_it_goes_on(model_folder, season, tmp_path, caplog):
    caplog.set_level("INFO")
    detect(model_folder, season, tmp_path / "a.csv", shard=Shard(1, 2), **OPTIONS)
    caplog.clear()
    detect(model_folder, season, tmp_path / "a.csv", **OPTIONS)
    assert any("11 recordings" in m and "6 of them heard before" in m for m in caplog.messages)


def test_other_options_on_the_same_output_are_refused(model_folder, season, tmp_path):
    out = tmp_path / "all.csv"
    detect(model_folder, season / "north", out, shard=Shard(1, 5), **OPTIONS)
    for change, message in [
        ({"threshold": 0.5}, "threshold 0.4, not 0.5"),
        ({"threshold": {"dog": 0.4}, "classes": ["dog"]}, 'not {"dog": 0.4}; classes none'),
        ({"merge_gap": 1.0}, "merge gap none, not 1.0"),
        ({"hop": 0.1}, "hop none, not 0.1"),
        ({"batch_size": 3}, "batch size 2, not 3"),
        ({"keep_tokens": 0.5}, "keep tokens 1.0, not 0.5"),
        ({"pad": False}, "pad true, not false"),
        ({"precision": "bf16"}, "precision fp32, not bf16"),
    ]:
        with pytest.raises(ValueError, match="is the journal of another run") as caught:
            detect(model_folder, season / "north", out, **{**OPTIONS, **change})
        assert message in str(caught.value)


def test_another_model_or_folder_on_the_same_output_is_refused(
    model_folder, classifier, season, tmp_path
):
    out = tmp_path / "all.csv"
    detect(model_folder, season / "north", out, **OPTIONS)
    before = out.read_bytes()
    parts = (classifier.model, classifier.frontend, classifier.classes)
    weights.save(tmp_path / "other", AudioClassifier(*parts, multi_label=True))
    with pytest.raises(ValueError, match=r"another run: model \w+, not \w+; give another --out"):
        detect(tmp_path / "other", season / "north", out, **OPTIONS)
    bare = tmp_path / "bare"
    shutil.copytree(model_folder, bare)
    digests = set()
    for content in (b"one", b"two"):  # as the hub has older models
        (bare / "pytorch_model.bin").write_bytes(content)
        digests.add(model_digest(bare))
    assert len(digests) == 2
    with pytest.raises(ValueError, match=r"another run: recordings .*north, not .*south"):
        detect(model_folder, season / "south", out, **OPTIONS)
    assert out.read_bytes() == before


def test_the_same_model_elsewhere_is_the_same(model_folder, season, tmp_path):
    out = tmp_path / "all.csv"
    detect(model_folder, season, out, **OPTIONS)
    shutil.copytree(model_folder, tmp_path / "copy")
    detect(tmp_path / "copy", season, out, **OPTIONS)


def test_tables_may_lie_beside_the_recordings(model_folder, copy):
    detect(model_folder, copy, copy, "audacity", **OPTIONS)
    assert (copy / "north" / "00.txt").is_file()
    detect(model_folder, copy, copy, "audacity", **OPTIONS)


def test_what_is_somebody_elses_is_not_written_over(model_folder, copy, tmp_path):
    notes = copy / "north" / "00.txt"
    notes.write_text("my notes")
    with pytest.raises(ValueError, match=r"00.txt was not written by this command"):
        detect(model_folder, copy, copy, "audacity", **OPTIONS)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "owl.jpg").write_text("")
    with pytest.raises(ValueError, match=r"a folder of something else: it holds 'owl.jpg'"):
        detect(model_folder, copy, tmp_path / "photos", **OPTIONS)
    (tmp_path / "all.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"all.csv was not written by this command"):
        detect(model_folder, copy, tmp_path / "all.csv", **OPTIONS)
    with pytest.raises(ValueError, match=r"is a file; give a folder, or .* a name in .txt"):
        detect(model_folder, copy, tmp_path / "all.csv", "raven", **OPTIONS)
    assert notes.read_text() == "my notes"
    assert (tmp_path / "all.csv").read_text() == "mine"


def test_two_recordings_of_one_table_are_refused(model_folder, copy, tmp_path):
    content = (copy / "north" / "00.wav").read_bytes()
    (copy / "north" / "00.wave").write_bytes(content)
    with pytest.raises(ValueError, match=r"00.wav and .*00.wave would have one table"):
        detect(model_folder, copy, tmp_path / "out", **OPTIONS)
    detect(model_folder, copy, tmp_path / "all.csv", **OPTIONS)


def test_audacity_has_no_table_of_several(model_folder, season, tmp_path):
    with pytest.raises(ValueError, match="do not say which of 11 recordings"):
        detect(model_folder, season, tmp_path / "all.txt", "audacity", **OPTIONS)
    one = season / "north" / "00.wav"
    detect(model_folder, one, tmp_path / "one.txt", "audacity", **OPTIONS)
    assert (tmp_path / "one.txt").is_file()


def test_raven_names_a_recording_in_one_line(model_folder, copy, tmp_path):
    (copy / "north" / "00.wav").rename(copy / "north" / "0\t0.wav")
    with pytest.raises(ValueError, match="rename it, or choose the format csv"):
        detect(model_folder, copy, tmp_path / "all.txt", "raven", **OPTIONS)
    detect(model_folder, copy, tmp_path / "out", "raven", **OPTIONS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--format", "ravn", "--out", "o"], "--format 'ravn' is unknown; use one of raven"),
        (["--format", "raven"], "--format raven needs --out"),
        (["--format", "csv", "--out", "o", "--json"], "leave out --json"),
        (["--format", "csv", "--out", "o", "--timeline"], "leave out --timeline"),
        (["--format", "csv", "--out", "o", "--shard", "9/8"], "there is no shard 9/8"),
        (["--format", "csv", "--out", "o", "--shard", "0/8"], "there is no shard 0/8"),
        (["--format", "csv", "--out", "o", "--shard", "x"], "'x' is not K/N"),
        (["--shard", "1/8"], "--shard is for tables of a season"),
        (["--merge-gap", "-1", "--threshold", "0.5"], "--merge-gap -1.0 is not a length of time"),
        (["--merge-gap", "1"], "add --threshold"),
        (["--merge-gap", "1", "--threshold", "0.5"], "--merge-gap is for timelines"),
        (["--classes", "dgo"], "the model has no class 'dgo'"),
        (["--threshold", "none.csv"], "none.csv does not exist; give a probability, or a CSV"),
        (["--threshold", "nan"], "--threshold nan is not a probability"),
    ],
)
def test_what_cannot_be_is_one_line(run_command, model_folder, sounds, words, expected):
    code, _, err = run_command("predict", model_folder, sounds / "a.wav", *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert expected in err


def test_the_command_has_thresholds_a_class_in_every_mode(
    run_command, model_folder, season, tmp_path
):
    table = tmp_path / "thresholds.csv"
    table.write_text("class,threshold\ndog,0.3\nrain,1\ncosts $5 _and_ $6,0.9\n")
    words = ["--threshold", table, "--classes", "dog", "rain", "--device", "cpu"]
    one = season / "north" / "00.wav"
    code, _, err = run_command(
        "predict", model_folder, one, "--format", "csv", "--out", tmp_path / "o.csv", *words
    )
    assert code == 0, err
    assert {row["class"] for row in rows(tmp_path / "o.csv")} <= {"dog"}
    code, out, _ = run_command("predict", model_folder, one, "--timeline", "--json", *words)
    assert {row["class"] for row in json.loads(out)[0]["timeline"]} <= {"dog"}
    code, out, _ = run_command("predict", model_folder, one, "--json", *words)
    assert {row["class"] for row in json.loads(out)[0]["classes"]} <= {"dog"}
    table.write_text("class,threshold\ndgo,0.3\n")
    code, _, err = run_command("predict", model_folder, one, *words)
    assert (code, "the model has no class 'dgo'" in err) == (2, True)


@pytest.mark.parametrize("with_tables", [True, False])
def test_an_interruption_says_whether_it_goes_on(
    run_command, model_folder, season, tmp_path, monkeypatch, with_tables
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "_batch", interrupted)
    words = ["--format", "csv", "--out", tmp_path / "all.csv"] if with_tables else []
    code, _, err = run_command("predict", model_folder, season, "--device", "cpu", *words)
    assert (code, "the same command goes on from here" in err) == (130, with_tables)


def test_torchrun_without_tables_is_refused(run_command, model_folder, season, monkeypatch):
    monkeypatch.setattr("train.cli.predict.world_size", lambda: 2)
    code, _, err = run_command("predict", model_folder, season, "--device", "cpu")
    assert (code, "torchrun's processes share recordings with --format" in err) == (2, True)
