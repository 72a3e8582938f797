"""Which file holds which classes and belongs to which part: the one form every corpus takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Clip:
    """One recording: its file, the indices of its classes, and which part of the corpus it is in.

    A corpus has folds (each held out once), or parts ("train", "valid", "test"), or neither.
    """

    path: Path
    targets: tuple[int, ...]
    fold: int | None = None
    part: str | None = None
    group: str | None = None  # clips of one speaker, site or recording: never in two parts


@dataclass(frozen=True)
class Manifest:
    """A corpus: its clips and the names of its classes, in the order of the model's outputs."""

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    multi_label: bool = False  # a clip may have any number of classes, not exactly one

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that occur, ascending."""
        return tuple(sorted({clip.fold for clip in self.clips if clip.fold is not None}))

    def part(self, name: str) -> tuple[Clip, ...]:
        """The clips of one part: "train", "valid" or "test".

        Raises:
            ValueError: no clip belongs to it.
        """
        clips = tuple(clip for clip in self.clips if clip.part == name)
        if not clips:
            present = [part for part in PARTS if any(clip.part == part for clip in self.clips)]
            raise ValueError(
                f"{self.name} has no {name!r} clips; "
                f"it has the parts {', '.join(present) or 'none'}"
            )
        return clips

    def split(self, fold: int) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
        """Training clips (every other fold) and held-out clips (this fold).

        Raises:
            ValueError: no clip belongs to this fold.
        """
        if fold not in self.folds:
            raise ValueError(
                f"fold {fold} does not exist in {self.name}; "
                f"it has the folds {', '.join(map(str, self.folds)) or 'none'}"
            )
        training = tuple(clip for clip in self.clips if clip.fold != fold)
        held_out = tuple(clip for clip in self.clips if clip.fold == fold)
        return training, held_out
