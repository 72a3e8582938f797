"""How fast is the filterbank? Ours beside torchaudio's, kaldi-native-fbank's and transformers'.

    python tests/benchmarks/bench_frontend.py

32 clips of 10 s at 16 kHz, 128 bins. The others take one clip at a time: they have no batches.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from measuring import Case, Contestant, options, run
from torch import Tensor

from ast_model import Frontend, FrontendConfig
from ast_model.frontend import KaldiFbank

SAMPLE_RATE = 16_000  # Hz
FBANK, EXTRACTOR = "torchaudio, clip by clip", "transformers ASTFeatureExtractor"


def noise(clips: int, seconds: int, device: str) -> Tensor:
    return 0.1 * torch.randn(clips, seconds * SAMPLE_RATE, device=device)


def our_fbank(clips: int, seconds: int, device: str) -> Callable[[], object]:
    fbank, waveforms = KaldiFbank().to(device), noise(clips, seconds, device)
    return torch.inference_mode()(lambda: fbank(waveforms))


def our_frontend(clips: int, seconds: int, device: str) -> Callable[[], object]:
    """What ASTFeatureExtractor does: filterbank, fit to 1,024 frames, normalisation."""
    frontend, waveforms = Frontend(FrontendConfig()).to(device), noise(clips, seconds, device)
    return torch.inference_mode()(lambda: frontend(waveforms))


def torchaudio_fbank(clips: int, seconds: int, device: str) -> Callable[[], object]:
    from torchaudio.compliance import kaldi

    settings = {"use_energy": False, "htk_compat": True, "dither": 0.0, "window_type": "hamming"}
    waveforms = noise(clips, seconds, device)

    def work() -> Tensor:
        return torch.stack(
            [
                kaldi.fbank(clip[None], sample_frequency=SAMPLE_RATE, num_mel_bins=128, **settings)
                for clip in waveforms
            ]
        )

    return torch.inference_mode()(work)


def native_fbank(clips: int, seconds: int) -> Callable[[], object]:
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.window_type = "hamming"
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 128
    waveforms = noise(clips, seconds, "cpu").numpy()

    def work() -> None:
        for clip in waveforms:
            fbank = kaldi_native_fbank.OnlineFbank(options)
            fbank.accept_waveform(SAMPLE_RATE, clip)
            fbank.input_finished()
            for index in range(fbank.num_frames_ready):
                fbank.get_frame(index)

    return work


def extractor(clips: int, seconds: int) -> Callable[[], object]:
    from transformers import ASTFeatureExtractor

    features, waveforms = ASTFeatureExtractor(), [*noise(clips, seconds, "cpu").numpy()]
    return lambda: features(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")


def main() -> None:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--clips", type=int, default=32, help="in the batch (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of each clip (%(default)s)")
    arguments = parser.parse_args()
    size = {"clips": arguments.clips, "seconds": arguments.seconds}
    here = {**size, "device": arguments.device}
    contestants = [
        Contestant("KaldiFbank, batched", our_fbank, here, against=(FBANK,)),
        Contestant(FBANK, torchaudio_fbank, here),
        Contestant("Frontend, batched", our_frontend, here, against=(EXTRACTOR,)),
    ]
    if importlib.util.find_spec("transformers"):
        contestants.append(Contestant(EXTRACTOR, extractor, size))
    title = f"filterbank, {arguments.clips} clips of {arguments.seconds} s"
    cases = [Case(title, arguments.clips, contestants)]
    if importlib.util.find_spec("kaldi_native_fbank"):
        # In a case of its own: beside it one of two cores is idle, and wakes late for the next.
        name = "kaldi-native-fbank, frame by frame"
        single = Contestant(name, native_fbank, size, against=(FBANK,))
        rival = Contestant(FBANK, torchaudio_fbank, here)
        cases.append(Case(f"{title}, a frame at a time", arguments.clips, [single, rival]))
    run("frontend", cases, arguments)


if __name__ == "__main__":
    main()
