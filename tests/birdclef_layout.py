"""A folder as BirdCLEF's competitors have it, with made sounds: a tone a species."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

RATE = 32_000
TONES = {"amecro": 1_000.0, "barswa": 4_000.0, "comrav": 10_000.0}  # Hz


def write_birdclef(folder: Path, rows: list[dict[str, str]], seconds: float = 1.0) -> Path:
    """`train.csv` with these rows and a recording for each, in `train_audio/`."""
    for number, row in enumerate(rows):
        path = folder / "train_audio" / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sound(path, TONES.get(row["primary_label"], 500.0), seconds, seed=number)
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_sound(path: Path, tone: float, seconds: float, seed: int = 0) -> None:
    """A tone in noise as OGG at 32 kHz."""
    times = np.arange(round(RATE * seconds)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.01, len(times))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * tone * times) + noise, RATE, format="OGG")


def row(species: str, name: str, author: str = "", secondary: str = "[]") -> dict[str, str]:
    """A row of `train.csv`, with some of the columns that nothing needs."""
    return {
        "primary_label": species,
        "secondary_labels": secondary,
        "latitude": "51.3",
        "author": author,
        "filename": f"{species}/{name}.ogg",
        "rating": "4.5",
    }
