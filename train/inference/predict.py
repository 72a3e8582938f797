"""`ast-audio predict`: the classes of recordings, long ones in windows, short ones in batches."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import weights
from ast_model import AST, AudioClassifier
from ast_model.classifier import CUT_UP_TO
from ast_model.quantise import quantise
from ast_model.timeline import Timeline, likeliest
from train.cli.options import PredictOptions
from train.device import autocast, choose_device, choose_precision, compile_in_place
from train.inference.export import find_model
from train.inference.recordings import Recordings, find_recordings
from train.inference.spectrogram import SpectrogramStream, timeline_figure
from train.plots import save_figure
from train.run_folder import write_json
from train.tables import write_csv

Row = tuple[Any, ...]  # (class, probability) or, of a timeline, (start, end, class, probability)
CLIP_COLUMNS = ("class", "probability")
TIMELINE_COLUMNS = ("start", "end", *CLIP_COLUMNS)


@dataclass(frozen=True)
class Prediction:
    """One recording; one that the model hears at once has a timeline of one window."""

    path: Path
    timeline: Timeline
    spectrogram: SpectrogramStream | None


@dataclass
class OwnLength:
    """What it saves that clips run at their own length instead of padded."""

    clips: int = 0
    seconds: float = 0.0
    sample: list[Tensor] = field(default_factory=list)  # the largest batch

    def line(self, classifier: AudioClassifier) -> str:
        """The time taken, and an estimate of what padding would have taken: one batch is run."""
        if not self.clips:
            return "own length: no clip was shorter than the model's length, so nothing was saved"
        start = time.perf_counter()
        batch_probabilities(classifier, self.sample, own_length=False)
        padded = (time.perf_counter() - start) / len(self.sample) * self.clips
        return (
            f"own length: {self.seconds:.2f} s for {self.clips} clips, decoding apart; padded "
            f"about {padded:.2f} s (estimated from one batch of {len(self.sample)} of them)"
        )


def predict(options: PredictOptions) -> None:
    """Print or write the classes of every recording.

    Raises:
        FileNotFoundError, ValueError: the model or a recording cannot be read, or options that do
            not go together or are out of range.
    """
    _check(options)
    files = find_recordings(options.files)  # before a model is fetched
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    classifier = weights.load(find_model(options.model)[0], device=device)
    if options.own_length and not isinstance(classifier.model, AST):
        raise ValueError(f"{options.model} is no AST: only an AST runs at a clip's own length")
    if precision == "int8":
        quantise(classifier.model)
    if options.compile:
        compile_in_place(classifier.model)
    recordings = Recordings(files, classifier, options.skip_unreadable)
    places = _places(recordings.seconds, options.out) if options.out else {}
    saving = OwnLength()
    rows: dict[Path, list[Row]] = {}
    count = len(recordings.seconds)
    with autocast(device, precision), tqdm(total=count, leave=False, disable=None) as bar:
        for prediction in predictions(classifier, recordings, options, saving):
            rows[prediction.path] = chosen_rows(prediction.timeline, options)
            if options.out:
                place = places[prediction.path]
                _write_timeline(place, prediction, rows[prediction.path], options)
            bar.update()
        recordings.require_any()
        saved = saving.line(classifier) if options.own_length else None
    _show({path: rows[path] for path in recordings.seconds if path in rows}, options)
    if saved:
        print(saved, file=sys.stderr)
    recordings.print_notes()


def _check(options: PredictOptions) -> None:
    for name in ("top_k", "batch_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} {getattr(options, name)} is not positive; use at least 1")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"threshold {options.threshold} is not a probability in [0, 1]")
    if options.hop is not None and not options.hop > 0:
        raise ValueError(f"hop {options.hop} s is not positive; give seconds between two windows")
    if options.out and not options.timeline:
        raise ValueError("--out is for timelines; add --timeline, or use --csv for one table")
    if options.csv and options.json:
        raise ValueError("--csv and --json are two forms of one table; give one of them")


def predictions(
    classifier: AudioClassifier,
    recordings: Recordings,
    options: PredictOptions,
    saving: OwnLength,
) -> Iterator[Prediction]:
    """Every recording that can be read: first the short ones, by length, then the long ones.

    A clip up to `CUT_UP_TO` times the model's length is cut to it as in training, except that a
    timeline goes to its end. Memory is that of a batch, however many and long the recordings.
    """
    window = classifier.window_size
    limit = window if options.timeline else round(CUT_UP_TO * window)
    for paths in batches(classifier, recordings, options, limit):
        waveforms = {}
        for path in paths:
            with recordings.skipping(path):
                waveforms[path] = recordings.load(path)
        short = {path: clip for path, clip in waveforms.items() if len(clip) <= limit}
        if short:
            yield from _predict_clips(classifier, short, options, saving)
        for path in waveforms.keys() - short.keys():  # longer than their headers say
            yield _predict_windows(classifier, path, [waveforms[path]], options)
    for path, seconds in recordings.seconds.items():
        if seconds * recordings.sample_rate > limit:
            with recordings.skipping(path):
                blocks = recordings.stream(path)
                yield _predict_windows(classifier, path, blocks, options)


def batches(
    classifier: AudioClassifier, recordings: Recordings, options: PredictOptions, limit: int
) -> Iterator[list[Path]]:
    """The clips of up to `limit` samples in batches of similar length.

    At their own length, clips of one batch fill the same number of patches, so that none of them
    depends on what else is in the batch.
    """
    lengths = {path: round(s * recordings.sample_rate) for path, s in recordings.seconds.items()}
    short = sorted((path for path in lengths if lengths[path] <= limit), key=lengths.__getitem__)

    def own_frames(path: Path) -> int:
        fbank = classifier.frontend.fbank
        frames = fbank.num_frames(max(lengths[path], fbank.window_size))
        return classifier.model.config.own_frames(frames) if options.own_length else 0

    for _, group in groupby(short, key=own_frames):
        while batch := list(islice(group, options.batch_size)):
            yield batch


def _predict_clips(
    classifier: AudioClassifier,
    waveforms: Mapping[Path, Tensor],
    options: PredictOptions,
    saving: OwnLength,
) -> Iterator[Prediction]:
    clips = list(waveforms.values())
    start = time.perf_counter()
    probabilities = batch_probabilities(classifier, clips, options.own_length)
    if options.own_length and max(map(len, clips)) < classifier.window_size:
        saving.clips += len(clips)
        saving.seconds += time.perf_counter() - start
        saving.sample = max(saving.sample, clips, key=len)
    rate = classifier.frontend.config.sample_rate
    for path, clip, row in zip(waveforms, clips, probabilities, strict=True):
        span = torch.tensor([[0], [len(clip)]], dtype=torch.float64) / rate
        timeline = Timeline(*span, row[None], classifier.classes, classifier.multi_label)
        spectrogram = _spectrogram(classifier, options)
        if spectrogram:
            spectrogram.add(clip)
        yield Prediction(path, timeline, spectrogram)


def batch_probabilities(
    classifier: AudioClassifier, waveforms: Sequence[Tensor], own_length: bool
) -> Tensor:
    """(clips, classes) on the CPU, of clips (samples,) of any lengths."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = pad_sequence(list(waveforms), batch_first=True)
    return classifier.probabilities(padded, lengths, own_length).cpu()


