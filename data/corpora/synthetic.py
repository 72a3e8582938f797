"""A small procedurally generated data set in ESC-50's layout, for demonstrations and tests.

Eight classes that differ in how a sound moves in time and frequency, and in its harmonics. Pitch,
start, duration, level and background noise are drawn anew for every clip from the same ranges in
every class, so that neither pitch nor loudness alone gives the class away.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from scipy import signal

from data.corpora.esc50 import COLUMNS, METADATA, read_layout
from data.files import atomic_file, is_leftover
from data.manifest import Manifest

SAMPLE_RATE = 16_000  # Hz
CLIP_SECONDS = 2.0
FOLDS = 5
VERSION = 1  # stands in every file name; to be raised whenever the sounds change

PITCH = (400.0, 900.0)  # Hz, log-uniform
DURATION = (1.3, 1.8)  # s
PEAK_LEVEL = (-15.0, -1.0)  # dB relative to full scale
SIGNAL_TO_NOISE = (5.0, 25.0)  # dB, over the duration of the sound
FADE_SECONDS = 0.01

NOTICE = """Synthetic data: procedurally generated sounds, not recordings, in the layout of ESC-50.
seed {seed}, {clips_per_class} clips per class, version {version}
"""


def read_synthetic(root: str | Path) -> Manifest:
    """A synthetic data set that `synthetic` wrote, of any settings; nothing is written.

    Raises:
        FileNotFoundError: there is none in `root`, or one of its clips is missing.
        ValueError: `root` holds another data set.
    """
    root = Path(root)
    if not (root / METADATA).is_file():
        raise FileNotFoundError(
            f"no synthetic data in {root}; `ast-audio train demo --data {root}` makes them"
        )
    manifest = read_layout(root, name="synthetic")
    if set(manifest.classes) - set(SOUNDS):
        raise ValueError(f"{root} holds another data set than the synthetic one; name its --corpus")
    return manifest


def synthetic(root: str | Path, clips_per_class: int = 30, seed: int = 0) -> Manifest:
    """The synthetic data set in `root`, written there first unless it is complete already.

    8 classes, 5 folds, mono PCM-16 WAV of 2 s at 16 kHz. The same arguments give the same clips.
    The CSV is written last, so that a set without one is known to be unfinished and redone.

    Args:
        root: folder of the set; made if need be, else empty or that of the same set.
        clips_per_class: at least 5, so that every class occurs in every fold.
        seed: any integer from 0.

    Raises:
        ValueError: an argument out of range, or `root` holds something else.
    """
    if clips_per_class < FOLDS or seed < 0:
        raise ValueError(
            f"clips_per_class {clips_per_class}, seed {seed}: "
            f"expected at least {FOLDS} clips in a class and a seed from 0"
        )
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root} is a file: expected a folder for the synthetic data; choose one")
    rows = plan(clips_per_class, seed)
    table, audio = root / METADATA, root / "audio"
    content = csv_text(rows).encode()
    if table.exists() and table.read_bytes() != content:
        raise ValueError(
            f"{table} belongs to another data set or other settings: "
            "expected an empty folder or the same synthetic set; choose another folder"
        )
    if not (table.exists() and all((audio / row["filename"]).is_file() for row in rows)):
        notice = NOTICE.format(seed=seed, clips_per_class=clips_per_class, version=VERSION).encode()
        if not table.exists():
            _claim(root, notice)
        for row in rows:
            # The seed, the class and the number of the clip decide all that is random in it.
            rng = np.random.default_rng([seed, row["target"], row["take"]])
            waveform = make_clip(SOUNDS[row["category"]], rng)
            _write(audio / row["filename"], wav_bytes(waveform))
        _write(table, content)
    return read_layout(root, name="synthetic")


def _claim(root: Path, notice: bytes) -> None:
    """Write the notice that marks a folder as this set's; only an empty one can be claimed."""
    readme = root / "README.txt"
    if readme.is_file() and readme.read_bytes() == notice:
        return  # an unfinished set
    if root.exists() and any(not is_leftover(path) for path in root.iterdir()):
        raise ValueError(
            f"{root} holds something else: expected a new or empty folder for the synthetic data; "
            "choose another folder"
        )
    _write(readme, notice)


