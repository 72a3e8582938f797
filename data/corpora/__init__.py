"""The corpora, one module each, and `open_corpus`, which opens one by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.corpora.audioset import audioset
from data.corpora.birdclef import birdclef
from data.corpora.esc50 import esc50
from data.corpora.folder import folder
from data.corpora.hugging_face import hugging_face
from data.corpora.speech_commands import speech_commands
from data.corpora.synthetic import read_synthetic
from data.corpora.table import option, table
from data.manifest import Manifest

CORPORA: dict[str, Callable[..., Manifest]] = {
    "esc50": partial(esc50, subset="esc50"),
    "esc10": partial(esc50, subset="esc10"),
    "speech_commands": speech_commands,
    "audioset_balanced": partial(audioset, subset="balanced"),
    "audioset_full": partial(audioset, subset="full"),
    "birdclef": birdclef,
    "folder": folder,
    "table": table,
    "hugging_face": hugging_face,
    "synthetic": read_synthetic,
}


COLUMNS = (
    "path_column",
    "label_column",
    "fold_column",
    "split_column",
    "group_column",
    "label_separator",
)
"""Arguments that say which column of a table holds what; the default is to know usual names."""


def open_corpus(name: str, root: str | Path, **columns: str) -> Manifest:
    """The manifest of a corpus that lies in the folder `root`; nothing is written there.

    Args:
        name: a key of `CORPORA`.
        root: its folder; of `table` the file, of `hugging_face` a hub id as well.
        columns: any of `COLUMNS`, for `table` and `hugging_face`.

    Raises:
        FileNotFoundError, ValueError: the folder or its tables are not as the corpus has them.
    """
    if name not in CORPORA:
        raise ValueError(f"corpus {name!r} is unknown; use one of {', '.join(CORPORA)}")
    if columns and name not in ("table", "hugging_face"):
        given = " and ".join(map(option, columns))
        raise ValueError(
            f"{given}: only for --corpus table or hugging_face, since {name} has no columns; leave "
            f"it out, or give the --corpus that {root} is"
        )
    if name == "hugging_face":
        if "split_column" in columns:
            raise ValueError("a Hugging Face data set has splits, no column of them; leave it out")
        if "path_column" in columns:
            columns["audio_column"] = columns.pop("path_column")
    return CORPORA[name](Path(root), **columns)
