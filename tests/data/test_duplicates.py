"""Equal files are found whatever their names, and little is read to find them."""

import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clips import Clip, Clips
from data.duplicates import (
    BLOCK,
    content_digest,
    digests,
    equal_files,
    middle_digest,
)
from data.file_table import look_at

SAMPLES = 40_000  # 80,044 bytes of WAV


@pytest.fixture
def bytes_read(monkeypatch) -> Counter:
    """How many bytes of each .wav are read from now on."""
    counts = Counter()
    path_open = Path.open

    class Counted(io.FileIO):
        def read(self, size=-1):
            content = super().read(size)
            if self.name.suffix == ".wav":
                counts[self.name.name] += len(content)
            return content

    def counting_open(path, mode="r", *args, **kwargs):
        return Counted(path) if mode == "rb" else path_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counting_open)
    return counts


def wav(path: Path, seed: int, samples: int = SAMPLES) -> Path:
    """Noise of its own for each seed, between stretches of digital silence."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    noise[: samples // 4] = noise[-samples // 4 :] = 0
    soundfile.write(path, noise, 16_000)
    return path


def compare(first: list[Path], second: list[Path]) -> list[tuple[Path, Path]]:
    sides = [Clips.of(Clip(path, (0,)) for path in side) for side in (first, second)]
    return equal_files(*sides, *map(look_at, sides), first[0].parent)


@pytest.fixture
def files(tmp_path) -> tuple[list[Path], list[Path]]:
    """Five and ten files of one size, no two alike."""
    paths = [wav(tmp_path / f"{n}.wav", n) for n in range(15)]
    assert len({path.stat().st_size for path in paths}) == 1
    return paths[:5], paths[5:]


def test_files_of_one_size_are_read_by_a_block_each(files, bytes_read):
    assert compare(*files) == []
    assert set(bytes_read.values()) == {BLOCK}
    assert len(bytes_read) == 15


def test_only_files_with_equal_blocks_are_read_whole(files, tmp_path, bytes_read):
    first, second = files
    copy = tmp_path / "copy.wav"
    copy.write_bytes(second[3].read_bytes())
    bytes_read.clear()
    assert compare([*first, copy], second) == [(copy, second[3])]
    size = copy.stat().st_size
    assert bytes_read.pop("copy.wav") == bytes_read.pop(second[3].name) == BLOCK + size
    assert set(bytes_read.values()) == {BLOCK}


def test_files_of_a_size_that_the_other_side_lacks_are_not_read(tmp_path, bytes_read):
    first = [wav(tmp_path / f"{n}.wav", n, samples=2000 + n) for n in range(5)]
    second = [wav(tmp_path / f"{n}.wav", n, samples=2000 + n) for n in range(4, 9)]
    bytes_read.clear()
    assert compare(first, second) == [(first[4], first[4])]
    assert set(bytes_read) == {"4.wav"}


def test_files_that_differ_outside_of_the_block_are_not_equal(files, tmp_path):
    first, second = files
    other = tmp_path / "other.wav"
    content = bytearray(second[0].read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    assert compare([*first, other], second) == []


def test_what_was_read_is_not_read_again(files, tmp_path, bytes_read):
    first, second = files
    copy = tmp_path / "copy.wav"
    copy.write_bytes(second[3].read_bytes())
    assert compare([*first, copy], second) == [(copy, second[3])]
    bytes_read.clear()
    assert compare([*first, copy], second) == [(copy, second[3])]
    assert not bytes_read


def test_a_changed_file_is_read_again(files, bytes_read):
    first, second = files
    compare(first, second)
    status = first[0].stat()
    first[0].write_bytes(second[3].read_bytes())
    os.utime(first[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    bytes_read.clear()
    assert compare(first, second) == [(first[0], second[3])]
    assert bytes_read[first[0].name] > BLOCK
    assert bytes_read[first[1].name] == 0


def test_without_a_folder_for_digests_nothing_is_kept(files, tmp_path):
    before = set(tmp_path.iterdir())
    clips = Clips.of(Clip(path, (0,)) for path in files[0])
    assert len(set(digests(clips, look_at(clips)["key"], content_digest).tolist())) == 5
    assert set(tmp_path.iterdir()) == before


def test_block_and_content_of_a_file_are_kept_apart(files, tmp_path):
    clips = Clips.of([Clip(files[0][0], (0,))])
    keys = look_at(clips)["key"]
    blocks = digests(clips, keys, middle_digest, tmp_path)
    assert digests(clips, keys, content_digest, tmp_path) != blocks
    assert digests(clips, keys, middle_digest, tmp_path) == blocks


def test_small_and_empty_files_are_compared(tmp_path):
    paths = [tmp_path / name for name in "abcde"]
    for path, content in zip(paths, [b"", b"x", b"y", b"x", b""], strict=True):
        path.write_bytes(content)
    assert compare(paths[:3], paths[3:]) == [(paths[0], paths[4]), (paths[1], paths[3])]