def _predict_windows(
    classifier: AudioClassifier, path: Path, blocks: Iterable[Tensor], options: PredictOptions
) -> Prediction:
    spectrogram = _spectrogram(classifier, options)
    blocks = spectrogram.through(blocks) if spectrogram else blocks
    timeline = classifier.timeline(blocks, options.hop, options.batch_size)
    return Prediction(path, timeline, spectrogram)


def _spectrogram(classifier: AudioClassifier, options: PredictOptions) -> SpectrogramStream | None:
    return SpectrogramStream(classifier.frontend.fbank) if options.out else None


def chosen_rows(timeline: Timeline, options: PredictOptions) -> list[Row]:
    """(class, probability), or (start, end, class, probability) of a timeline.

    With a threshold, what reaches it, windows of a timeline joined; else the `top_k` likeliest.
    """
    threshold = options.threshold
    if not options.timeline:
        count = options.top_k if threshold is None else len(timeline.classes)
        best = timeline.top(count)
        return best if threshold is None else [row for row in best if row[1] >= threshold]
    if threshold is not None:
        return timeline.segments(threshold)
    spans = zip(timeline.starts.tolist(), timeline.ends.tolist(), strict=True)
    return [
        (*span, *best)
        for span, row in zip(spans, timeline.probabilities, strict=True)
        for best in likeliest(row, timeline.classes, options.top_k)
    ]


def _places(paths: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Below `out` as the recordings lie below the folder that they share: no two in one place."""
    absolute = {path: Path(os.path.normpath(path.absolute())) for path in paths}
    common = os.path.commonpath([path.parent for path in absolute.values()])
    return {path: out / place.relative_to(common) for path, place in absolute.items()}


def _write_timeline(
    place: Path, prediction: Prediction, rows: list[Row], options: PredictOptions
) -> None:
    """`place` with .csv or .json and with .png appended."""
    if options.json:
        write_json(place.with_name(f"{place.name}.json"), _as_json(prediction.path, rows, options))
    else:
        write_csv(place.with_name(f"{place.name}.csv"), TIMELINE_COLUMNS, rows)
    figure = timeline_figure(prediction.spectrogram, prediction.timeline, prediction.path.name)
    save_figure(figure, place.with_name(f"{place.name}.png"))


def _as_json(path: Path, rows: Iterable[Row], options: PredictOptions) -> dict[str, Any]:
    columns = TIMELINE_COLUMNS if options.timeline else CLIP_COLUMNS
    entries = [
        {n: round(v, 6) if isinstance(v, float) else v for n, v in zip(columns, row, strict=True)}
        for row in rows
    ]
    return {"file": str(path), "timeline" if options.timeline else "classes": entries}


def _show(rows: Mapping[Path, list[Row]], options: PredictOptions) -> None:
    """All rows as a CSV file, or as JSON or a table on standard output."""
    if options.csv:
        columns = ("file", *(TIMELINE_COLUMNS if options.timeline else CLIP_COLUMNS))
        write_csv(options.csv, columns, ((p, *row) for p in rows for row in rows[p]))
        count = sum(map(len, rows.values()))
        print(f"wrote {options.csv}: {count} rows for {len(rows)} recordings")
    if options.out:
        kind = "json" if options.json else "csv"
        print(f"wrote {options.out}: a .{kind} and a .png for each of {len(rows)} recordings")
    if options.csv or options.out:
        return
    if options.json:
        print(json.dumps([_as_json(path, rows[path], options) for path in rows], indent=2))
        return
    for path in rows:
        print(path)
        for *span, name, probability in rows[path]:
            times = f"{span[0]:8.2f} - {span[1]:7.2f} s  " if span else ""
            print(f"  {times}{probability:6.1%}  {name}")
        if not rows[path]:
            print(f"  no class reaches {options.threshold:g}")
