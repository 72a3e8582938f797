"""Shares of what several processes or machines work through, each on its own: `--shard 3/8`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from train.distributed import rank, world_size

T = TypeVar("T")


class Shard(NamedTuple):
    """One of several processes or machines that share the recordings; counted from 1."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, things: Sequence[T]) -> Sequence[T]:
        """Its consecutive share; in order, the shares of all shards are the whole."""
        first, last = (len(things) * n // self.count for n in (self.number - 1, self.number))
        return things[first:last]


WHOLE = Shard()


def read_shard(text: str) -> Shard:
    """The shard that "3/8" names.

    Raises:
        ValueError: it is written otherwise, or there is no such shard.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None:
        raise ValueError(f"shard {text!r:.60} is not K/N; the third of eight is 3/8")
    number, count = map(int, match.groups())
    if not 1 <= number <= count:
        raise ValueError(
            f"there is no shard {text}; of {count} they are 1/{count} to {count}/{count}"
            if count
            else f"there is no shard {text}; use 1/1"
        )
    return Shard(number, count)


def own_shard(given: Shard | None) -> Shard:
    """The shard that was given, or of torchrun's processes the one that is this one's.

    Raises:
        ValueError: both.
    """
    if world_size() == 1:
        return given or WHOLE
    if given:
        raise ValueError(
            f"shard {given.number}/{given.count} was given to torchrun, which divides the "
            "recordings itself; leave one of the two out"
        )
    return Shard(rank() + 1, world_size())
