"""Segments hold what the recordings do, are safely named, and never replace verdicts."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data.corpora.segments import SEGMENT_COLUMNS
from train.inference.detections.choice import DETECTION
from train.inference.detections.formats import FORMATS, Heard, Table
from train.inference.listening import write_segments
from train.inference.listening.cut import safe_name

HOSTILE = "../../owl: *?"


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    """Two recordings of one name: stereo of 24 bits at 44.1 kHz, mono of 16 bits at 8 kHz."""
    folder = tmp_path_factory.mktemp("season")
    generator = np.random.default_rng(0)
    for name, rate, channels, subtype in (
        ("north", 44_100, 2, "PCM_24"),
        ("south", 8_000, 1, "PCM_16"),
    ):
        (folder / name).mkdir()
        noise = generator.uniform(-0.5, 0.5, (10 * rate, channels))
        soundfile.write(folder / name / "dawn.wav", noise, rate, subtype)
    return folder


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "start", "end", "class", "probability"), *rows])
    return path


@pytest.fixture
def detections(season, tmp_path):
    north, south = (season / place / "dawn.wav" for place in ("north", "south"))
    return table(
        tmp_path / "all.csv",
        [
            *((north, 2, 3, "owl", 0.9), (south, 2, 3, "owl", 0.9), (south, 0, 0.5, "owl", 0.2)),
            *((south, 9, 10, HOSTILE, 0.6), (north, 4, 5, "Owl", 0.7)),
        ],
    )


def read(folder):
    with (folder / "segments.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change_verdict(folder, row, verdict):
    rows = read(folder)
    rows[row]["verdict"] = verdict
    with (folder / "segments.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SEGMENT_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("pad", [0.0, 1.25])
def test_a_segment_holds_the_samples_of_the_recording(detections, tmp_path, pad):
    written = write_segments(detections, tmp_path / "out", pad=pad)
    rows = read(tmp_path / "out")
    assert (written.segments, written.classes, len(rows)) == (5, 3, 5)
    for row in rows:
        whole, rate = soundfile.read(row["recording"], dtype="int32", always_2d=True)
        first = max(0, round((float(row["start"]) - pad) * rate))
        last = min(len(whole), round((float(row["end"]) + pad) * rate))
        assert float(row["segment_start"]) == pytest.approx(first / rate, abs=1e-6)
        file = tmp_path / "out" / row["path"]
        samples, own_rate = soundfile.read(file, dtype="int32", always_2d=True)
        assert own_rate == rate
        np.testing.assert_array_equal(samples, whole[first:last])
        assert soundfile.info(file).subtype == soundfile.info(row["recording"]).subtype


@pytest.mark.parametrize(("suffix", "kind"), [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")])
def test_spans_of_compressed_recordings_are_exact(tmp_path, suffix, kind):
    path = tmp_path / f"a.{suffix}"
    generator = np.random.default_rng(0)
    sound = np.sin(np.cumsum(generator.uniform(0, 0.5, 220_500))) * generator.uniform(
        0, 0.4, 220_500
    )
    soundfile.write(path, sound, 44_100, kind, format=suffix.upper())
    starts = generator.uniform(0, 4.8, 120)
    rows = [(path, start, start + 0.1, "owl", 0.5) for start in starts]
    write_segments(table(tmp_path / "a.csv", rows), tmp_path / "out", per_class=120, pad=0.0)
    whole, rate = soundfile.read(path)
    for row in read(tmp_path / "out"):
        first = round(float(row["segment_start"]) * rate)
        samples, _ = soundfile.read(tmp_path / "out" / row["path"])
        np.testing.assert_allclose(samples, whole[first : first + len(samples)], atol=2e-5)


def test_spans_of_an_mp3_of_changing_bit_rate_are_exact(tmp_path):
    """Its frames lean on several before them: read from 4,608 samples before, some differ."""
    generator = np.random.default_rng(0)
    times = np.arange(4 * 44_100)
    tone, noise = 0.3 * np.sin(0.06 * times), generator.normal(0, 0.3, len(times))
    sound = np.where(times // 3_000 % 7 == 0, noise, tone).clip(-1, 1)
    path = tmp_path / "a.mp3"
    soundfile.write(
        path, np.stack([sound] * 2, 1), 44_100, "MPEG_LAYER_III", format="MP3",
        bitrate_mode="VARIABLE", compression_level=0.3,
    )  # fmt: skip
    rows = [(path, start, start + 0.1, "owl", 0.5) for start in generator.uniform(0, 3.8, 60)]
    write_segments(table(tmp_path / "a.csv", rows), tmp_path / "out", per_class=60, pad=0.0)
    whole, rate = soundfile.read(path)
    for row in read(tmp_path / "out"):
        first = round(float(row["segment_start"]) * rate)
        samples, _ = soundfile.read(tmp_path / "out" / row["path"])
        expected = whole[first : first + len(samples)]
        expected = expected / max(1.0, np.abs(expected).max())  # as a FLAC holds it
        np.testing.assert_allclose(samples, expected, atol=5e-5)


def test_a_wav_that_a_killed_recorder_left_and_a_name_that_is_no_utf8_are_cut(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 16_000)
    soundfile.write(tmp_path / "a.wav", noise, 16_000, "PCM_16")
    expected, _ = soundfile.read(tmp_path / "a.wav")
    header = bytearray((tmp_path / "a.wav").read_bytes())
    header[4:8] = header[40:44] = bytes(4)  # the sizes were never written
    places = [tmp_path / "killed.wav", tmp_path / os.fsdecode(b"\xff.wav")]
    for place in places:
        place.write_bytes(header)
        heard = Heard(place, 3.0, 16_000, np.array([(1.0, 2.0, 0, 0.9)], DETECTION))
        table = Table(("owl",), (0, 8_000), tmp_path, combined=True)
        FORMATS["json"].write(tmp_path / "heard.json", [heard], table)
        out = tmp_path / f"out of {places.index(place)}"
        write_segments(tmp_path / "heard.json", out, pad=0.0)
        (cut,) = out.rglob("*.flac")
        assert np.array_equal(soundfile.read(cut)[0], expected[16_000:32_000])


def test_only_the_span_is_read(detections, tmp_path, monkeypatch):
    asked = []
    read_some = soundfile.SoundFile.read

    def count(self, frames=-1, *args, **kwargs):
        asked.append(frames)
        return read_some(self, frames, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", count)
    write_segments(detections, tmp_path / "out", pad=0.0)
    samples = [4_000, 8_000, 8_000, 44_100, 44_100]
    assert all(0 <= n - own <= 8192 for n, own in zip(sorted(asked), samples, strict=True))


def test_names_sort_and_stay_inside_without_taking_each_other(detections, tmp_path):
    write_segments(detections, tmp_path / "out")
    names = [row["path"] for row in read(tmp_path / "out")]
    assert names == [
        "_.._owl_ __/0.6000_dawn_000009.000.flac",
        "Owl/0.7000_dawn_000004.000.flac",
        "owl-2/0.9000_dawn_000002.000.flac",
        "owl-2/0.9000_dawn_000002.000-2.flac",
        "owl-2/0.2000_dawn_000000.000.flac",
    ]
    held = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")
    }
    assert held - {"_.._owl_ __"} == {*names, "segments.csv", "classes.txt"}
    assert (tmp_path / "out" / "classes.txt").read_text().split("\n") == [HOSTILE, "Owl", "owl", ""]


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_one_part_of_a_path(text):
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 101
    assert not set(name) & set('/\\:*?"<>|\0\n') and not name.endswith((".", " "))
    assert name not in (".", "..") and name.split(".")[0].lower() not in ("con", "nul")


def test_an_older_folder_is_replaced_until_it_has_verdicts(detections, tmp_path):
    out = tmp_path / "out"
    write_segments(detections, out)
    write_segments(detections, out, per_class=1)
    assert len(read(out)) == 3 and len([*out.rglob("*.flac")]) == 3
    change_verdict(out, 1, "no")
    before = (out / "segments.csv").read_bytes()
    with pytest.raises(ValueError, match="has verdicts on 1 segments; give another --out"):
        write_segments(detections, out)
    assert (out / "segments.csv").read_bytes() == before


def test_verdicts_given_meanwhile_stay(detections, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_segments(detections, out)

    def write(*args, **kwargs):
        change_verdict(out, 0, "yes")
        return write_file(*args, **kwargs)

    write_file = soundfile.write
    monkeypatch.setattr(soundfile, "write", write)
    with pytest.raises(ValueError, match="has verdicts on 1"):
        write_segments(detections, out)
    assert read(out)[0]["verdict"] == "yes"


@pytest.mark.parametrize("name", ["letter.txt", "segments.csv", "sub/.hidden"])
def test_a_folder_of_something_else_is_left_alone(detections, tmp_path, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("path,label\n")
    with pytest.raises(ValueError, match=r"folder of something else|lacks the columns"):
        write_segments(detections, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "path,label\n"


def test_a_foreign_file_among_segments_is_named(detections, tmp_path):
    write_segments(detections, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"also holds '.*notes.txt'"):
        write_segments(detections, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pad": -1.0}, ValueError, "padding of -1.0 s"),
        ({"per_class": 0}, ValueError, "0 a class are too few: expected at least 1"),
        ({"per_class": 9, "by": "stratified"}, ValueError, "expected at least 10, one for each"),
        ({"classes": ["wren"]}, ValueError, "no detection of 'wren' in the tables, which hold 3"),
    ],
)
def test_a_wrong_argument_is_refused(detections, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        write_segments(detections, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_recording_that_is_gone_or_too_short_is_named(season, tmp_path):
    recording = season / "south" / "dawn.wav"
    late = table(tmp_path / "late.csv", [(recording, 1, 2, "owl", 1), (recording, 9, 11, "owl", 1)])
    with pytest.raises(ValueError, match=r"dawn.wav lasts 10.000 s, expected 'owl' from 9.000 to"):
        write_segments(late, tmp_path / "out")
    gone = table(tmp_path / "gone.csv", [(tmp_path / "gone.wav", 1, 2, "owl", 1)])
    with pytest.raises(FileNotFoundError, match=r"gone.wav"):
        write_segments(gone, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recording_beyond_full_scale_is_scaled_and_said(tmp_path, caplog):
    loud = np.linspace(-4, 4, 8_000)
    soundfile.write(tmp_path / "loud.wav", loud, 8_000, "FLOAT")
    write_segments(
        table(tmp_path / "t.csv", [(tmp_path / "loud.wav", 0, 1, "a", 1)]), tmp_path / "out"
    )
    (file,) = Path(tmp_path / "out").rglob("*.flac")
    np.testing.assert_allclose(soundfile.read(file)[0], loud / 4, atol=2e-7)
    assert "1 of 1 segments are beyond full scale" in caplog.text
