"""The project's other packages, which a module of the user's with the same name can hide."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("data", "weights", "train")


def hidden(name: str) -> str | None:
    """One line for the user if Python finds a file of his instead of our package `name`."""
    ours = Path(__file__).resolve().parent.parent / name
    spec = find_spec(name)
    found = spec.origin if spec else None  # None: a folder without code hides nothing
    if not found or not ours.is_dir() or Path(found).resolve().parent == ours:
        return None
    return f"{found} hides the package `{name}` of ast-audio: rename that file"


def require_siblings() -> None:
    """Before `weights` or `data` is imported; ImportError if one of them is hidden."""
    for name in ("data", "weights"):
        if line := hidden(name):
            raise ImportError(line)
