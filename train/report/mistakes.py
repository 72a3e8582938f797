"""The most confident mistakes: what was said, to hear and to see."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import soxr
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ast_model import AST, AudioClassifier
from data import Manifest, load_audio
from data.corpora import open_corpus
from train.inference.models import load_model
from train.inference.spectrogram import draw_attention
from train.report.predictions import Predictions
from train.run.folder import RunRecord, fingerprint
from train.run.spectrogram import draw_spectrogram, time_axis

MOST_SECONDS = 15.0  # of a clip that can be played
NEXT_BEST = 3  # classes that are named with their probabilities
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
COLOURS = 128  # of a picture

logger = logging.getLogger(__name__)


@dataclass
class Mistake:
    """A clip whose likeliest class it does not have."""

    name: str  # of the clip
    run: RunRecord
    truth: str  # its class or classes; "" of none
    said: list[tuple[str, float]]  # the likeliest classes and their probabilities
    audio: str = ""  # data URI of an MP3; "" where there is none
    picture: str = ""  # data URI of a PNG
    attention: bool = False  # whether the picture shows it, beside the spectrogram
    note: str = ""  # why the clip cannot be heard, or not all of it

    @property
    def size(self) -> int:
        """Characters that audio and picture take in the page."""
        return len(self.audio) + len(self.picture)


def worst_mistakes(
    tables: Iterable[tuple[RunRecord, Predictions]], count: int
) -> tuple[list[Mistake], int]:
    """The most confident mistakes of some runs, and how many mistakes there are."""
    found: list[tuple[float, Mistake]] = []
    total = 0
    for run, table in tables:
        wrong = [int(row) for row in (~table.correct).nonzero()[0]]
        total += len(wrong)
        highest = table.probabilities.max(axis=1)
        for row in sorted(wrong, key=lambda row: -highest[row])[:count]:
            found.append((float(highest[row]), _mistake(run, table, row)))
    found.sort(key=lambda each: -each[0])
    return [mistake for _, mistake in found[:count]], total


def _mistake(run: RunRecord, table: Predictions, row: int) -> Mistake:
    truth = [table.classes[index] for index in table.truth[row].nonzero()[0]]
    order = (-table.probabilities[row]).argsort(kind="stable")[:NEXT_BEST]
    said = [(table.classes[index], float(table.probabilities[row, index])) for index in order]
    return Mistake(table.names[row], run, ", ".join(truth), said)


def open_data(runs: Sequence[RunRecord], data: str | Path) -> Manifest:
    """The data of some runs of one recipe, as for `evaluate`.

    Raises:
        FileNotFoundError, ValueError: it cannot be read, or is other data than the runs were
            trained on.
    """
    recipe = runs[0].recipe
    manifest = open_corpus(recipe.corpus, data, **recipe.columns())
    digest = fingerprint(manifest)
    for run in runs:
        if run.fingerprint not in (None, digest):
            raise ValueError(
                f"{data} holds other clips than {run.folder} was trained on; give its data, or "
                "leave out --data for a page without sounds"
            )
    return manifest


def show_mistakes(
    mistakes: Sequence[Mistake], model: str, manifest: Manifest, device: str, most_bytes: int
) -> None:
    """Give each mistake its sound, spectrogram and attention, as far as they fit into the page.

    A clip that is gone or cannot be read has a note instead.

    Args:
        model: folder in each run of the model that made the mistakes.
        most_bytes: of all sounds and pictures together; later clips go without.

    Raises:
        FileNotFoundError, ValueError: a model cannot be read.
    """
    paths = _paths(manifest, {mistake.name for mistake in mistakes})
    classifiers: dict[Path, AudioClassifier] = {}
    for mistake in mistakes:
        folder = mistake.run.folder
        if folder not in classifiers:
            classifiers[folder], _ = load_model(folder / model, device)
        _show(mistake, paths.get(mistake.name), classifiers[folder])
        most_bytes -= mistake.size
        if most_bytes < 0:
            mistake.audio = mistake.picture = ""
            mistake.note = "without sound and picture, which would make the page too large"


def _paths(manifest: Manifest, names: set[str]) -> dict[str, Path]:
    """Where the clips of these names are."""
    paths = (row[0] for row in manifest.clips.rows())
    found = ((manifest.relative(path), path) for path in paths)
    return {name: Path(path) for name, path in found if name in names}


def _show(mistake: Mistake, path: Path | None, classifier: AudioClassifier) -> None:
    if path is None:
        mistake.note = "the data has no clip of this name"
        return
    rate = classifier.frontend.config.sample_rate
    try:
        whole = load_audio(path, rate)
    except (ValueError, OSError) as error:
        logger.warning(f"clip left out: {error}")
        mistake.note = "its file is gone or cannot be read"
        return
    heard = whole[: classifier.window_size]
    played = heard[: round(MOST_SECONDS * rate)]
    if len(played) < len(whole):
        mistake.note = f"the first {len(played) / rate:.1f} of {len(whole) / rate:.1f} s"
    mistake.audio = mp3(played, rate)
    if len(heard) >= classifier.frontend.fbank.window_size:
        mistake.attention = isinstance(classifier.model, AST)
        mistake.picture = png(picture(classifier, heard))


def mp3(waveform: Tensor, rate: int) -> str:
    """A mono waveform as a data URI that every browser plays."""
    samples = waveform.numpy()
    playable = next((each for each in MP3_RATES if each >= rate), MP3_RATES[-1])
    if rate != playable:
        samples = soxr.resample(samples, rate, playable)
    samples = samples / max(abs(samples).max(), 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, playable, format="MP3", subtype="MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture(classifier: AudioClassifier, waveform: Tensor) -> Figure:
    """The spectrogram of what the model heard, and below it, of an AST, what it looked at."""
    fbank = classifier.frontend.fbank
    step = fbank.shift / fbank.sample_rate
    is_ast = isinstance(classifier.model, AST)
    figure = Figure(figsize=(4.8, 3.9 if is_ast else 2.2), layout="constrained")
    panels = figure.subplots(2 if is_ast else 1, 1, squeeze=False, sharex=True)[:, 0]
    columns = fbank(waveform[None].to(fbank.mel.device))[0][0].cpu().numpy()
    draw_spectrogram(panels[0], columns, step, fbank)
    end = classifier.model.config.num_frames * step if is_ast else len(columns) * step
    if is_ast:
        attention = classifier.attention_map(waveform[None])[0].cpu()
        draw_attention(panels[1], classifier, waveform, attention)
        panels[0].set_title("spectrogram", fontsize=9, loc="left")
        panels[1].set_title("attention: the more orange, the more", fontsize=9, loc="left")
    time_axis(panels[-1], 0, end)
    return figure


def png(figure: Figure) -> str:
    """A figure as a small PNG, in a data URI."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"
