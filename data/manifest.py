"""Which file holds which classes and belongs to which split: the one form every corpus takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import filterfalse
from pathlib import Path

from data.clips import Clip, Clips, is_utf8
from data.files import is_one_line

__all__ = ["SPLITS", "Clip", "Clips", "Manifest"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Manifest:
    """A corpus: its clips and the names of its classes, in the order of the model's outputs.

    Any iterable of `Clip` will do as `clips`; it is kept in columns, as `Clips`.

    Raises:
        ValueError: two classes have one name; a path or a class is not UTF-8; a class has control
            characters, which a terminal would obey.
    """

    name: str
    clips: Clips
    classes: tuple[str, ...]
    multi_label: bool = False  # a clip may have any number of classes, not exactly one

    def __post_init__(self) -> None:
        object.__setattr__(self, "clips", Clips.of(self.clips))
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise ValueError(
                f"{self.name} has two classes {twice!r:.200}: expected a name of its own for each; "
                "rename one"
            )
        for name in (*self.clips.not_utf8(), *filterfalse(is_utf8, self.classes)):
            raise ValueError(
                f"{self.name}: the name {name!r:.200} is not UTF-8, so no table or model could "
                "hold it: rename the file, folder or class"
            )
        for index, name in enumerate(self.classes):
            if not is_one_line(name):
                clips = (str(clip.path) for clip in self.clips if index in clip.targets)
                raise control_characters(name, f"{next(clips, self.name)!r:.200}")

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
                f"{self.name} has no {name!r:.200} clips; "
                f"it has the splits {', '.join(self.splits) or 'none'}"
            )
        return clips

    def split(self, fold: int) -> tuple[Clips, Clips]:
        """Training clips (of every other fold) and validation clips (of this fold).

        Raises:
            ValueError: no clip belongs to this fold.
        """
        if fold not in self.folds:
            raise ValueError(
                f"fold {fold} does not exist in {self.name}; "
                f"it has the folds {', '.join(map(str, self.folds)) or 'none'}"
            )
        in_fold = self.clips.having("fold", fold)
        return self.clips[~in_fold], self.clips[in_fold]

    def relative(self, path: Path) -> str:
        """A clip's path relative to the folder that all clips share, with forward slashes.

        It names the clip in tables, wherever the corpus lies. Where the clips share no folder, or
        `path` lies elsewhere, it is the whole path.
        """
        return str(path).removeprefix(self._shared_folder).replace(os.sep, "/")

    @cached_property
    def _shared_folder(self) -> str:
        """With a separator at its end; "" if there is none."""
        try:
            shared = os.path.commonpath(self.clips.values("folder"))
        except ValueError:  # no clips, relative and absolute paths, or two drives
            return ""
        return os.path.join(shared, "") if shared else ""  # noqa: PTH118


def control_characters(name: str, where: str) -> ValueError:
    """The error for a class of this name, which a clip or the line of a table has."""
    return ValueError(
        f"{where}: its class {name!r:.60} has control characters, expected a line of text: rename "
        "it"
    )
