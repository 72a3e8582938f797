"""From an audio file to a waveform: decode, average to mono, resample; every bad file refused."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch

BLOCK_VALUES = 2**22  # decoded at a time, all channels together: 16 MiB of float32
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; outside, resampling could fill the memory
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count for a FLAC header that announces none

UNKNOWN_BYTES = 0xFFFFFFFF  # WAV size of a writer that cannot seek back to its header (ffmpeg)
UNKNOWN_BYTES_SOX = range(0x7FFFEFC0, 0x7FFFF001)  # sox: 0x7FFFF000, less a part of a frame
LONGEST_OGG_PAGE = 27 + 255 + 255 * 255  # header, segment table, segments; bytes (RFC 3533)


class _StraightThrough(soundfile.SoundFile):
    """Read without the seek that soundfile makes after each block.

    Seeking breaks an MP3 at the seam (its frames lean on the ones before) and fails at the end of a
    FLAC of unknown length.
    """

    def seekable(self) -> bool:
        return False


def load_audio(path: str | os.PathLike[str], sample_rate: int = 16_000) -> torch.Tensor:
    """One audio file as a mono waveform.

    Decoded by libsndfile (WAV, FLAC, Ogg, MP3), channels averaged, resampled by soxr (quality HQ).
    Integer formats are scaled to [-1, 1]; float formats keep their values.

    A truncated file is refused, not silently shortened, except where nothing gives it away: an Ogg
    file cut exactly between two pages; an MP3 without a Xing, Info or VBRI header; a WAV or FLAC
    written to a pipe, whose header leaves the length open (WAV data size 0, 0x7FFFF000 or
    0xFFFFFFFF; FLAC 0 samples): it is read to its end; formats beside these four. An MP3 of
    variable bit rate without such a header may come out shorter than it is, because libsndfile
    estimates its length.

    Args:
        path: the file.
        sample_rate: of the result, 1,000 to 1,000,000 Hz.

    Returns:
        (samples,), float32, finite, at least one sample.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong sample rate; or the path is no file, or the file is empty, not audio,
            truncated, damaged, without samples, or holds NaN or infinity.
    """
    if type(sample_rate) is not int or sample_rate not in SAMPLE_RATES:
        raise ValueError(f"sample_rate {sample_rate!r} is not an integer from 1000 to 1000000 (Hz)")
    path = Path(path)
    _require_file(path)
    try:
        with _StraightThrough(_checked_source(path)) as file:
            waveform, source_rate = _decode(file, path), file.samplerate
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a name that ends in .raw
        reason = " ".join(getattr(error, "error_string", str(error)).split())
        raise ValueError(
            f"{path} cannot be decoded ({reason}); it is no WAV, FLAC, Ogg or MP3, or is truncated "
            f"or damaged: restore or remove it"
        ) from error
    if not np.isfinite(waveform).all():
        raise ValueError(f"{path} holds NaN or infinite samples; write it again or remove it")
    if source_rate != sample_rate:
        waveform = soxr.resample(waveform, source_rate, sample_rate)
    if not len(waveform):
        raise ValueError(f"{path} holds no samples at {sample_rate} Hz; remove it")
    return torch.from_numpy(waveform)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the path or the data folder")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(f"{path} is {kind}; give one audio file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); restore or remove it")


def _checked_source(path: Path) -> str | io.BytesIO:
    """What soundfile is to open, after the checks that libsndfile does not make."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX", b"RF64"):
            return _checked_wav(file, path)
        if magic == b"OggS":
            _check_last_ogg_page(file, path)
    return str(path)


def _checked_wav(file: BinaryIO, path: Path) -> str | io.BytesIO:
    """Compare the size of a WAV's data with the file's; libsndfile only shortens the clip.

    A streamed WAV of data size 0 has no samples for libsndfile: it gets a copy that says "unknown".
    """
    file.seek(0)
    header = file.read(12)
    order = ">" if header.startswith(b"RIFX") else "<"
    position, size = _find_wav_data(file, order)
    available = path.stat().st_size - position
    if position and size == 0 < available:
        (riff_bytes,) = struct.unpack(f"{order}I", header[4:8])
        if riff_bytes == UNKNOWN_BYTES or 8 + riff_bytes <= position:
            file.seek(0)
            content = bytearray(file.read())
            struct.pack_into(f"{order}I", content, position - 4, UNKNOWN_BYTES)
            return io.BytesIO(content)
    if available < size != UNKNOWN_BYTES and size not in UNKNOWN_BYTES_SOX:
        raise _truncated(path, f"{available} of {size} bytes of samples")
    return str(path)


def _find_wav_data(file: BinaryIO, order: str) -> tuple[int, int]:
    """Where the samples begin, and their announced size in bytes; (0, 0) without a data chunk."""
    position, wide_size = 12, UNKNOWN_BYTES
    while len(header := file.read(8)) == 8:
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


def _decode(file: soundfile.SoundFile, path: Path) -> np.ndarray:
    """All samples, mono, (samples,) float32. Memory follows what is decoded, not the header."""
    if file.samplerate not in SAMPLE_RATES:
        raise ValueError(
            f"{path} announces {file.samplerate} Hz, not 1000 to 1000000 Hz; its header is damaged"
        )
    blocks, missing = [], file.frames
    while missing:
        frames = min(missing, max(1, BLOCK_VALUES // file.channels))
        block = file.read(out=np.empty((frames, file.channels), np.float32))
        if not len(block):
            break
        blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1))
        missing -= len(block)
    if missing and _announces_length(file, path):
        raise _truncated(path, f"{file.frames - missing} of {file.frames} samples")
    if not blocks:
        raise ValueError(f"{path} holds no samples; remove it")
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


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


def _truncated(path: Path, found: str) -> ValueError:
    return ValueError(f"{path} is truncated: it holds {found}; restore or remove it")
