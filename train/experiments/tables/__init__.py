"""The paper's tables by name, and tables of the user's own. One file a table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from train.experiments.table import Table
from train.experiments.tables.augmentation import AUGMENTATION
from train.experiments.tables.imagenet_weights import IMAGENET_WEIGHTS
from train.experiments.tables.overlap import OVERLAP
from train.experiments.tables.patch_shape import PATCH_SHAPE
from train.experiments.tables.positions import POSITIONS
from train.experiments.tables.pretraining import PRETRAINING
from train.experiments.tables.size import SIZE

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        OVERLAP,
        PRETRAINING,
        IMAGENET_WEIGHTS,
        POSITIONS,
        PATCH_SHAPE,
        AUGMENTATION,
        SIZE,
    )
}


def load_table(name: str) -> Table:
    """A table by name, or the `TABLE` of a Python file.

    The file is a program and runs with all that the user may do: only one that was read, or whose
    writer is trusted, is to be given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such table, or the file fails or defines none.
    """
    if name in TABLES:
        return TABLES[name]
    if not name.endswith(".py"):
        raise ValueError(
            f"table {name!r} is unknown; use one of {', '.join(TABLES)}, or a Python file"
        )
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"table {path} does not exist; give a Python file that has a TABLE")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{path}: {kind}{error}") from error
    table = getattr(module, "TABLE", None)
    if not isinstance(table, Table):
        raise ValueError(f"{path} has no TABLE = Table(…) of train.experiments.table; add one")
    return table
