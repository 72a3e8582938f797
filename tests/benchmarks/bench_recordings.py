"""How fast is a folder of many short files, and one of clips of mixed length?

    python tests/benchmarks/bench_recordings.py

Many files of 1 s: decoding alone, the model alone, both by turns, and `predict`, which decodes
while the model runs. Clips of 0.2 to 10 s, their lengths spread evenly, or evenly in their
logarithm (as many from 0.2 to 0.4 s as from 5 to 10 s): padded, and without padding in buckets of
similar length. A season in files of a minute, and the same length in one file, with tables and
journal. The models' weights are random.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from measuring import Case, Contestant, options, run
from torch.nn.utils.rnn import pad_sequence

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import Clip, load_audio
from train.evaluation import predict_logits
from train.inference import embed, predict
from train.inference.detections import detect
from weights.folder import write_folder

BATCH = 8
FILE_RATE = 44_100  # Hz, so that decoding resamples
SHORTEST, LONGEST = 0.2, 10.0  # seconds
MINUTE = 60.0
DECODING, MODEL, IN_TURN = "decoding alone", "model alone", "decoding, then model, by turns"

Work = Callable[[], object]


def write_model(folder: Path, preset: str, frames: int, **changes: Any) -> Path:
    torch.manual_seed(0)
    config = ASTConfig.preset(preset, num_classes=50, num_frames=frames, **changes)
    model = AST(config).eval()
    names = [f"class {number}" for number in range(50)]
    write_folder(folder, AudioClassifier(model, Frontend(FrontendConfig(frames)), names))
    return folder


def write_recordings(folder: Path, seconds: Sequence[float]) -> list[Path]:
    """FLAC files of noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{number}.flac" for number in range(len(seconds))]
    for path, length in zip(paths, seconds, strict=True):
        noise = 0.1 * generator.standard_normal(round(length * FILE_RATE))
        soundfile.write(path, noise, FILE_RATE)
    return paths


def lengths(spread: str, count: int) -> np.ndarray:
    """Seconds of each clip, (count,), in random order."""
    shares = np.random.default_rng(1).permutation(np.linspace(0, 1, count))
    if spread == "evenly":
        return SHORTEST + shares * (LONGEST - SHORTEST)
    return SHORTEST * (LONGEST / SHORTEST) ** shares


def decoding(paths: Sequence[Path]) -> Work:
    return lambda: [load_audio(path) for path in paths]


def model_alone(model: Path, paths: Sequence[Path]) -> Work:
    classifier = weights.load(model)
    clips = [load_audio(path) for path in paths]
    return lambda: [scores(classifier, clips[n : n + BATCH]) for n in range(0, len(clips), BATCH)]


def by_turns(model: Path, paths: Sequence[Path]) -> Work:
    classifier = weights.load(model)

    def work() -> None:
        for start in range(0, len(paths), BATCH):
            scores(classifier, [load_audio(path) for path in paths[start : start + BATCH]])

    return work


def scores(classifier: AudioClassifier, clips: Sequence[torch.Tensor]) -> torch.Tensor:
    samples = torch.tensor([len(clip) for clip in clips])
    return classifier.probabilities(pad_sequence(list(clips), batch_first=True), samples)


def predicted(model: Path, paths: Sequence[Path], pad: bool = True) -> Work:
    return lambda: list(predict(model, paths, pad=pad, batch_size=BATCH, device="cpu"))


def embedded(model: Path, paths: Sequence[Path], pad: bool) -> Work:
    return lambda: list(embed(model, paths, pad=pad, batch_size=BATCH, device="cpu"))


def evaluated(model: Path, paths: Sequence[Path], pad: bool) -> Work:
    classifier, clips = weights.load(model), [Clip(path, (0,)) for path in paths]
    parts = (classifier.model, classifier.frontend, clips, "fp32", BATCH)
    return lambda: predict_logits(*parts, pad=pad)


def one_by_one(model: Path, paths: Sequence[Path]) -> Work:
    classifier = weights.load(model)
    return lambda: [classifier.classify(path, pad=False) for path in paths]


def many_files(model: Path, paths: Sequence[Path]) -> Case:
    files = {"model": model, "paths": paths}
    return Case(
        f"{len(paths)} files of 1 s, FLAC at 44.1 kHz",
        len(paths),
        [
            Contestant(DECODING, decoding, {"paths": paths}),
            Contestant(MODEL, model_alone, files),
            Contestant(IN_TURN, by_turns, files),
            Contestant("predict", predicted, files, (IN_TURN,)),
        ],
    )


def mixed_lengths(model: Path, paths: Sequence[Path], spread: str) -> Case:
    files = {"model": model, "paths": paths}
    contestants = []
    for make in (predicted, embedded, evaluated):
        name = make.__name__
        for pad in (True, False):
            words = "padded" if pad else "without padding"
            against = () if pad else (f"{name}, padded",)
            contestants.append(Contestant(f"{name}, {words}", make, {**files, "pad": pad}, against))
    single = Contestant("clip by clip, without padding", one_by_one, files, ("predicted, padded",))
    name = f"{len(paths)} clips of {SHORTEST:g} to {LONGEST:g} s, lengths spread {spread}"
    return Case(name, len(paths), [*contestants, single])


def detected(model: Path, paths: Sequence[Path], out: str) -> Work:
    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            detect(model, paths, Path(folder, out), batch_size=BATCH, device="cpu")

    return work


def season(model: Path, paths: Sequence[Path], whole: Sequence[Path]) -> Case:
    one, files = "one file", {"model": model, "paths": paths}
    return Case(
        f"{len(paths)} minutes of sound, in files of a minute and in one",
        len(paths),
        [
            Contestant(one, detected, {"model": model, "paths": whole, "out": "all.csv"}),
            Contestant("files, one table", detected, {**files, "out": "all.csv"}, (one,)),
            Contestant("files, a table each", detected, {**files, "out": "tables"}, (one,)),
        ],
    )


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--preset", default="tiny224", help="size of the model (%(default)s)")
    parser.add_argument("--files", type=int, default=400, help="of 1 s (%(default)s)")
    parser.add_argument("--minutes", type=int, default=20, help="of a season (%(default)s)")
    parser.add_argument("--clips", type=int, default=100, help="of mixed length (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = write_model(folder / "1 s", arguments.preset, 98)
        long = write_model(folder / "10 s", arguments.preset, 1024)
        cases = [many_files(short, write_recordings(folder / "files", [1.0] * arguments.files))]
        for spread in ("evenly", "evenly in their logarithm"):
            paths = write_recordings(folder / spread, lengths(spread, arguments.clips))
            cases.append(mixed_lengths(long, paths, spread))
        minutes = write_recordings(folder / "minutes", [MINUTE] * arguments.minutes)
        whole = write_recordings(folder / "whole", [MINUTE * arguments.minutes])
        cases.append(season(long, minutes, whole))
        run("recordings", cases, arguments)


if __name__ == "__main__":
    main()
