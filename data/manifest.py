"""Which file holds which classes and belongs to which split: the one form every corpus takes."""

from __future__ import annotations

from dataclasses import dataclass

from data.clips import Clip, Clips

__all__ = ["SPLITS", "Clip", "Clips", "Manifest"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Manifest:
    """A corpus: its clips and the names of its classes, in the order of the model's outputs.

    Any iterable of `Clip` will do as `clips`; it is kept in columns, as `Clips`.
    """

    name: str
    clips: Clips
    classes: tuple[str, ...]
    multi_label: bool = False  # a clip may have any number of classes, not exactly one

    def __post_init__(self) -> None:
        object.__setattr__(self, "clips", Clips.of(self.clips))

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that occur, ascending."""
        return tuple(sorted(self.clips.values("fold") - {None}))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in the order of `SPLITS`."""
        present = self.clips.values("split")
        return tuple(split for split in SPLITS if split in present)

    def in_split(self, name: str) -> Clips:
        """The clips of one split: "train", "validation" or "test".

        Raises:
            ValueError: no clip belongs to it.
        """
        clips = self.clips[self.clips.having("split", name)]
        if not clips:
            raise ValueError(
                f"{self.name} has no {name!r} clips; "
                f"it has the splits {', '.join(self.splits) or 'none'}"
            )
        return clips

    def split(self, fold: int) -> tuple[Clips, Clips]:
        """Training clips (every other fold) and held-out clips (this fold).

        Raises:
            ValueError: no clip belongs to this fold.
        """
        if fold not in self.folds:
            raise ValueError(
                f"fold {fold} does not exist in {self.name}; "
                f"it has the folds {', '.join(map(str, self.folds)) or 'none'}"
            )
        held_out = self.clips.having("fold", fold)
        return self.clips[~held_out], self.clips[held_out]
