"""The classes of recordings: short ones in batches, long ones in windows."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ast_model import AudioClassifier
from ast_model.timeline import Timeline
from train.buckets import Frames, buckets, own_frames
from train.device import autocast
from train.inference.background import in_background
from train.inference.models import load_model
from train.inference.progress import Progress
from train.inference.recordings import Recordings, find_recordings
from train.inference.rows import row_timeline
from train.inference.spectrogram import SpectrogramStream

BATCHES_AHEAD = 2  # decoded while the model runs
MEASURED_PADDED = 50  # of so many recordings without padding, one runs padded too: it takes long

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """One recording; of one that the model hears at once, the timeline has one window."""

    path: Path
    timeline: Timeline
    spectrogram: SpectrogramStream | None = None


def predict(
    model: str | Path,
    files: str | Path | Sequence[str | Path],
    *,
    timeline: bool = False,
    hop: float | None = None,
    pad: bool = True,
    spectrograms: bool = False,
    skip_unreadable: bool = False,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    compile: bool = False,
    keep_tokens: float = 1.0,
) -> Iterator[Prediction]:
    """What a model hears in recordings of any length, one recording after the other.

        for prediction in predict("runs/esc50/fold1", "sounds/"):
            print(prediction.path, prediction.timeline.top(3))

    Short recordings come first, by their length. A recording up to the classifier's `longest_clip`
    is cut to its input as in training, a longer one is heard in overlapping windows.
    Memory is that of a few batches, which are decoded while the model runs, however many and long
    the recordings.

    Args:
        model: run folder (its `last/`), or what `weights.load` takes.
        files: audio files, and folders, which are searched for them.
        timeline: hear a recording to its end, also where it is only a little too long.
        hop: seconds from one window to the next; None: half a window.
        pad: with False, recordings shorter than the model's input run at their own length, in
            batches of the same number of patches; the time that saves is logged.
        spectrograms: give each prediction the spectrogram of its recording.
        skip_unreadable: leave out files that cannot be read, and log which, instead of an error.
        batch_size: recordings or windows that run through the model at a time.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto.
        device: auto (GPU where there is one), cpu, cuda or cuda:N.
        compile: compile the model first.
        keep_tokens: share of the patch tokens that the last block sees, as `AST.merge_tokens`.

    Raises:
        FileNotFoundError, ValueError: the model or a recording cannot be read, or an argument is
            out of range.
    """
    return open_predictor(
        model,
        find_recordings(files),  # before a model is fetched
        timeline=timeline,
        hop=hop,
        pad=pad,
        spectrograms=spectrograms,
        skip_unreadable=skip_unreadable,
        batch_size=batch_size,
        precision=precision,
        device=device,
        compile=compile,
        keep_tokens=keep_tokens,
    ).predictions()


def open_predictor(
    model: str | Path,
    paths: Sequence[Path],
    *,
    timeline: bool,
    hop: float | None,
    pad: bool,
    spectrograms: bool,
    skip_unreadable: bool,
    batch_size: int,
    precision: str,
    device: str,
    compile: bool,
    keep_tokens: float,
) -> Predictor:
    """The model with the recordings that it is to hear; arguments and errors are `predict`'s."""
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not positive; use at least 1")
    classifier, precision = load_model(model, device, precision, compile, keep_tokens)
    window = classifier.window_size / classifier.frontend.config.sample_rate
    if hop is not None and not 0 < hop <= window:
        raise ValueError(f"hop {hop} s is not in (0, {window:g}] s, the model's window")
    frames = None if pad else own_frames(model, classifier.model, classifier.frontend)
    recordings = Recordings(paths, classifier, skip_unreadable)
    return Predictor(
        classifier, recordings, timeline, hop, frames, spectrograms, batch_size, precision
    )


