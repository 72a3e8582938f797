"""Which file holds which classes and belongs to which fold: the one form every corpus takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clip:
    """One recording: its file, the indices of its classes, its fold where there are folds."""

    path: Path
    targets: tuple[int, ...]
    fold: int | None = None


@dataclass(frozen=True)
class Manifest:
    """A corpus: its clips and the names of its classes, in the order of the model's outputs."""

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that occur, ascending."""
        return tuple(sorted({clip.fold for clip in self.clips if clip.fold is not None}))

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
