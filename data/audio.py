"""From an audio file to a waveform: decode, average to mono, resample. Damaged files are errors."""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
from collections.abc import Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
import torch

BLOCK_VALUES = 2**22  # decoded at a time, all channels together: 16 MiB of float32
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; outside, resampling could fill the memory
LOUDEST = 2.0**31  # full scale of 32-bit integers: the most that an unscaled recording reaches
WHOLE_SECONDS = 4 * 3600.0  # held in memory at once: 0.9 GB at 16 kHz
STREAM_SECONDS = 31 * 24 * 3600.0  # read block by block
MOST_CHUNKS = 10_000  # of a WAV before its samples; a few are common
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count for a FLAC header that announces none

UNKNOWN_BYTES = 0xFFFFFFFF  # WAV size of a writer that cannot seek back to its header (ffmpeg)
UNKNOWN_BYTES_SOX = range(0x7FFFEFC0, 0x7FFFF001)  # sox: 0x7FFFF000, less a part of a frame
MIDI_DUMP = b"\xf0\x7e"  # first bytes of a sample dump (SDS), of whose faults libsndfile prints
LONGEST_OGG_PAGE = 27 + 255 + 255 * 255  # header, segment table, segments; bytes (RFC 3533)


class _StraightThrough(soundfile.SoundFile):
    """Read without the seek that soundfile makes after each block.

    Seeking breaks an MP3 at the seam (its frames lean on the ones before) and fails at the end of a
    FLAC of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _UnknownSize(io.FileIO):
    """A WAV whose data size, the 4 bytes before `samples_begin`, reads as unknown."""

    def __init__(self, path: Path, samples_begin: int) -> None:
        super().__init__(path)
        self.size_begins = samples_begin - 4

    def readinto(self, buffer: memoryview) -> int:
        start = self.tell()
        count = super().readinto(buffer)
        first, end = max(start, self.size_begins), min(start + count, self.size_begins + 4)
        if first < end:
            buffer[first - start : end - start] = b"\xff" * (end - first)  # UNKNOWN_BYTES
        return count

    def __del__(self) -> None:
        self.close()  # soundfile leaves open what it has not opened


def load_audio(
    path: str | os.PathLike[str], sample_rate: int = 16_000, max_seconds: float = WHOLE_SECONDS
) -> torch.Tensor:
    """One audio file as a mono waveform.

    Decoded by libsndfile (WAV, FLAC, Ogg, MP3), channels averaged, resampled by soxr (quality HQ).
    Integer formats are scaled to [-1, 1]; float formats keep their values, those of a few hundred
    or 32,768 (integers that were not scaled) too, up to 2^31. Beyond, which no recording reaches,
    the file is refused: the squares of such samples are infinite in float32.

    A truncated file is refused, not silently shortened, except where nothing gives it away: an Ogg
    file cut exactly between two pages; an MP3 without a Xing, Info or VBRI header; a WAV or FLAC
    written to a pipe, whose header leaves the length open (WAV data size 0, 0x7FFFF000 or
    0xFFFFFFFF; FLAC 0 samples): it is read to its end; formats beside these four. An MP3 of
    variable bit rate without such a header may come out shorter than it is, because libsndfile
    estimates its length.

    Args:
        path: the file.
        sample_rate: of the result, 1,000 to 1,000,000 Hz.
        max_seconds: a longer file is refused, since a small one may hold days of silence.

    Returns:
        (samples,), float32, finite, within 2^31, at least one sample.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong sample rate; or the path is no file, or the file is empty, not audio,
            truncated, damaged, without samples, too long, or holds NaN, infinity or more than 2^31.
    """
    sample_rate = whole_rate(sample_rate)
    path = Path(path)
    with _opened(path, max_seconds) as file:
        blocks = _mono_blocks(file, path, BLOCK_VALUES, max_seconds)
        # Block by block, since at its own rate a file may be many times as large.
        blocks = list(resampled(blocks, file.samplerate, sample_rate))
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if not len(waveform):
        raise _no_samples(path, sample_rate)
    return torch.from_numpy(waveform)


def stream_audio(
    path: str | os.PathLike[str],
    sample_rate: int = 16_000,
    block_seconds: float = 30.0,
    max_seconds: float = STREAM_SECONDS,
) -> Iterator[torch.Tensor]:
    """One audio file as consecutive blocks of a mono waveform, in memory for one block.

    Joined, the blocks are `load_audio(path, sample_rate)`, bit for bit. A file that turns out to be
    truncated or damaged is refused where that shows, at its end at the latest: after blocks that
    were sound.

    Args:
        path: the file.
        sample_rate: of the result, 1,000 to 1,000,000 Hz.
        block_seconds: length of a block; the last is as long as what is left.
        max_seconds: a longer file is refused; a month by default.

    Yields:
        (samples,), float32, finite, at least one sample.

    Raises:
        FileNotFoundError, ValueError: as `load_audio`, when the block concerned is asked for; at
            once for a wrong `sample_rate`, or `block_seconds` of less than one sample.
    """
    sample_rate = whole_rate(sample_rate)
    if not 1 <= block_seconds * sample_rate < math.inf:
        raise ValueError(
            f"block_seconds {block_seconds!r} is not a length of at least one sample; give seconds"
        )
    return _stream(Path(path), sample_rate, round(block_seconds * sample_rate), max_seconds)


class Header(NamedTuple):
    """What a file says of itself, without decoding."""

    samples: int
    sample_rate: int  # Hz
    size: int  # bytes

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def read_header(path: Path) -> Header:
    """Length and sample rate of a file, after the checks of `load_audio` that need no decoding.

    Raises:
        FileNotFoundError, ValueError: as `load_audio`, with the `max_seconds` of `stream_audio`.
    """
    _require_file(path)
    try:
        with soundfile.SoundFile(checked_source(path)) as file:
            samples, sample_rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, TypeError):  # TypeError: a name that ends in .raw
        samples = sample_rate = 0
    if sample_rate not in SAMPLE_RATES or samples in (0, UNKNOWN_FRAMES):
        # Decoding names what is wrong, or finds the length that a streamed FLAC does not announce.
        sample_rate = sample_rate if sample_rate in SAMPLE_RATES else 16_000
        samples = sum(map(len, stream_audio(path, sample_rate)))
    _require_length(path, samples / sample_rate, STREAM_SECONDS)
    return Header(samples, sample_rate, path.stat().st_size)


def read_spans(path: Path, starts: Iterable[int], count: int) -> list[np.ndarray]:
    """Spans of a file at its own rate, each found by seeking; channels averaged.

    For looking and listening: a file that is damaged elsewhere is not refused, samples that are no
    numbers are 0, and where Ogg and MP3 are found by seeking they may be off by a frame or so.

    Args:
        path: the file.
        starts: first sample of each.
        count: samples of each.

    Returns:
        (samples,) float32 each; fewer than `count` where the file ends.

    Raises:
        FileNotFoundError, ValueError: the file cannot be opened or read there.
    """
    _require_file(path)
    try:
        with soundfile.SoundFile(checked_source(path)) as file:
            return [_span(file, start, count) for start in starts]
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a name that ends in .raw
        raise _undecodable(path, " ".join(str(error).split())) from error


def _span(file: soundfile.SoundFile, start: int, count: int) -> np.ndarray:
    samples = np.empty(max(0, min(count, file.frames - start)), np.float32)
    if len(samples):
        file.seek(start)
    position, at_once = 0, max(1, BLOCK_VALUES // file.channels)
    while position < len(samples):
        block = file.read(min(at_once, len(samples) - position), "float32", always_2d=True)
        if not len(block):
            break
        samples[position : position + len(block)] = block.mean(axis=1)
        position += len(block)
    return np.nan_to_num(samples[:position], posinf=0.0, neginf=0.0)


def _stream(path: Path, sample_rate: int, size: int, max_seconds: float) -> Iterator[torch.Tensor]:
    """Blocks of `size` samples at `sample_rate`, and one of what is left."""
    held, count, empty = [], 0, True
    with _opened(path, max_seconds) as file:
        frames = 1 + size * file.samplerate // sample_rate
        blocks = _mono_blocks(file, path, min(BLOCK_VALUES, frames * file.channels), max_seconds)
        for piece in resampled(blocks, file.samplerate, sample_rate):
            held.append(piece)
            count += len(piece)
            if count >= size:
                joined = np.concatenate(held)
                rest = count % size
                for start in range(0, count - rest, size):
                    yield torch.from_numpy(joined[start : start + size])
                held, count, empty = [joined[count - rest :].copy()], rest, False
    if count:
        yield torch.from_numpy(np.concatenate(held))
    elif empty:
        raise _no_samples(path, sample_rate)


def whole_rate(sample_rate: float) -> int:
    """A sample rate as an integer; ValueError if it is not from 1,000 to 1,000,000 whole Hz."""
    is_whole = isinstance(sample_rate, Real) and sample_rate % 1 == 0
    if not is_whole or int(sample_rate) not in SAMPLE_RATES:
        raise ValueError(
            f"sample_rate {sample_rate!r} is not a whole number from 1000 to 1000000 (Hz)"
        )
    return int(sample_rate)


@contextlib.contextmanager
def _opened(path: Path, max_seconds: float) -> Iterator[soundfile.SoundFile]:
    """The file, ready to decode; what libsndfile raises meanwhile becomes one line."""
    _require_file(path)
    try:
        with _StraightThrough(checked_source(path)) as file:
            if file.samplerate not in SAMPLE_RATES:
                raise ValueError(
                    f"{path} announces {file.samplerate} Hz, not 1000 to 1000000 Hz; "
                    f"its header is damaged"
                )
            if _announces_length(file, path):
                _require_length(path, file.frames / file.samplerate, max_seconds)
            yield file
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a name that ends in .raw
        reason = " ".join(getattr(error, "error_string", str(error)).split())
        raise _undecodable(path, reason) from error


def _require_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the path or the data folder")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(f"{path} is {kind}; give one audio file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); restore or remove it")


def checked_source(path: Path) -> str | bytes | io.FileIO:
    """What soundfile is to open, after the checks that libsndfile does not make."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic.startswith(MIDI_DUMP):
            raise _undecodable(path, "a MIDI sample dump")
        if magic in (b"RIFF", b"RIFX", b"RF64"):
            return _checked_wav(file, path)
        if magic == b"OggS":
            _check_last_ogg_page(file, path)
    return _name(path)


