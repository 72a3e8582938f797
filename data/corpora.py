"""The corpora by name, as recipes and the command line call them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.esc50 import esc50
from data.manifest import Manifest
from data.synthetic import synthetic

CORPORA: dict[str, Callable[[Path], Manifest]] = {
    "esc50": partial(esc50, subset="esc50"),
    "esc10": partial(esc50, subset="esc10"),
    "synthetic": synthetic,
}


def open_corpus(name: str, root: str | Path) -> Manifest:
    """The manifest of a corpus that lies in the folder `root` (`synthetic` is written there).

    Raises:
        FileNotFoundError, ValueError: the folder or its tables are not as the corpus has them.
    """
    if name not in CORPORA:
        raise ValueError(f"corpus {name!r} is unknown; use one of {', '.join(CORPORA)}")
    return CORPORA[name](Path(root))