def plan(clips_per_class: int, seed: int) -> list[dict]:
    """The rows of the CSV: consecutive clips of a class go to consecutive folds."""
    rows = []
    for target, category in enumerate(SOUNDS):
        for take in range(clips_per_class):
            fold = take % FOLDS + 1
            filename = f"synthetic{VERSION}-{seed}-{fold}-{target}-{take}.wav"
            values = (filename, fold, target, category, False)
            rows.append(dict(zip(COLUMNS, values, strict=True)) | {"take": take})
    return rows


def csv_text(rows: list[dict]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=(*COLUMNS, "take"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def wav_bytes(waveform: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def make_clip(sound: Callable[..., np.ndarray], rng: Generator) -> np.ndarray:
    """One sound somewhere in a noisy clip: float64 `(samples,)` within [-1, 1]."""
    clip_samples = int(CLIP_SECONDS * SAMPLE_RATE)
    samples = int(rng.uniform(*DURATION) * SAMPLE_RATE)
    start = rng.integers(clip_samples - samples + 1)
    time = np.arange(samples) / SAMPLE_RATE
    event = sound(time, log_uniform(rng, *PITCH), rng)
    event = event * signal.windows.tukey(samples, 2 * FADE_SECONDS * SAMPLE_RATE / samples)

    noise = background(clip_samples, rng)
    snr = rng.uniform(*SIGNAL_TO_NOISE)
    noise_gain = np.sqrt(np.mean(event**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    clip = noise * noise_gain
    clip[start : start + samples] += event
    return clip / np.abs(clip).max() * 10 ** (rng.uniform(*PEAK_LEVEL) / 20)


def background(samples: int, rng: Generator) -> np.ndarray:
    """White or pink noise, equally often; pink has a power density of 1/f."""
    white = rng.standard_normal(samples)
    if rng.random() < 0.5:
        return white
    bins = np.arange(1, samples // 2 + 2)
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(bins), samples)


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def tone(frequency: np.ndarray, harmonics: int) -> np.ndarray:
    """Harmonics, falling by 3 dB an octave, of a fundamental in Hz for every sample."""
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    return sum(np.sin(k * phase) / np.sqrt(k) for k in range(1, harmonics + 1))


# The sounds: time in seconds (samples,) and a pitch in Hz in, waveform (samples,) out.


def rising_chirps(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    """Sweeps upwards, one after the other."""
    rate, octaves = rng.uniform(2.0, 3.5), rng.uniform(1.0, 1.5)
    return tone(pitch * 2 ** (octaves * (rate * time % 1 - 0.5)), harmonics=6)


def falling_chirps(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    return rising_chirps(time, pitch, rng)[::-1]


def tremolo_tone(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    envelope = 1 + np.sin(2 * np.pi * rng.uniform(5.0, 8.0) * time)
    return envelope * tone(np.full_like(time, pitch), harmonics=1)


def vibrato_tone(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    rate, octaves = rng.uniform(4.0, 6.0), rng.uniform(0.4, 0.6)
    return tone(pitch * 2 ** (octaves * np.sin(2 * np.pi * rate * time)), harmonics=2)


def click_train(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    """Rings that die away in a few milliseconds, at a steady rate."""
    since_click = time % (1 / rng.uniform(8.0, 16.0))
    return np.exp(-since_click / 0.002) * np.sin(2 * np.pi * 4 * pitch * since_click)


def noise_bursts(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    low_pass = signal.butter(4, 8 * pitch, fs=SAMPLE_RATE, output="sos")
    noise = signal.sosfilt(low_pass, rng.standard_normal(len(time)))
    return noise * (np.sin(2 * np.pi * rng.uniform(2.0, 4.0) * time) > 0)


def two_tones(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    """Steps between two pitches less than an octave apart."""
    rate, octaves = rng.uniform(1.5, 2.5), rng.uniform(0.6, 0.9)
    step = np.sign(np.sin(2 * np.pi * rate * time))
    return tone(pitch * 2 ** (octaves / 2 * step), harmonics=4)


def plucked_tone(time: np.ndarray, pitch: float, rng: Generator) -> np.ndarray:
    """Struck again and again, each time dying away."""
    rate, decay = rng.uniform(1.5, 2.5), rng.uniform(0.08, 0.15)
    since_pluck = time % (1 / rate)
    return np.exp(-since_pluck / decay) * tone(np.full_like(time, pitch), harmonics=8)


SOUNDS = {
    sound.__name__: sound
    for sound in (
        rising_chirps,
        falling_chirps,
        tremolo_tone,
        vibrato_tone,
        click_train,
        noise_bursts,
        two_tones,
        plucked_tone,
    )
}
