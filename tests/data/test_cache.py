"""`ClipCache`: a clip is decoded once, the folder stays bounded, and nothing there can hurt."""

import errno
import io
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

import data.cache
from data.audio import load_audio
from data.cache import HEADER_BYTES, SHARDS, ClipCache

RATE = 16_000
SAMPLES = 4_000
ENTRY_BYTES = HEADER_BYTES + 4 * SAMPLES


def write_clip(path: Path, seed: int = 0, samples: int = SAMPLES) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    soundfile.write(path, noise, RATE)
    return path


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_bounded(cache: ClipCache) -> None:
    for shard in cache.folder.iterdir():
        assert sum(file.stat().st_size for file in files_in(shard)) <= cache.max_bytes // SHARDS


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_clip(tmp_path / "clip.wav")


@pytest.fixture
def cache(tmp_path) -> ClipCache:
    return ClipCache(tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """Every path that the cache has had decoded, in order."""
    paths = []

    def counting(path, sample_rate):
        paths.append(path)
        return load_audio(path, sample_rate)

    monkeypatch.setattr(data.cache, "load_audio", counting)
    return paths


def test_a_clip_is_decoded_once(cache, clip, decoded):
    expected = load_audio(clip)
    for _ in range(3):
        waveform = cache.load(clip, RATE)
        assert waveform.dtype == torch.float32
        assert torch.equal(waveform, expected)
    assert decoded == [clip]


def test_what_is_loaded_may_be_changed_in_place(cache, clip):
    for _ in range(2):  # decoded, then cached
        cache.load(clip, RATE).zero_()
    assert torch.equal(cache.load(clip, RATE), load_audio(clip))


def test_each_sample_rate_has_its_own_entry(cache, clip, decoded):
    for _ in range(2):
        assert len(cache.load(clip, RATE)) == SAMPLES
        assert len(cache.load(clip, RATE // 2)) == SAMPLES // 2
    assert len(decoded) == 2


def test_a_relative_path_is_the_same_clip(cache, clip, decoded, monkeypatch):
    cache.load(clip, RATE)
    monkeypatch.chdir(clip.parent)
    cache.load(clip.name, RATE)
    assert decoded == [clip]


def test_a_changed_source_is_decoded_anew(cache, clip):
    before, status = cache.load(clip, RATE), clip.stat()
    write_clip(clip, seed=1)
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert clip.stat().st_size == status.st_size
    assert torch.equal(cache.load(clip, RATE), load_audio(clip))
    assert not torch.equal(cache.load(clip, RATE), before)


def test_errors_are_those_of_load_audio(cache, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav does not exist"):
        cache.load(tmp_path / "gone.wav", RATE)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match=r"empty\.wav is empty"):
        cache.load(tmp_path / "empty.wav", RATE)
    with pytest.raises(ValueError, match="sample_rate"):
        cache.load(write_clip(tmp_path / "clip.wav"), 0)
    assert not cache.folder.exists()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SHAPE = b"(4000,), }         "  # in the header of a good entry
DAMAGE = {
    "empty": lambda good: b"",
    "half a header": lambda good: good[:50],
    "cut": lambda good: good[:-1],
    "too long": lambda good: good + b"\0",
    "zeros": lambda good: bytes(len(good)),
    "short shape": lambda good: good.replace(SHAPE, b"(400,), }".ljust(len(SHAPE))),
    "expression": lambda good: good.replace(SHAPE, b"(4*1000,), }".ljust(len(SHAPE))),
    "gigantic shape": lambda good: good.replace(SHAPE, b"(4000000000000,), }"),
    "float64": lambda good: npy(np.zeros(9)),
    "matrix": lambda good: npy(np.zeros((2, 9), np.float32)),
    "no samples": lambda good: npy(np.zeros(0, np.float32)),
    "pickle": lambda good: npy(np.array([{}])),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_decoded_and_rewritten(damage, cache, clip, decoded):
    expected = cache.load(clip, RATE)
    (entry,) = files_in(cache.folder)
    good = entry.read_bytes()
    entry.write_bytes(damage(good))
    assert entry.read_bytes() != good
    assert torch.equal(cache.load(clip, RATE), expected)
    assert len(decoded) == 2
    assert files_in(cache.folder) == [entry]
    assert entry.read_bytes() == good


def test_any_damaged_header_is_a_miss_or_the_clip(cache, clip):
    expected = cache.load(clip, RATE)
    (entry,) = files_in(cache.folder)
    good = entry.read_bytes()
    random = np.random.default_rng(0)
    for position in range(HEADER_BYTES):
        bad = bytearray(good)
        bad[position] = random.integers(256)
        entry.write_bytes(bad)
        assert torch.equal(cache.load(clip, RATE), expected), position


def test_a_write_that_fails_half_way_leaves_nothing(cache, clip, monkeypatch, caplog):
    def disk_fills_up(file, *_, **__):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", disk_fills_up)
    cache.load(clip, RATE)
    assert "No space left on device" in caplog.text
    assert files_in(cache.folder) == []


def test_a_folder_that_cannot_be_written_to_warns_once(clip, decoded, tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = ClipCache(tmp_path / "file" / "cache")
    for _ in range(3):
        assert torch.equal(cache.load(clip, RATE), load_audio(clip))
    (message,) = caplog.messages
    assert str(cache.folder) in message
    assert "Not a directory" in message
    assert "decoded every time" in message
    assert len(decoded) == 3


def test_of_two_threads_that_cannot_write_one_warns(cache, clip, monkeypatch, caplog):
    others = [clip]

    def refused(*_, **__):
        if others:  # another thread fails while this one is still at it
            cache.load(others.pop(), RATE)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(data.cache.tempfile, "mkstemp", refused)
    cache.load(clip, RATE)
    assert len(caplog.messages) == 1


def test_a_folder_that_became_read_only_still_serves(
    cache, clip, decoded, monkeypatch, tmp_path, caplog
):
    cache.load(clip, RATE)

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(data.cache.tempfile, "mkstemp", refused)
    other = write_clip(tmp_path / "other.wav", seed=1)
    cache.load(other, RATE)
    assert "Permission denied" in caplog.text
    cache.load(clip, RATE)
    assert decoded == [clip, other]


class OneShard(ClipCache):
    """All entries are in one folder."""

    def entry(self, path, sample_rate):
        return self.folder / "0" / super().entry(path, sample_rate).name


def test_the_oldest_entries_make_room(tmp_path):
    cache = OneShard(tmp_path / "cache", SHARDS * 3 * ENTRY_BYTES)
    clips = [write_clip(tmp_path / f"{number}.wav", number) for number in range(5)]
    for age, clip in zip(range(50, 0, -10), clips, strict=True):
        cache.load(clip, RATE)
        old = time.time() - age
        os.utime(cache.entry(clip, RATE), (old, old))
    assert [cache.entry(clip, RATE).exists() for clip in clips] == [False] * 2 + [True] * 3


def test_every_shard_stays_within_its_share(tmp_path):
    cache = ClipCache(tmp_path / "cache", SHARDS * 2 * ENTRY_BYTES)
    for number in range(60):
        cache.load(write_clip(tmp_path / f"{number}.wav", number), RATE)
        assert_bounded(cache)
    assert 16 <= len(files_in(cache.folder)) <= 32


def test_a_clip_larger_than_a_share_is_not_cached(clip, decoded, tmp_path):
    fits = ClipCache(tmp_path / "fits", SHARDS * ENTRY_BYTES)
    does_not = ClipCache(tmp_path / "does not", SHARDS * ENTRY_BYTES - 1)
    for cache, times in ((fits, 1), (does_not, 2)):
        decoded.clear()
        assert torch.equal(cache.load(clip, RATE), cache.load(clip, RATE))
        assert len(decoded) == times
    assert not does_not.folder.exists()


def leave_behind(cache: ClipCache, clip: Path, age: float) -> Path:
    """The temporary file of a writer that was killed `age` seconds ago."""
    entry = cache.entry(clip, RATE)
    entry.parent.mkdir(parents=True)
    leftover = entry.with_name(f"{'0' * 64}.x_9z.tmp")
    leftover.write_bytes(bytes(100))
    os.utime(leftover, (time.time() - age, time.time() - age))
    return leftover


def test_what_a_killed_writer_left_is_removed_after_an_hour(cache, clip):
    leftover = leave_behind(cache, clip, 3700)
    cache.load(clip, RATE)
    assert files_in(cache.folder) == [cache.entry(clip, RATE)]
    assert not leftover.exists()


def test_what_a_killed_writer_left_counts_until_then(clip, tmp_path):
    cache = ClipCache(tmp_path / "cache", SHARDS * (ENTRY_BYTES + 99))
    leftover = leave_behind(cache, clip, 3500)
    assert torch.equal(cache.load(clip, RATE), load_audio(clip))
    assert files_in(cache.folder) == [leftover]
    assert cache.writable


def test_files_of_others_are_never_deleted(cache, clip, tmp_path):
    cache = ClipCache(tmp_path / "cache", SHARDS * ENTRY_BYTES)
    shard = cache.entry(clip, RATE).parent
    shard.mkdir(parents=True)
    foreign = [shard / "features.npy", shard / "notes.tmp"]
    for path in foreign:
        path.write_bytes(bytes(9999))
        os.utime(path, (0, 0))
    cache.load(clip, RATE)
    assert files_in(shard) == sorted([*foreign, cache.entry(clip, RATE)])


def test_an_entry_that_another_worker_deletes_during_the_scan_is_no_error(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name * 64}.npy").write_bytes(bytes(100))

    class QuickerWorker:
        def fullmatch(self, name: str) -> bool:
            (tmp_path / f"{'a' * 64}.npy").unlink(missing_ok=True)
            return True

    monkeypatch.setattr(data.cache, "OUR_FILE", QuickerWorker())
    assert data.cache.trim(tmp_path, share=100) == 100
    assert [file.name[0] for file in files_in(tmp_path)] == ["b"]


def test_threads_that_write_at_once_stay_within_the_bound(tmp_path, caplog):
    cache = ClipCache(tmp_path / "cache", SHARDS * 4 * ENTRY_BYTES)
    clips = [write_clip(tmp_path / f"{number}.wav", number) for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(cache.load, clips * 2, [RATE] * 200))
    assert not caplog.messages
    assert_bounded(cache)
    assert all(file.suffix == ".npy" for file in files_in(cache.folder))
    for clip, waveform in zip(clips * 2, loaded, strict=True):
        assert torch.equal(waveform, load_audio(clip))


def test_many_writers_into_one_shard_leave_it_within_the_bound(tmp_path, monkeypatch):
    """Again and again: a listing that misses a file in the moment of its renaming is rare."""
    waveform = torch.zeros(1000)
    monkeypatch.setattr(data.cache, "load_audio", lambda *_: waveform)
    clips = [tmp_path / f"{number}.wav" for number in range(60)]
    for clip in clips:
        clip.touch()
    for attempt in range(40):
        cache = OneShard(tmp_path / str(attempt), SHARDS * 4 * (4 * len(waveform) + HEADER_BYTES))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(cache.load, clips, [RATE] * len(clips)))
        assert_bounded(cache)


class Clips(Dataset):
    def __init__(self, cache: ClipCache, paths: list[Path]) -> None:
        self.cache, self.paths = cache, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.cache.load(self.paths[index], RATE)


def test_data_loader_workers_share_a_cache(tmp_path, decoded):
    cache = ClipCache(tmp_path / "cache", SHARDS * 2 * ENTRY_BYTES)
    clips = [write_clip(tmp_path / f"{number}.wav", number) for number in range(40)]
    loader = DataLoader(Clips(cache, clips), batch_size=None, num_workers=2)
    for clip, waveform in zip(clips, loader, strict=True):
        assert torch.equal(waveform, load_audio(clip))
    assert_bounded(cache)
    survivors = [clip for clip in clips if cache.entry(clip, RATE).exists()]
    for clip in survivors:
        cache.load(clip, RATE)
    assert survivors and not decoded


def test_can_be_pickled(cache, clip, decoded):
    cache.load(clip, RATE)
    pickle.loads(pickle.dumps(cache)).load(clip, RATE)
    assert decoded == [clip]


def test_a_negative_bound_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_bytes -1 is negative"):
        ClipCache(tmp_path, -1)


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_default_folder_is_under_the_home(value, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert ClipCache().folder == tmp_path / ".cache" / "ast-audio" / "clips"


def test_default_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ClipCache().folder == tmp_path / "ast-audio" / "clips"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e19])
def test_an_entry_that_no_clip_can_have_is_decoded_anew(value, cache, clip, decoded):
    waveform = cache.load(clip)
    np.save(cache.entry(clip), np.full(len(waveform), value, np.float32))
    assert torch.equal(cache.load(clip), waveform)
    assert len(decoded) == 2


def test_a_pipe_in_place_of_an_entry_is_not_waited_for(cache, clip):
    cache.entry(clip).parent.mkdir(parents=True)
    os.mkfifo(cache.entry(clip))
    assert torch.equal(cache.load(clip), load_audio(clip))