def _name(path: Path) -> str | bytes:
    """As soundfile takes it: bytes, since it cannot encode names that are not UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _checked_wav(file: BinaryIO, path: Path) -> str | bytes | io.FileIO:
    """Compare the size of a WAV's data with the file's; libsndfile only shortens the clip.

    A streamed WAV of data size 0 has no samples for libsndfile: it gets to read "unknown".
    """
    file.seek(0)
    header = file.read(12)
    order = ">" if header.startswith(b"RIFX") else "<"
    position, size = _find_wav_data(file, order)
    available = path.stat().st_size - position
    if position and size == 0 < available:
        (riff_bytes,) = struct.unpack(f"{order}I", header[4:8])
        if riff_bytes == UNKNOWN_BYTES or 8 + riff_bytes <= position:
            return _UnknownSize(path, position)
    if available < size != UNKNOWN_BYTES and size not in UNKNOWN_BYTES_SOX:
        raise _truncated(path, f"{available} of {size} bytes of samples")
    return _name(path)


def _find_wav_data(file: BinaryIO, order: str) -> tuple[int, int]:
    """Where the samples begin, and their announced size in bytes; (0, 0) without a data chunk."""
    position, wide_size, chunks = 12, UNKNOWN_BYTES, 0
    while len(header := file.read(8)) == 8:
        chunks += 1
        if chunks > MOST_CHUNKS:
            raise ValueError(
                f"{file.name} has no samples after {MOST_CHUNKS:,} chunks; its header is damaged"
            )
        name, size = struct.unpack(f"{order}4sI", header)
        position += 8
        if name == b"data":
            return position, wide_size if size == UNKNOWN_BYTES else size
        if name == b"ds64":  # RF64: 64-bit sizes of the RIFF, then of the data (EBU Tech 3306)
            (wide_size,) = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))
        position += size + size % 2
        file.seek(position)
    return 0, 0


def _check_last_ogg_page(file: BinaryIO, path: Path) -> None:
    """The last page must be whole; libsndfile takes an incomplete one for junk."""
    file.seek(max(0, path.stat().st_size - LONGEST_OGG_PAGE))
    _, magic, page = file.read().rpartition(b"OggS\0")
    if not magic:
        return  # something longer than a page follows the last one, which therefore is whole
    page = magic + page
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(segments) == page[26]
    length = 27 + len(segments) + sum(segments)
    rest = page[length:]
    if not whole or len(page) < length or (rest and b"OggS\0".startswith(rest)):
        raise _truncated(path, "an incomplete last Ogg page")


def _mono_blocks(
    file: soundfile.SoundFile, path: Path, values: int, max_seconds: float
) -> Iterator[np.ndarray]:
    """The samples in blocks (samples,) float32, decoded `values` at a time, all channels together.

    Memory follows what is decoded, not the header.
    """
    missing = file.frames
    while missing:
        frames = min(missing, max(1, values // file.channels))
        block = file.read(out=np.empty((frames, file.channels), np.float32))
        if not len(block):
            break
        missing -= len(block)
        _require_length(path, (file.frames - missing) / file.samplerate, max_seconds)
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block[:, 0] if file.channels == 1 else block.mean(axis=1)
        if not within_bounds(mono):
            largest = np.abs(mono).max()
            wrong = f"samples of {largest:.3g}, more than 2^31: expected full scale at 1"
            wrong = wrong if np.isfinite(largest) else "NaN or infinite samples"
            raise ValueError(f"{path} holds {wrong}; write it again or remove it")
        yield mono
    if missing and _announces_length(file, path):
        raise _truncated(path, f"{file.frames - missing} of {file.frames} samples")
    if missing == file.frames:
        raise ValueError(f"{path} holds no samples; remove it")


def within_bounds(waveform: np.ndarray) -> bool:
    """Whether all samples are numbers of a size that a recording may have."""
    return bool(waveform.min() >= -LOUDEST and waveform.max() <= LOUDEST)


def resampled(
    blocks: Iterable[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """The blocks as `soxr.resample` would give them joined; some may be empty."""
    if source_rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_rate, sample_rate, num_channels=1)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _announces_length(file: soundfile.SoundFile, path: Path) -> bool:
    """Whether `file.frames` is the header's word, and not unknown or libsndfile's estimate."""
    if not file.subtype.startswith("MPEG"):
        return file.frames != UNKNOWN_FRAMES
    return _has_mp3_length(path)


def _has_mp3_length(path: Path) -> bool:
    """Whether the first frame is a Xing, Info or VBRI header."""
    with path.open("rb") as file:
        tag = file.read(10)
        if tag.startswith(b"ID3") and len(tag) == 10:  # size of the rest: 4 bytes of 7 bits each
            size = sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        frame = file.read(64)  # the header's name lies at byte 13 to 38 of the frame
    return any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def _require_length(path: Path, seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise ValueError(
            f"{path} lasts {seconds:,.1f} s or more, expected at most {max_seconds:,.1f} s "
            "(max_seconds); cut it, or see whether it is truncated or its header damaged"
        )


def _undecodable(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} cannot be decoded ({reason}); it is no WAV, FLAC, Ogg or MP3, or is truncated "
        f"or damaged: restore or remove it"
    )


def _no_samples(path: Path, sample_rate: int) -> ValueError:
    return ValueError(f"{path} holds no samples at {sample_rate} Hz; remove it")


def _truncated(path: Path, found: str) -> ValueError:
    return ValueError(f"{path} is truncated: it holds {found}; restore or remove it")