@dataclass
class Predictor:
    """A model and recordings; the other fields are arguments of `predict`."""

    classifier: AudioClassifier
    recordings: Recordings
    timeline: bool = False
    hop: float | None = None
    frames: Frames | None = None  # of `own_frames`: recordings are not padded
    spectrograms: bool = False
    batch_size: int = 8
    precision: str = "fp32"
    parts: Sequence[Sequence[Path]] | None = None  # heard one after the other; None: all is one
    before: Collection[Path] = ()  # recordings that were heard before
    in_rows: bool = False  # heard in rows of BirdCLEF, not in windows, also if short
    # Of recordings without padding: how many, the seconds that they took, the largest batch.
    unpadded: int = 0
    unpadded_seconds: float = 0.0
    unpadded_batch: list[Tensor] = field(default_factory=list)

    @property
    def longest_clip(self) -> int:
        """Samples of the longest recording that is not heard in windows or rows."""
        if self.in_rows:
            return 0
        classifier = self.classifier
        return classifier.window_size if self.timeline else classifier.longest_clip

    def predictions(self) -> Iterator[Prediction]:
        """Every recording that can be read, then a log of what there is to say of all of them.

        One part after the other, in each the short recordings first; what comes next is decoded
        meanwhile, also of the next part.
        """
        recordings = self.recordings
        parts = [recordings.seconds] if self.parts is None else self.parts
        batches = [list(self.batches(part)) for part in parts]
        clips = (path for part in batches for batch in part for path in batch)
        long = [[path for path in part if self._is_long(path)] for part in parts]
        loading = in_background(recordings.load, clips, BATCHES_AHEAD * self.batch_size)
        streaming = recordings.streams(chain.from_iterable(long))
        with (
            Progress(
                "predict", recordings.seconds, recordings.sample_rate, self.before
            ) as progress,
            closing(loading) as loaded,
            closing(streaming) as streams,
        ):
            for clips_of_part, long_of_part in zip(batches, long, strict=True):
                heard = chain(
                    self._clips(clips_of_part, loaded, progress),
                    self._long_recordings(long_of_part, streams, progress),
                )
                for prediction in heard:
                    progress.end_recording()
                    yield prediction
            recordings.require_any()
            progress.finish()
        if self.frames:
            logger.info(self._saving())
        self.recordings.log_notes()

    def batches(self, paths: Iterable[Path]) -> Iterator[list[Path]]:
        """Those up to `longest_clip`, by their headers, in batches of similar length.

        Without padding, those of one batch fill the same number of patches, so that none of them
        depends on what else is in the batch.
        """
        seconds, rate = self.recordings.seconds, self.recordings.sample_rate
        clips = [path for path in paths if path in seconds and not self._is_long(path)]
        samples = [round(seconds[path] * rate) for path in clips]
        for rows in buckets(samples, self.batch_size, self.frames):
            yield [clips[row] for row in rows]

    def _is_long(self, path: Path) -> bool:
        """Whether its header says that it is heard in windows."""
        seconds = self.recordings.seconds.get(path, 0.0)
        return round(seconds * self.recordings.sample_rate) > self.longest_clip

    def _clips(
        self, batches: Iterable[list[Path]], loaded: Iterator[Future[Tensor]], progress: Progress
    ) -> Iterator[Prediction]:
        for paths in batches:
            waveforms: dict[Path, Tensor] = {}
            for path, decoding in zip(paths, loaded, strict=False):
                with self.recordings.skipping(path):
                    waveforms[path] = decoding.result()
            yield from self._heard(waveforms)
            for waveform in waveforms.values():
                progress.hear(waveform)

    def _heard(self, waveforms: Mapping[Path, Tensor]) -> Iterator[Prediction]:
        """Recordings of a batch; where a header was wrong, of other lengths than expected."""
        clips = [path for path, clip in waveforms.items() if len(clip) <= self.longest_clip]
        samples = [len(waveforms[path]) for path in clips]
        for rows in buckets(samples, self.batch_size, self.frames):
            yield from self._batch({clips[row]: waveforms[clips[row]] for row in rows})
        for path in waveforms.keys() - set(clips):
            yield self._windows(path, [waveforms[path]])

    def _long_recordings(
        self,
        paths: Sequence[Path],
        streams: Iterator[Iterator[Tensor]],
        progress: Progress,
    ) -> Iterator[Prediction]:
        for path, blocks in zip(paths, streams, strict=False):
            with self.recordings.skipping(path):
                yield self._windows(path, progress.through(blocks))

    def _batch(self, waveforms: Mapping[Path, Tensor]) -> Iterator[Prediction]:
        clips = list(waveforms.values())
        start = time.perf_counter()
        probabilities = self._probabilities(clips, pad=self.frames is None)
        if self.frames and max(map(len, clips)) < self.classifier.window_size:
            self.unpadded += len(clips)
            self.unpadded_seconds += time.perf_counter() - start
            self.unpadded_batch = max(self.unpadded_batch, clips, key=len)
        classifier, rate = self.classifier, self.recordings.sample_rate
        for (path, clip), row in zip(waveforms.items(), probabilities, strict=True):
            span = torch.tensor([[0], [len(clip)]], dtype=torch.float64) / rate
            timeline = Timeline(*span, row[None], classifier.classes, classifier.multi_label)
            spectrogram = self._spectrogram()
            if spectrogram:
                spectrogram.add(clip)
            yield Prediction(path, timeline, spectrogram)

    def _windows(self, path: Path, blocks: Iterable[Tensor]) -> Prediction:
        spectrogram = self._spectrogram()
        blocks = spectrogram.through(blocks) if spectrogram else blocks
        with self._autocast():  # here: what the caller computes between two predictions is its own
            if self.in_rows:
                rows = row_timeline(self.classifier, path, blocks, self.batch_size)
                return Prediction(path, rows, spectrogram)
            timeline = self.classifier.timeline(blocks, hop=self.hop, batch_size=self.batch_size)
        return Prediction(path, timeline, spectrogram)

    def _probabilities(self, waveforms: Sequence[Tensor], pad: bool) -> Tensor:
        """(clips, classes) on the CPU, of clips (samples,) of any lengths."""
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        padded = pad_sequence(list(waveforms), batch_first=True)
        with self._autocast():
            return self.classifier.probabilities(padded, lengths, pad=pad).cpu()

    def _autocast(self) -> torch.autocast:
        return autocast(next(self.classifier.parameters()).device, self.precision)

    def _spectrogram(self) -> SpectrogramStream | None:
        return SpectrogramStream(self.classifier.frontend.fbank) if self.spectrograms else None

    def _saving(self) -> str:
        """The time without padding, and an estimate of it with padding: a few clips run again."""
        if not self.unpadded:
            return "no padding: no recording was shorter than the model's input: no time was saved"
        batch = self.unpadded_batch[: max(1, self.unpadded // MEASURED_PADDED)]
        start = time.perf_counter()
        self._probabilities(batch, pad=True)
        padded = (time.perf_counter() - start) / len(batch) * self.unpadded
        return (
            f"no padding: {self.unpadded_seconds:.2f} s for {self.unpadded} recordings, decoding "
            f"apart; padded about {padded:.2f} s (estimated from one batch of {len(batch)} of them)"
        )
