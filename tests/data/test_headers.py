"""Headers that are kept are those that reading the files anew gives."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data.audio import read_header
from data.clips import Clip, Clips
from data.file_table import FileTable, look_at
from data.headers import FIELDS, HEADERS, read_headers

CONTENT = st.one_of(
    st.tuples(st.integers(1, 300), st.sampled_from([8000, 16_000, 44_100])),  # samples, rate
    st.sampled_from([b"", b"no audio", None]),  # None: no file
)
CHANGES = st.dictionaries(st.sampled_from("abcd"), CONTENT, max_size=3)


def clips_in(folder: Path) -> Clips:
    return Clips.of(Clip(folder / f"{name}.wav", (0,)) for name in "abcdba")


def write(path: Path, content, time: int) -> None:
    path.unlink(missing_ok=True)
    if content is None:
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, np.zeros(content[0]), content[1])
    os.utime(path, ns=(0, time))


def anew(clips: Clips) -> list[tuple[int, int]]:
    found = []
    for clip in clips:
        try:
            found.append(read_header(clip.path)[:2])
        except (OSError, ValueError):
            found.append((0, 0))
    return found


@settings(max_examples=50)
@given(st.lists(CHANGES, min_size=1, max_size=5))
def test_kept_headers_are_those_of_the_files_as_they_are_now(rounds):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = clips_in(folder)
        for time, changes in enumerate(rounds):
            for name, content in changes.items():
                write(folder / f"{name}.wav", content, time)
            headers, failures = read_headers(clips, look_at(clips), folder)
            assert headers[["samples", "sample_rate"]].tolist() == anew(clips)
            assert set(failures) == {
                clip.path for clip, row in zip(clips, headers, strict=True) if not row["samples"]
            }


def test_only_new_and_changed_files_are_opened(tmp_path, monkeypatch):
    for name in "abcd":
        write(tmp_path / f"{name}.wav", (100, 16_000), 0)
    clips = clips_in(tmp_path)
    read_headers(clips, look_at(clips), tmp_path)
    opened = []
    monkeypatch.setattr(
        "data.headers.read_header", lambda path: opened.append(path.name) or read_header(path)
    )
    read_headers(clips, look_at(clips), tmp_path)
    assert opened == []
    write(tmp_path / "c.wav", (100, 8000), 1)
    headers, _ = read_headers(clips, look_at(clips), tmp_path)
    assert opened == ["c.wav"]
    assert headers["sample_rate"].tolist() == [16_000, 16_000, 8000, 16_000, 16_000, 16_000]


@pytest.mark.parametrize("kept", [True, False])
def test_the_reason_for_a_broken_file_is_told_every_time(tmp_path, kept):
    clips = clips_in(tmp_path)[:1]
    for _ in range(2):
        _, failures = read_headers(clips, look_at(clips), tmp_path if kept else None)
        assert isinstance(failures[tmp_path / "a.wav"], FileNotFoundError)


@pytest.mark.parametrize("values", [(-1, 16_000), (1000, 0), (2**62, 16_000)])
def test_kept_headers_that_no_file_has_are_read_anew(tmp_path, values):
    for name in "abcd":
        write(tmp_path / f"{name}.wav", (300, 16_000), 1)
    clips = clips_in(tmp_path)
    files = look_at(clips)
    table = FileTable(tmp_path / "kept" / HEADERS, FIELDS)
    table.values(files["key"], lambda _: values, "test")
    headers, failures = read_headers(clips, files, tmp_path / "kept")
    assert not failures
    assert [tuple(row)[1:] for row in headers] == anew(clips)
