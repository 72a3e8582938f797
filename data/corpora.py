"""The corpora by name, as recipes and the command line call them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.audioset import audioset
from data.esc50 import esc50
from data.folder import folder
from data.hugging_face import hugging_face
from data.manifest import Manifest
from data.speech_commands import speech_commands
from data.synthetic import synthetic
from data.table import table

CORPORA: dict[str, Callable[[Path], Manifest]] = {
    "esc50": partial(esc50, subset="esc50"),
    "esc10": partial(esc50, subset="esc10"),
    "speech_commands": speech_commands,
    "audioset_balanced": partial(audioset, subset="balanced"),
    "audioset_full": partial(audioset, subset="full"),
    "folder": folder,
    "table": table,
    "hugging_face": hugging_face,
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
