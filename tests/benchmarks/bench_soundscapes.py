"""Which network, trained on clean recordings, names sounds in noisy soundscapes: the AST, or a CNN?

    python tests/benchmarks/bench_soundscapes.py --data FOLDER --out FOLDER

Recordings of one sound each, in BirdCLEF's layout, are ESC-10's folds 1 to 4; the soundscapes, of a
minute each, hold the clips of fold 5 at known times, over pink noise at several signal-to-noise
ratios. All networks start from random weights and are trained by the recipes `birdclef` and
`birdclef_cnn`, with the epochs given, in batches of 16; an epoch of the AST takes a fraction of the
others' time, so that it is also trained five times as long. What is in --out is not made again: the
same command goes on where it was ended. It writes `scores.csv` there.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from data import Clip, load_audio
from data.corpora.esc50 import esc50
from data.files import atomic_file, atomic_folder, read_json
from train.inference.detections import score_rows

RATE = 32_000  # Hz, of the recipes
SECONDS, ROW = 60, 5  # of a soundscape, and of what is scored
CLIPS = 8  # in a soundscape
PRESENT = 0.5  # seconds of a sound within a row that has it
RATIOS = (20, 10, 0)  # dB, signal to noise
QUIET = 1e-3  # of full scale: what is below at a clip's ends is not of its sound
AST = [
    *("birdclef", "--preset", "tiny224", "--patch", "128", "8", "--stride", "128", "8"),
    *("--pooling", "patches", "--learning-rate", "5e-4"),
]
NETWORKS = {  # how many times the epochs, and the recipe with its options
    "AST, tiny, patches of 128 x 8": (1, AST),
    "the same, 5 times the epochs": (5, AST),
    "EfficientNet-B3": (1, ["birdclef_cnn"]),
    "SE-ResNeXt-50": (1, ["birdclef_cnn", "--model", "seresnext50_32x4d"]),
    "ECA-NFNet-L0": (1, ["birdclef_cnn", "--model", "eca_nfnet_l0"]),
}
SCORES = {"mAP": "mAP", "padded_cmAP": "padded cmAP", "f1": "macro-F1"}


def write_recordings(folder: Path, clips: Sequence[Clip], classes: Sequence[str]) -> None:
    """`train.csv` and `train_audio/`; the author is the recording that a clip was cut from."""
    with (folder / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["primary_label", "secondary_labels", "author", "filename"])
        for clip in clips:
            label, name = classes[clip.targets[0]], Path(clip.path).name
            target = folder / "train_audio" / label / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip.path, target)
            table.writerow([label, "[]", clip.group, f"{label}/{name}"])


def write_soundscapes(folder: Path, clips: Sequence[Clip], classes: Sequence[str]) -> None:
    """A folder of soundscapes for each ratio, alike but for the noise's level; `labels.csv`."""
    random = np.random.default_rng(0)
    order = random.permutation(len(clips))
    rows = []
    for number, some in enumerate(np.split(order, range(CLIPS, len(order), CLIPS))):
        name = f"soundscape_{number:02d}"
        sound, birds = mixed([clips[index] for index in some], classes, random)
        noise = pink(len(sound), random)
        for ratio in RATIOS:
            place = folder / f"{ratio} dB"
            place.mkdir(parents=True, exist_ok=True)
            both = sound + 10 ** (-ratio / 20) * noise
            soundfile.write(place / f"{name}.flac", 0.9 * both / np.abs(both).max(), RATE)
        for row, names in enumerate(birds, 1):
            rows.append([f"{name}_{row * ROW}", " ".join(sorted(names)) or "nocall"])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["row_id", "birds"], *rows])


def mixed(
    clips: Sequence[Clip], classes: Sequence[str], random: np.random.Generator
) -> tuple[np.ndarray, list[set[str]]]:
    """A soundscape without noise, each sound of mean power 1; the classes in each of its rows."""
    sound = np.zeros(SECONDS * RATE)
    birds: list[set[str]] = [set() for _ in range(SECONDS // ROW)]
    slot = len(sound) // CLIPS
    for position, clip in enumerate(clips):
        heard = trimmed(load_audio(clip.path, RATE).numpy())[:slot]
        start = position * slot + random.integers(slot - len(heard) + 1)
        sound[start : start + len(heard)] += heard / np.sqrt(np.mean(heard**2))
        for row, names in enumerate(birds):
            begin, end = row * ROW * RATE, (row + 1) * ROW * RATE
            if min(end, start + len(heard)) - max(begin, start) >= PRESENT * RATE:
                names.add(classes[clip.targets[0]])
    return sound, birds


def trimmed(waveform: np.ndarray) -> np.ndarray:
    """Without the silence at both ends; many of ESC-10's clips are filled up with it."""
    loud = np.flatnonzero(np.abs(waveform) > QUIET)
    return waveform[loud[0] : loud[-1] + 1]


def pink(size: int, random: np.random.Generator) -> np.ndarray:
    """Noise of equal power in every octave, of mean power 1."""
    spectrum = np.fft.rfft(random.standard_normal(size))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, size)
    return noise / np.sqrt(np.mean(noise**2))


def trained(network: Sequence[str], recordings: Path, run: Path, epochs: int, seed: int) -> Path:
    """The run folder, once its training is finished."""
    recipe, *options = network
    words = [recipe, "--data", str(recordings), "--out", str(run), "--init-from", "scratch"]
    words += [*options, "--epochs", str(epochs), "--batch-size", "16", "--seed", str(seed)]
    subprocess.run([sys.executable, "-m", "train", "train", *words], check=True)
    return run


def scored(run: Path, soundscapes: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Where a model was scored, and its scores: on clean clips, and at each ratio."""
    yield "clean clips", read_json(run / "results.json")["validation"]["last"]
    for ratio in RATIOS:
        found = score_rows(run, soundscapes / f"{ratio} dB", soundscapes / "labels.csv")
        yield f"{ratio} dB", found.scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of ESC-10 or ESC-50")
    add("--out", type=Path, required=True, help="folder for data, runs and scores")
    add("--epochs", type=int, default=10, help="of each training (%(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="a training each (%(default)s)")
    arguments = parser.parse_args()
    corpus = esc50(arguments.data, "esc10")
    recordings, soundscapes = arguments.out / "recordings", arguments.out / "soundscapes"
    if not recordings.exists():
        with atomic_folder(recordings) as folder:
            known = [clip for clip in corpus.clips if clip.fold != 5]
            write_recordings(folder, known, corpus.classes)
    if not soundscapes.exists():
        with atomic_folder(soundscapes) as folder:
            write_soundscapes(folder, [c for c in corpus.clips if c.fold == 5], corpus.classes)
    rows = []
    for seed in arguments.seeds:
        for name, (times, network) in NETWORKS.items():
            run = arguments.out / f"{name}, seed {seed}"
            trained(network, recordings, run, times * arguments.epochs, seed)
            for place, scores in scored(run, soundscapes):
                values = [f"{scores[key]:.4f}" if key in scores else "" for key in SCORES]
                rows.append([name, seed, place, *values])
    with atomic_file(arguments.out / "scores.csv") as temporary, temporary.open("w") as file:
        csv.writer(file).writerows([["network", "seed", "scored on", *SCORES.values()], *rows])
    print((arguments.out / "scores.csv").read_text())


if __name__ == "__main__":
    main()
