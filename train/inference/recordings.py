"""The recordings that a model is to hear: files, and folders searched for audio files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ast_model import AudioClassifier
from data import load_audio
from data.audio import read_header, stream_audio
from data.files import is_audio, walk
from train.inference.background import one_ahead

logger = logging.getLogger(__name__)


class Unreadable(ValueError):
    """A recording that cannot be decoded or is too short; the message names it."""


class Recordings:
    """Recordings in the order given: how long each is, and which of them cannot be read, and why.

    Args:
        files: what `find_recordings` gave.
        classifier: the model; gives sample rate and shortest length.
        skip_unreadable: files that cannot be read are noted in `failures`, instead of an error.

    Raises:
        Unreadable: a file cannot be read, unless `skip_unreadable`; or none of them can.
    """

    def __init__(
        self, files: Sequence[Path], classifier: AudioClassifier, skip_unreadable: bool = False
    ) -> None:
        self.sample_rate = classifier.frontend.config.sample_rate
        _, self.highest = classifier.frontend.config.band  # Hz
        self.shortest = classifier.frontend.fbank.window_size
        self.skip_unreadable = skip_unreadable
        self.failures: dict[Path, str] = {}  # file and reason
        self.seconds: dict[Path, float] = {}  # file and its length by its header
        self.rates: dict[Path, int] = {}  # file and its sample rate, Hz
        for path in tqdm(files, "headers", unit="file", leave=False, disable=None):
            with self.skipping(path), _named(path):
                header = read_header(path)
                self.seconds[path] = header.seconds
                self.rates[path] = header.sample_rate
        self.require_any()

    def load(self, path: Path) -> Tensor:
        """The whole recording, (samples,); Unreadable where that fails."""
        with _named(path):
            waveform = load_audio(path, self.sample_rate)
        self.require_length(path, waveform)
        return waveform

    def stream(self, path: Path) -> Iterator[Tensor]:
        """The recording in consecutive blocks, (samples,) each; Unreadable where that fails."""
        with _named(path):
            yield from stream_audio(path, self.sample_rate)

    def streams(self, paths: Iterable[Path]) -> Generator[Iterator[Tensor]]:
        """Each recording as `stream` gives it, to be taken one after the other.

        A block is decoded ahead, also that of the next recording.
        """
        with closing(one_ahead(self._blocks(paths))) as blocks:
            for _, some in groupby(blocks, key=itemgetter(0)):
                yield _readable(some)

    def _blocks(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Tensor | Unreadable]]:
        """The blocks of each recording; where one cannot be read on, why, and the next one."""
        for path in paths:
            try:
                for block in self.stream(path):
                    yield path, block
            except Unreadable as error:
                yield path, error

    def require_length(self, path: Path, waveform: Tensor) -> None:
        """Unreadable where a waveform of this recording is too short for a model."""
        if len(waveform) < self.shortest:
            length, least = (1000 * n / self.sample_rate for n in (len(waveform), self.shortest))
            raise Unreadable(f"{path} lasts {length:.1f} ms; a model needs at least {least:g} ms")

    @contextmanager
    def skipping(self, path: Path) -> Iterator[None]:
        """Note an Unreadable of this recording in `failures` and go on, with `skip_unreadable`."""
        try:
            yield
        except Unreadable as error:
            if not self.skip_unreadable:
                raise
            self.failures[path] = str(error)

    def require_any(self) -> None:
        """Unreadable where every recording failed."""
        if self.failures and not self.seconds.keys() - self.failures.keys():
            count, first = len(self.failures), next(iter(self.failures.values()))
            raise Unreadable(f"none of {count} recordings can be read; the first: {first}")

    def log_notes(self) -> None:
        """What is resampled; as warnings, what was left out and what the model cannot hear."""
        others = Counter(rate for rate in self.rates.values() if rate != self.sample_rate)
        if others:
            listed = ", ".join(map(str, sorted(others)))
            logger.info(
                f"{others.total()} of {len(self.seconds)} recordings are at other rates ({listed} "
                f"Hz) than the model, and resampled to its {self.sample_rate} Hz"
            )
        for rate, count in sorted(others.items()):
            if rate / 2 < self.highest:
                logger.warning(
                    f"{count} of {len(self.seconds)} recordings are at {rate} Hz: nothing in them "
                    f"above {rate // 2} Hz, where the model, at {self.sample_rate} Hz, listens up "
                    f"to {self.highest:g} Hz"
                )
        if self.failures:
            count = len(self.failures.keys() | self.seconds.keys())
            reasons = "".join(f"\n  {reason}" for reason in self.failures.values())
            logger.warning(f"{len(self.failures)} of {count} recordings left out:{reasons}")


def find_recordings(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files of any name as they are given, audio files at any depth of folders; each once.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder holds no audio files, or there are no paths.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if not paths:
        raise ValueError("no recording was given; name audio files or folders after the model")
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; name audio files or folders")
        files = list(_audio_files(path)) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path} holds no audio files; name another folder, or the files")
        found += files
    return list(dict.fromkeys(found))


def _audio_files(folder: Path) -> Iterable[Path]:
    return (Path(path, name) for path, names in walk(folder) for name in names if is_audio(name))


def _readable(stream: Iterable[tuple[Path, Tensor | Unreadable]]) -> Iterator[Tensor]:
    """The blocks of one recording; Unreadable is raised where they end with it."""
    for _, block in stream:
        if isinstance(block, Unreadable):
            raise block
        yield block


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Unreadable(reason if str(path) in reason else f"{path}: {reason}") from error
