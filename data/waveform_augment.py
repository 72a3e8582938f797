"""Augmentation of waveforms by audiomentations (extra `augment`), repeatable clip by clip."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.audio import load_audio
from data.files import is_audio, walk

# Ranges, drawn from uniformly. All but the background's are those of Renumics' guide to fine-tuning
# the AST with Transformers, which the Hugging Face community follows.
GAUSSIAN_SNR = {"min_snr_db": 10.0, "max_snr_db": 20.0}
GAIN = {"min_gain_db": -6.0, "max_gain_db": 6.0}
GAIN_TRANSITION = {  # durations: share of the clip
    **GAIN,
    "min_duration": 0.01,
    "max_duration": 0.3,
    "duration_unit": "fraction",
}
CLIPPING = {"min_percentile_threshold": 0, "max_percentile_threshold": 30}  # % of the samples
# Slower than half speed, the stretcher draws random numbers that nobody can seed.
TIME_STRETCH = {"min_rate": 0.8, "max_rate": 1.2, "leave_length_unchanged": False}
PITCH_SHIFT = {"min_semitones": -4.0, "max_semitones": 4.0}
BACKGROUND_SNR = (3.0, 30.0)  # dB; audiomentations' default


@dataclass(frozen=True)
class WaveformAugmentation:
    """Probabilities of each augmentation, drawn for each clip; those drawn are shuffled.

    Raises:
        ValueError: a probability is not between 0 and 1; background noise has no folder.
    """

    gaussian_snr_prob: float = 0.0
    """White noise 10 to 20 dB below the clip. Helps against recorders' hiss; hurts where faint,
    noise-like sounds (rain, wind, breath) are the classes."""
    gain_prob: float = 0.0
    """6 dB quieter to 6 dB louder. Helps where the distance to the microphone varies; hurts where
    loudness tells the classes apart."""
    gain_transition_prob: float = 0.0
    """A fade between two such levels. Helps with sources that move; hurts where swelling or fading
    is what a class sounds like."""
    clipping_prob: float = 0.0
    """Up to 30 % of the samples clipped. Helps with overdriven recordings; hurts where distortion
    is a class (machine faults) and on clean studio sound."""
    time_stretch_prob: float = 0.0
    """Slower (0.8) to faster (1.2) at the same pitch; the length changes. Helps with speech and
    calls; hurts where tempo or rhythm is the class, and lengthened clips lose their end."""
    pitch_shift_prob: float = 0.0
    """Four semitones down to four up at the same tempo. Helps with voices and few individuals;
    hurts where pitch is the class (notes, bird species, a machine's speed)."""
    background_noise_prob: float = 0.0
    """A recording from `noise_folder` 3 to 30 dB below the clip. Helps most where the recordings to
    come are noisier than those trained on; hurts if the noise holds sounds of the classes."""
    noise_folder: str = ""
    """Folder of recordings without any sound of the classes, searched with those in it."""

    def __post_init__(self) -> None:
        for name, value in self._probabilities().items():
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise ValueError(f"{name} {value!r}: expected a probability from 0 to 1")
        if not isinstance(self.noise_folder, str):
            raise ValueError(f"noise_folder {self.noise_folder!r}: expected a path as text")
        if self.background_noise_prob and not self.noise_folder:
            raise ValueError(
                f"background_noise_prob {self.background_noise_prob} without noise_folder: "
                "expected a folder of recordings"
            )

    @property
    def active(self) -> bool:
        """Whether anything is augmented."""
        return any(self._probabilities().values())

    def _probabilities(self) -> dict[str, float]:
        names = [field.name for field in fields(self) if field.name != "noise_folder"]
        return {name: getattr(self, name) for name in names}


class WaveformAugmenter:
    """Waveforms augmented as `settings` say: a function of the waveform and the seed alone.

    Can be pickled.

    Args:
        settings: what to do how often.
        sample_rate: of the waveforms, in Hz.
        load: decodes a background recording, whole: `load_audio`, or the `load` of a cache.

    Raises:
        FileNotFoundError, ValueError: audiomentations is not installed; the folder of background
            noise does not exist or holds no recordings.
    """

    def __init__(
        self,
        settings: WaveformAugmentation,
        sample_rate: int = 16_000,
        load: Callable[[Path, int], Tensor] = load_audio,
    ) -> None:
        if not importlib.util.find_spec("audiomentations"):
            raise ValueError(
                "waveform augmentation needs audiomentations; pip install 'ast-audio[augment]'"
            )
        import audiomentations

        self.sample_rate = sample_rate
        self.load = load
        transforms = [
            audiomentations.AddGaussianSNR(**GAUSSIAN_SNR, p=settings.gaussian_snr_prob),
            audiomentations.Gain(**GAIN, p=settings.gain_prob),
            audiomentations.GainTransition(**GAIN_TRANSITION, p=settings.gain_transition_prob),
            audiomentations.ClippingDistortion(**CLIPPING, p=settings.clipping_prob),
            audiomentations.TimeStretch(**TIME_STRETCH, p=settings.time_stretch_prob),
            audiomentations.PitchShift(**PITCH_SHIFT, p=settings.pitch_shift_prob),
            audiomentations.Lambda(self._add_background, p=settings.background_noise_prob),
        ]
        self.noises = (
            _recordings(Path(settings.noise_folder)) if settings.background_noise_prob else []
        )
        self.transform = audiomentations.Compose(transforms, shuffle=True)

    def __call__(self, waveform: Tensor, seed: int) -> Tensor:
        """Augment a waveform (samples,) float32; time stretch changes its length.

        seed: below 2**32.

        Raises:
            FileNotFoundError, ValueError: as `load_audio`, for a background recording.
        """
        with _seeded(seed):
            return torch.from_numpy(self.transform(waveform.numpy(), self.sample_rate))

    def _add_background(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Add a stretch of one recording, repeated where it is too short.

        Not audiomentations' own, which decodes by other rules than `load_audio`, takes the files in
        the order the disk gives them, and never returns from an empty one.
        """
        noise = self.load(random.choice(self.noises), sample_rate).numpy()
        start = random.randrange(max(1, len(noise) - len(samples) + 1))
        noise = np.resize(noise[start : start + len(samples)], len(samples))
        level = _rms(noise)
        if level == 0:
            return samples
        wanted = _rms(samples) / 10 ** (random.uniform(*BACKGROUND_SNR) / 20)
        return samples + noise * np.float32(wanted / level)


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"--noise-folder {folder} is no folder; give one of recordings")
    found = [Path(path, name) for path, names in walk(folder) for name in names if is_audio(name)]
    if not found:
        raise ValueError(f"--noise-folder {folder} holds no recordings; give one that does")
    return found


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Both global generators, which audiomentations draws from, seeded; afterwards as before."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
