"""Waveform in, log-mel filterbank out: Kaldi's `fbank` as a batched module, and AST's front end.

Shapes: B batch, N samples, T frames, W samples in a window, F FFT bins below Nyquist, M mel bins.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ast_model.config import WINDOWS, FrontendConfig

LOG_FLOOR = torch.finfo(torch.float32).eps  # Kaldi's floor of mel energies; its log is -15.94
SILENCE = math.log(LOG_FLOOR)  # log-mel value of samples that are all zero
FRAMES_AT_ONCE = 1024  # on a CPU: temporaries of 2 MB at 16 kHz, which stay in its cache
BAND = 32  # mel bins of one matrix product


class KaldiFbank(nn.Module):
    """Kaldi's log-mel filterbank for a batch of clips of any lengths, on any device.

    Agrees with `torchaudio.compliance.kaldi.fbank` (dither 0, no energy, `snip_edges=True`,
    `htk_compat=True`) within 1e-4, and with kaldi-native-fbank within 5e-3: frames that fit into
    the clip only; in each frame the mean is removed, then pre-emphasis, window, zeros up to a
    power of two, power spectrum, HTK mel scale, natural log with a floor at float32's epsilon.

    Departs from Kaldi's command line tools:
      - samples are in [-1, 1], not 16-bit integers: the log is lower by 2 ln 32768 = 20.79, and
        the floor lies that much nearer to the signal;
      - no dither (Kaldi adds noise of deviation 1, in 16-bit units), no energy, no VTLN;
      - the default window is Hamming, as in the AST paper (Kaldi's default: `povey`).

    Computes in float32, under autocast and after `.half()` too. With matrix products of lower
    precision (`torch.set_float32_matmul_precision`, TF32) it agrees within about 1e-3 only.

    Args:
        sample_rate: of the waveforms, in Hz.
        num_mel_bins: bins of the filterbank, at least 4.
        window: `hamming`, `hanning`, `povey`, `blackman` or `rectangular`.
        frame_length: of the window, in ms.
        frame_shift: from one frame to the next, in ms.
        low_freq: lower end of the filterbank, in Hz.
        high_freq: upper end, in Hz; zero or less is counted from the Nyquist frequency.
        preemphasis: coefficient of the previous sample, which is subtracted.

    Raises:
        ValueError: an argument is out of range.
    """

    window: Tensor  # (W,)
    mel: Tensor  # (2 F, M), a row for each real and each imaginary part

    def __init__(
        self,
        sample_rate: int = 16_000,
        num_mel_bins: int = 128,
        window: str = "hamming",
        frame_length: float = 25.0,
        frame_shift: float = 10.0,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
        preemphasis: float = 0.97,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.window_size = int(sample_rate * frame_length / 1000)  # samples
        self.shift = int(sample_rate * frame_shift / 1000)  # samples
        if self.window_size < 2 or self.shift < 1:
            raise ValueError(
                f"frames of {frame_length} ms every {frame_shift} ms at {sample_rate} Hz are "
                f"{self.window_size} samples every {self.shift}; at least 2 every 1 are needed"
            )
        if not 0 <= preemphasis <= 1:
            raise ValueError(f"preemphasis {preemphasis} is not in [0, 1]; Kaldi's is 0.97")
        self.preemphasis = preemphasis
        self.fft_size = 1 << (self.window_size - 1).bit_length()
        self.band = low_freq, high_freq if high_freq > 0 else sample_rate / 2 + high_freq  # Hz
        mel = _mel_weights(num_mel_bins, self.fft_size, sample_rate, *self.band)
        self.register_buffer("window", _window(window, self.window_size), persistent=False)
        self.register_buffer("mel", mel.repeat_interleave(2, dim=0), persistent=False)
        self._bands = _bands(self.mel)

    def num_frames(self, samples: Any) -> Any:
        """Frames that fit into `samples`, an integer or a tensor of them, at least one window."""
        return 1 + (samples - self.window_size) // self.shift

    @property
    def empty_bins(self) -> int:
        """Mel bins whose triangle lies between two FFT bins: as in torchaudio always at the floor.

        The papers' 128 bins at 16 kHz have one such bin; few, they only cost memory.
        """
        return int((~self.mel.any(dim=0)).sum())

    def num_samples(self, frames: int) -> int:
        """Samples that `frames` frames take."""
        return self.window_size + (frames - 1) * self.shift

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The filterbank of each clip, and how many frames it has.

        Args:
            waveforms: (batch, samples) of any floating type, in [-1, 1].
            lengths: (batch,) integers, each clip's own samples; None: all of them. On the
                device of the waveforms they cost one synchronisation, on the CPU none.

        Returns:
            (batch, most frames, mel bins) float32, zeros after a clip's own frames, and
            (batch,) int64.

        Raises:
            ValueError: a wrong shape or type, or a clip shorter than one window.
        """
        samples = self.check_clips(waveforms, lengths)
        num_frames = [self.num_frames(count) for count in samples]
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            if waveforms.device.type == "cpu":
                fbank = self._clip_by_clip(waveforms, num_frames)
            else:
                fbank = self._all_at_once(waveforms, samples)
        return fbank, torch.tensor(num_frames, device=waveforms.device)

    def check_clips(self, waveforms: Tensor, lengths: Tensor | None) -> list[int]:
        """Each clip's own samples; ValueError unless `forward` can take these arguments."""
        if waveforms.dim() != 2 or 0 in waveforms.shape:
            raise ValueError(
                f"waveforms have shape {tuple(waveforms.shape)}; expected (batch, samples), mono"
            )
        if not waveforms.is_floating_point():
            raise ValueError(
                f"waveforms are {waveforms.dtype}; expected floating point in [-1, 1] "
                "(divide 16-bit integers by 32768)"
            )
        batch, width = waveforms.shape
        if lengths is None:
            samples = [width] * batch
        else:
            lengths = torch.as_tensor(lengths)
            if lengths.shape != (batch,) or lengths.dtype.is_floating_point:
                raise ValueError(
                    f"lengths are {lengths.dtype} of shape {tuple(lengths.shape)}; expected "
                    f"({batch},) integers, each clip's samples"
                )
            samples = lengths.tolist()
        for index, count in enumerate(samples):
            if count > width:
                raise ValueError(f"clip {index} has length {count}; its waveform has only {width}")
            if count < self.window_size:
                raise ValueError(
                    f"clip {index} has {count} samples; at least {self.window_size} are needed "
                    f"(one window of {1000 * self.window_size / self.sample_rate:g} ms at "
                    f"{self.sample_rate} Hz): drop the clip or pad it"
                )
        return samples

    def _clip_by_clip(self, waveforms: Tensor, num_frames: list[int]) -> Tensor:
        """For a CPU: small temporaries, since memory outside its cache is the bottleneck."""
        frames = waveforms.unfold(1, self.window_size, self.shift)
        clips = [
            torch.cat([self._log_mel(some) for some in clip[:count].split(FRAMES_AT_ONCE)])
            for clip, count in zip(frames, num_frames, strict=True)
        ]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True)

    def _all_at_once(self, waveforms: Tensor, samples: list[int]) -> Tensor:
        """For a GPU: few, large kernels."""
        waveforms = waveforms[:, : max(samples)]
        if min(samples) == max(samples):
            return self._log_mel(waveforms.unfold(1, self.window_size, self.shift))
        ends = torch.tensor(samples, device=waveforms.device)[:, None]
        # What lies after a clip may be NaN, which a gradient of zero would not stop.
        after = torch.arange(max(samples), device=waveforms.device) >= ends
        frames = waveforms.masked_fill(after, 0).unfold(1, self.window_size, self.shift)
        after = torch.arange(frames.shape[1], device=waveforms.device) >= self.num_frames(ends)
        return self._log_mel(frames).masked_fill(after[..., None], 0)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(..., W) -> (..., M).

        Mean, pre-emphasis and window are linear and could be merged, but are applied in Kaldi's
        order, with its rounding: merged, bins near the floor are off by more than 1e-3.
        """
        padded = functional.pad(frames, (0, self.fft_size - self.window_size))  # a copy
        frame = padded[..., : self.window_size]
        frame -= frame.mean(-1, keepdim=True)
        delayed = self.preemphasis * frame
        frame[..., 1:] -= delayed[..., :-1]
        frame[..., :1] -= delayed[..., :1]  # Kaldi: the first sample is its own predecessor
        frame *= self.window
        spectrum = torch.view_as_real(torch.fft.rfft(padded)).flatten(-2)  # (..., 2 F + 2)
        power = spectrum.square()  # of real and imaginary part: the mel weights sum them
        mel = [power[..., bins] @ self.mel[bins, band] for bins, band in self._bands]
        return torch.cat(mel, dim=-1).clamp(min=LOG_FLOOR).log()

    def _apply(self, fn: Any, recurse: bool = True) -> KaldiFbank:
        """`.to()` another device, but stay float32: 16-bit mel weights err by up to 0.4 %."""
        window, mel = self.window, self.mel
        super()._apply(fn, recurse)
        self.window = window.to(self.window.device)
        self.mel = mel.to(self.mel.device)
        return self


class Frontend(nn.Module):
    """The input of an AST: mean removal, filterbank, cut or padded to length, normalised.

    `forward` is `normalise(filterbank(...))`. In training SpecAugment comes between the two,
    noise and time shift after them.

    Args:
        config: window, mean and std, number of frames and mel bins, sample rate, mel edges.

    Raises:
        ValueError: the filterbank cannot be made, such as with fewer than 4 mel bins.
    """

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.fbank = KaldiFbank(
            config.sample_rate,
            config.num_mel_bins,
            config.window,
            low_freq=config.low_freq,
            high_freq=config.high_freq,
        )
        self.fill = SILENCE if config.padding == "silence" else 0.0  # frames after a clip

    def forward(
        self, waveforms: Tensor, lengths: Tensor | None = None, num_frames: int | None = None
    ) -> Tensor:
        """The network's input.

        Args:
            waveforms: (batch, samples), as in `KaldiFbank.forward`.
            lengths: (batch,) or None, as there.
            num_frames: the length to cut or pad the clips to; None: `config.num_frames`.

        Returns:
            (batch, num_frames, mel bins) float32, normalised.

        Raises:
            ValueError: as in `KaldiFbank.forward`.
        """
        return self.normalise(self.filterbank(waveforms, lengths, num_frames))

    def filterbank(
        self, waveforms: Tensor, lengths: Tensor | None = None, num_frames: int | None = None
    ) -> Tensor:
        """`forward` without the normalisation.

        The mean of each clip's own samples is subtracted first. Frames beyond `num_frames` are
        cut at the end. Missing ones are `config.padding`: zeros in the log-mel domain, which is
        louder than most sound, are a quirk of the authors' code, which published checkpoints
        rely on.
        """
        num_frames = self.config.num_frames if num_frames is None else num_frames
        samples = self.fbank.check_clips(waveforms, lengths)
        waveforms = waveforms.float()
        # Clip by clip, so that the rounding of a mean does not depend on the rest of the batch.
        means = [clip[:count].mean() for clip, count in zip(waveforms, samples, strict=True)]
        longest = self.fbank.num_samples(num_frames)
        waveforms = waveforms[:, :longest] - torch.stack(means)[:, None]
        fbank, clip_frames = self.fbank(waveforms, torch.tensor(samples).clamp(max=longest))
        fbank = functional.pad(fbank, (0, 0, 0, num_frames - fbank.shape[1]))
        if not self.fill:
            return fbank
        after = torch.arange(num_frames, device=fbank.device) >= clip_frames[:, None]
        return fbank.masked_fill(after[..., None], self.fill)

    def traceable(self, waveforms: Tensor) -> Tensor:
        """`forward` without lengths, checks, or loops over the clips, for `torch.export`.

        One graph serves batches and clips of any size; a clip shorter than one window gives
        padding only. Equal to `forward` except for the rounding of the mean.

        Args:
            waveforms: (batch, samples) float32, each clip as long as its row.
        """
        frames, fbank = self.config.num_frames, self.fbank
        longest, clip_frames = fbank.num_samples(frames), fbank.num_frames(waveforms.shape[1])
        waveforms = waveforms - waveforms.mean(1, keepdim=True)
        # Padded and cut to one length, so that all shapes from here on are constants.
        waveforms = functional.pad(waveforms, (0, longest))[:, :longest]
        log_mel = fbank._log_mel(waveforms.unfold(1, fbank.window_size, fbank.shift))
        after = torch.arange(frames, device=waveforms.device) >= clip_frames
        return self.normalise(log_mel.masked_fill(after[:, None], self.fill))

    def normalise(self, fbank: Tensor) -> Tensor:
        """To mean 0 and standard deviation 0.5, not 1 (authors' code; checkpoints rely on it)."""
        return (fbank - self.config.mean) / (2 * self.config.std)


def _window(name: str, size: int) -> Tensor:
    """Kaldi's window functions (feat/feature-window.cc), symmetric, (W,)."""
    if name not in WINDOWS:
        raise ValueError(f"window {name!r} is unknown; use one of {', '.join(WINDOWS)}")
    phase = 2 * math.pi / (size - 1) * torch.arange(size, dtype=torch.float32, device="cpu")
    if name == "rectangular":
        return torch.ones_like(phase)
    if name == "hamming":
        return 0.54 - 0.46 * phase.cos()
    if name == "blackman":
        return 0.42 - 0.5 * phase.cos() + 0.08 * (2 * phase).cos()
    hanning = 0.5 - 0.5 * phase.cos()
    return hanning if name == "hanning" else hanning.pow(0.85)


def _bands(mel: Tensor) -> list[tuple[slice, slice]]:
    """For every `BAND` columns of the mel weights, the range of rows that are not all zero.

    A triangle spans a few FFT bins only: multiplying all of them is four times the arithmetic.
    """
    bands = []
    for start in range(0, mel.shape[1], BAND):
        band = slice(start, start + BAND)
        rows = mel[:, band].any(dim=1).nonzero().flatten().tolist() or [0]
        bands.append((slice(rows[0], rows[-1] + 1), band))
    return bands


def _mel_weights(
    num_mel_bins: int, fft_size: int, sample_rate: int, low_freq: float, high_freq: float
) -> Tensor:
    """Kaldi's triangles, linear in mel (feat/mel-computations.cc), (F, M), without Nyquist's bin.

    In float32 as in Kaldi: where a triangle has an FFT bin only near its foot, float64 would move
    the log by more than 1e-4.
    """
    if num_mel_bins < 4:
        raise ValueError(f"num_mel_bins {num_mel_bins} is too small; use at least 4")
    nyquist = sample_rate / 2
    if not 0 <= low_freq < high_freq <= nyquist:
        raise ValueError(
            f"low_freq {low_freq:g} Hz and high_freq {high_freq:g} Hz do not fit; "
            f"expected 0 <= low_freq < high_freq <= {nyquist:g} Hz"
        )
    low_mel, high_mel = (1127 * math.log(1 + hertz / 700) for hertz in (low_freq, high_freq))
    step = (high_mel - low_mel) / (num_mel_bins + 1)
    index = torch.arange(num_mel_bins, dtype=torch.float32, device="cpu")
    left, centre, right = (low_mel + (index + offset) * step for offset in (0, 1, 2))
    hertz = sample_rate / fft_size * torch.arange(fft_size // 2, dtype=torch.float32, device="cpu")
    mel = 1127 * (1 + hertz[:, None] / 700).log()
    rise, fall = (mel - left) / (centre - left), (right - mel) / (right - centre)
    return torch.minimum(rise, fall).clamp(min=0)
