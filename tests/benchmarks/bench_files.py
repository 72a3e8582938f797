"""How fast is the whole way from files? Ours beside transformers' pipeline and guide.

    python tests/benchmarks/bench_files.py --data FOLDER

Clips of 1 s, classified one after the other; and ESC-10's recordings (OGG, 44.1 kHz, 5 s), scored.
One model for both sides, base-sized and of random weights, as transformers saves it. Theirs pads
every clip to 1,024 frames. Ours runs a clip of 1 s with and without padding, and ESC-10 at 512
frames with the positions cut, as its recipes do. Both sides decode with soundfile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from measuring import Case, Contestant, options, run
from networks import theirs
from torch.utils.data import DataLoader, Dataset

import data
import weights
from ast_model.quantise import quantise
from data.cache import ClipCache
from train.evaluation import predict_logits

SAMPLE_RATE = 16_000  # Hz
FRAMES = 512  # of ESC-10's clips of 5 s
BATCH = 8
PIPELINE, GUIDE, CACHED_GUIDE = (
    "transformers pipeline",
    "transformers guide, first pass",
    "transformers guide, features kept",
)

Work = Callable[[], object]


def write_clips(folder: Path, count: int) -> list[Path]:
    """WAV files of 1 s of noise."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(count)]
    for path in paths:
        soundfile.write(path, 0.1 * generator.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    return paths


def saved_model(folder: Path) -> Path:
    from transformers import ASTFeatureExtractor

    torch.manual_seed(0)
    theirs("base384", 1024, "cpu", "sdpa").save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    return folder


def our_clips(model: Path, paths: Sequence[Path], pad: bool) -> Work:
    classifier = weights.load(model)
    return lambda: [classifier.classify(path, pad=pad) for path in paths]


def their_clips(model: Path, paths: Sequence[Path]) -> Work:
    from transformers import pipeline

    classify = pipeline("audio-classification", model=str(model), device="cpu")
    return lambda: [classify(_decoded(path)) for path in paths]


def _decoded(path: Path) -> dict[str, object]:
    """Given a path, the pipeline would start ffmpeg."""
    samples, sample_rate = soundfile.read(path, dtype="float32")
    return {"raw": samples, "sampling_rate": sample_rate}


def our_evaluation(
    model: Path, clips: Sequence[data.Clip], cached: bool, precision: str = "fp32"
) -> Work:
    """`ast-audio evaluate`, with an empty cache of decoded clips or a full one."""
    classifier = weights.load(model, num_frames=FRAMES, num_classes=10)
    if precision == "int8":
        quantise(classifier.model)

    def score(folder: str) -> object:
        model, frontend = classifier.model, classifier.frontend
        return predict_logits(model, frontend, clips, precision, BATCH, ClipCache(folder))

    if cached:
        full = tempfile.TemporaryDirectory()
        score(full.name)

    def work() -> object:
        if cached:
            return score(full.name)
        with tempfile.TemporaryDirectory() as empty:
            return score(empty)

    return work


class Features(Dataset):
    """The guide's data set: decode, resample, extract features padded to 1,024 frames."""

    def __init__(self, model: Path, clips: Sequence[data.Clip]) -> None:
        from transformers import ASTFeatureExtractor

        self.extractor = ASTFeatureExtractor.from_pretrained(model)
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> torch.Tensor:
        from torchaudio.functional import resample

        samples, sample_rate = soundfile.read(self.clips[index].path, dtype="float32")
        waveform = resample(torch.from_numpy(samples), sample_rate, SAMPLE_RATE).numpy()
        settings = {"sampling_rate": SAMPLE_RATE, "return_tensors": "pt"}
        return self.extractor(waveform, **settings).input_values[0]


def their_evaluation(model: Path, clips: Sequence[data.Clip], cached: bool) -> Work:
    from transformers import ASTForAudioClassification

    network = ASTForAudioClassification.from_pretrained(model).eval()
    features = Features(model, clips)
    source = [*features] if cached else features

    def work() -> object:
        return [network(batch).logits for batch in DataLoader(source, BATCH)]

    return torch.inference_mode()(work)


def short_clips(model: Path, folder: Path, count: int) -> Case:
    files = {"model": model, "paths": write_clips(folder, count)}
    return Case(
        f"{count} files of 1 s, base, from file to class",
        count,
        [
            Contestant("ours, without padding", our_clips, {**files, "pad": False}, (PIPELINE,)),
            Contestant("ours, padded", our_clips, {**files, "pad": True}, (PIPELINE,)),
            Contestant(PIPELINE, their_clips, files),
        ],
    )


def evaluation(model: Path, recordings: Path, count: int) -> Case:
    clips = data.esc50(recordings, "esc10").clips[:count]
    files = {"model": model, "clips": clips}
    first, later = {**files, "cached": False}, {**files, "cached": True}
    int8 = {"precision": "int8"}
    return Case(
        f"scoring {len(clips)} recordings of ESC-10, base",
        len(clips),
        [
            Contestant("ours, first pass", our_evaluation, first, (GUIDE,)),
            Contestant("ours, cached pass", our_evaluation, later, (CACHED_GUIDE,)),
            Contestant("ours int8, first pass", our_evaluation, {**first, **int8}, (GUIDE,)),
            Contestant(
                "ours int8, cached pass", our_evaluation, {**later, **int8}, (CACHED_GUIDE,)
            ),
            Contestant(GUIDE, their_evaluation, first),
            Contestant(CACHED_GUIDE, their_evaluation, later),
        ],
    )


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--data", type=Path, help="ESC-10 or ESC-50, for the second case")
    parser.add_argument("--clips", type=int, default=16, help="of each case (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = saved_model(Path(folder, "model"))
        cases = [short_clips(model, Path(folder), arguments.clips)]
        if arguments.data:
            cases.append(evaluation(model, arguments.data, arguments.clips))
        run("files", cases, arguments)


if __name__ == "__main__":
    main()
