"""The recordings of a season: what of them is still to be heard, by this process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np

from train.inference.models import find_model
from train.inference.recordings import find_recordings
from train.inference.season.journal import Entry, Journal, Stamp
from train.shards import WHOLE, Shard

BATCHES_SORTED = 8  # in a part, without padding
BLOCK = 2**20  # bytes of a model's file that are read at a time
OF_A_MODEL = (".json", ".safetensors", ".bin")  # files of its folder that decide what it hears


@dataclass(frozen=True)
class Written:
    """What a command wrote."""

    path: Path  # of the file, or of a folder of one for each recording
    recordings: int
    rows: int


Found = tuple[Path, float, np.ndarray]  # a recording, its seconds, what was found in it


@dataclass(frozen=True)
class Season:
    """Recordings in the order of their paths, in parts, and the parts of this process.

    Args:
        paths: of all recordings.
        folder: that they lie in, at any depth, as an absolute path.
        part_size: recordings that are heard whole or not at all.
        shard: whose parts these are.
    """

    paths: Sequence[Path]
    folder: Path
    part_size: int
    shard: Shard = WHOLE

    @classmethod
    def of(
        cls, files: str | Path | Sequence[str | Path], part_size: int, shard: Shard = WHOLE
    ) -> Season:
        """The recordings in folders and files; their folder is that which was named.

        It does not follow from what the folder holds, so that a season may grow. Of several, and
        of files, it is what they share.

        Raises:
            FileNotFoundError, ValueError: as `find_recordings`.
        """
        paths = sorted(find_recordings(files))
        named = [files] if isinstance(files, str | Path) else files
        places = [absolute(Path(each)) for each in named]
        folders = [place if place.is_dir() else place.parent for place in places]
        return cls(paths, Path(os.path.commonpath(folders)), part_size, shard)

    @cached_property
    def stamps(self) -> dict[Path, tuple[str, Stamp | None]]:
        """Each recording's name below the folder, and what its file is now."""
        return {
            path: (absolute(path).relative_to(self.folder).as_posix(), Stamp.of(path))
            for path in self.paths
        }

    @cached_property
    def parts(self) -> Sequence[Sequence[Path]]:
        """Of this shard: consecutive recordings, so many that they are heard together.

        A batch never holds recordings of two parts. So what runs through the model together, and
        with that the last digit of a probability, depends neither on where a command was
        interrupted nor on the number of shards.
        """
        starts = range(0, len(self.paths), self.part_size)
        return self.shard.of([self.paths[start : start + self.part_size] for start in starts])

    @property
    def own(self) -> list[Path]:
        """The recordings of this shard."""
        return [path for part in self.parts for path in part]

    def progress(
        self, journal: Journal, readable: Collection[Path]
    ) -> tuple[list[Sequence[Path]], set[Path]]:
        """The parts of this shard that are to be heard, and recordings that need not be.

        A part is to be heard with all its recordings where one of them was not heard yet, or has
        changed since.

        Args:
            readable: recordings whose headers can be read.
        """
        parts = [part for part in self.parts if any(self.stamps[p] not in journal for p in part)]
        return parts, set(readable) - {path for part in parts for path in part}

    def keep(self, journal: Journal, found: Iterable[Found], rates: Mapping[Path, int]) -> None:
        """Write into the journal what comes, part by part, and is not in it.

        Args:
            rates: of the files, Hz.
        """
        number = {path: index for index, part in enumerate(self.parts) for path in part}
        for _, part in groupby(found, key=lambda each: number[each[0]]):
            journal.add(
                (*self.stamps[path], seconds, rates[path], array)
                for path, seconds, array in part
                if self.stamps[path] not in journal
            )

    def heard(self, journal: Journal, paths: Iterable[Path]) -> dict[Path, Entry]:
        """Those of the recordings that were heard as they are now."""
        entries = ((path, journal.entry(*self.stamps[path])) for path in paths)
        return {path: entry for path, entry in entries if entry is not None}


def journal_of(file: Path) -> Path:
    """The folder of the journal beside a file."""
    return file.with_name(f"{file.name}.journal")


def table_of_shard(file: Path, shard: Shard) -> Path:
    """The file of one shard, beside that of all."""
    return file.with_name(f"{file.stem}.{shard.name}{file.suffix}")


def recordings_a_part(batch_size: int, pad: bool) -> int:
    """A batch of clips; without padding several, which are sorted by length."""
    return batch_size * (1 if pad else BATCHES_SORTED)


def model_digest(model: str | Path) -> str:
    """What tells a model from others: a hash of the files that it consists of."""
    path, _ = find_model(model)
    files = [path]
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in OF_A_MODEL)
    digest = hashlib.sha256()
    for each in files:
        digest.update(each.name.encode() + b"\0")
        with each.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


def absolute(path: Path) -> Path:
    """The path from the root on, without `..`; links stay."""
    return Path(os.path.normpath(path.absolute()))
