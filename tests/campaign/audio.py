"""Recordings: WAV, FLAC, Ogg and MP3, read whole and in blocks, and heard by a model."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

from data import load_audio, stream_audio
from data.audio import read_header
from tests.campaign.case import InputClass
from tests.campaign.models import micro
from tests.campaign.mutations import NUMBERS, damaged, files_in, packed

FORMATS = {
    "16.wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "double.wav": {"subtype": "DOUBLE"},
    "wide.wav": {"format": "RF64"},
    "a.flac": {},
    "a.ogg": {},
    "a.mp3": {},
    "a.aiff": {},
}
SAMPLES = (1e19, -1e19, 3e38, 1e308, np.nan, np.inf, -np.inf, 1e6, 1e-40, 0.0, 2.0)


def make(folder: Path) -> None:
    """A recording in each format; a case has one of them."""
    sound = np.random.default_rng(0).normal(0, 0.1, (8_000, 2))
    for name, options in FORMATS.items():
        soundfile.write(folder / name, sound, 16_000, **options)


def the_only(folder: Path, random: Random) -> Path:
    """The recording of the case; the others are removed where they are still there."""
    files = files_in(folder)
    chosen = random.choice(files)
    for file in files:
        if file != chosen:
            file.unlink()
    return chosen


def any_bytes(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    file.write_bytes(damaged(file.read_bytes(), random))


def header_number(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    form = random.choice(("<H", "<I", ">I", "<Q", "B"))
    file.write_bytes(packed(form, file.read_bytes(), random.randrange(0, 96), random))


def float_samples(folder: Path, random: Random) -> None:
    """Samples that are loud beyond all measure, or no numbers."""
    the_only(folder, random).unlink()
    sound = np.random.default_rng(0).normal(0, 0.1, (4_000, random.choice((1, 2))))
    start = random.randrange(len(sound))
    sound[start : start + random.choice((1, 100, 10_000))] = random.choice(SAMPLES)
    subtype = random.choice(("FLOAT", "DOUBLE"))
    with np.errstate(over="ignore"):
        soundfile.write(folder / "loud.wav", sound, random.choice((8_000, 16_000, 44_100)), subtype)


def length_and_rate(folder: Path, random: Random) -> None:
    """No samples or a few, at rates from 1 Hz to 2 GHz, in up to 200 channels."""
    the_only(folder, random).unlink()
    count, channels = random.choice((0, 1, 2, 399, 400)), random.choice((1, 1, 2, 6, 200))
    rate = random.choice((1, 100, 999, 8_000, 192_000, 1_000_001, 2**31 - 1))
    soundfile.write(folder / "odd.wav", np.zeros((count, channels)), rate)


def chunk(folder: Path, random: Random) -> None:
    """A WAV with a chunk more, of a size that is not its own, or with chunks in another order."""
    the_only(folder, random).unlink()
    body = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    names = (b"fmt ", b"data", b"LIST", b"ds64", b"fact", b"id3 ", b"\0\0\0\0")
    content = b"WAVE"
    for name in (*random.sample(names, 2), b"fmt ", b"data"):
        own = body if name == b"fmt " else bytes(random.choice((0, 1, 28, 4_000)))
        size = random.choice((len(own), len(own), random.choice(NUMBERS) % 2**32))
        content += name + struct.pack("<I", size) + own
    magic = random.choice((b"RIFF", b"RIFX", b"RF64"))
    riff = random.choice((len(content), 0, 2**32 - 1))
    (folder / "chunks.wav").write_bytes(magic + struct.pack("<I", riff) + content)


def other_suffix(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    file.rename(
        file.with_suffix(random.choice((".raw", ".mp3", ".flac", ".wav", ".au", ".W64", "")))
    )


def read(folder: Path) -> list[Any]:
    """Everything that reads a recording, and what a model makes of it."""
    found: list[Any] = []
    for file in files_in(folder)[:1]:
        waveform = load_audio(file)
        blocks = list(stream_audio(file, block_seconds=0.2))
        found += [waveform, *blocks, float(read_header(file).seconds)]
        if waveform.numel() < 16_000 * 60:
            found += [micro().classify(file), micro().embed(file)]
    return found


AUDIO = InputClass(
    "audio",
    make,
    (
        *(any_bytes, any_bytes, any_bytes, header_number, header_number, float_samples),
        *(length_and_rate, chunk, other_suffix),
    ),
    read,
)
