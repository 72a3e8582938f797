"""How fast is the filterbank? Ours against torchaudio and kaldi-native-fbank, clip by clip.

    python tests/benchmarks/bench_frontend.py

32 clips of 10 s at 16 kHz, 128 bins, 2 threads. The rounds are interleaved, so that what else the
machine does hits all alike; the ratio of the medians is the figure to quote.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from ast_model.frontend import KaldiFbank

SAMPLE_RATE = 16_000  # Hz
BASELINE = "torchaudio"


def torchaudio_fbank(waveforms: Tensor) -> Tensor:
    settings = {"use_energy": False, "htk_compat": True, "dither": 0.0, "window_type": "hamming"}
    clips = [
        kaldi.fbank(clip[None], sample_frequency=SAMPLE_RATE, num_mel_bins=128, **settings)
        for clip in waveforms
    ]
    return torch.stack(clips)


def native_fbank(waveforms: Tensor) -> None:
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.window_type = "hamming"
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 128
    for clip in waveforms.numpy():
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(SAMPLE_RATE, clip)
        fbank.input_finished()
        for index in range(fbank.num_frames_ready):
            fbank.get_frame(index)


def measure(
    contestants: dict[str, Callable[[Tensor], object]], waveforms: Tensor, rounds: int
) -> dict[str, float]:
    """The median seconds of each, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for _ in range(rounds + 1):
        names.append(names.pop(0))  # each comes first in its turn
        for name in names:
            start = time.perf_counter()
            contestants[name](waveforms)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(rounds[1:]) for name, rounds in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=32, help="in the batch (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of each clip (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="that count (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    waveforms = 0.1 * torch.randn(arguments.clips, arguments.seconds * SAMPLE_RATE)
    contestants = {"ast_model": KaldiFbank(), BASELINE: torchaudio_fbank}
    if importlib.util.find_spec("kaldi_native_fbank"):
        contestants["kaldi-native-fbank"] = native_fbank
    with torch.inference_mode():
        medians = measure(contestants, waveforms, arguments.rounds)
    for name, median in medians.items():
        speed, ratio = arguments.clips / median, medians[BASELINE] / median
        print(f"{name:20} {speed:8.0f} clips/s   {ratio:5.2f} x {BASELINE}")


if __name__ == "__main__":
    main()
