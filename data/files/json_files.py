"""JSON files, from strangers too: read within limits; a message names the file and the field."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

MOST_BYTES = 2**24  # of a file of settings or scores; that of 527 classes has 30 kB
MOST_DEPTH = 32  # objects and lists in one another; Python's own limit is some hundreds
MOST_INTEGER = 2**64  # a seed has up to 64 bits
SHOWN = 60  # characters of a value, in a message

KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
MISSING = object()
EMPTY: Mapping[str, str] = MappingProxyType({})


def read_json(
    path: Path,
    most_bytes: int = MOST_BYTES,
    convert: Callable[[dict[str, Any]], Any] = lambda entry: entry,
) -> dict[str, Any]:
    """The object that a JSON file in UTF-8 holds.

    Args:
        path: the file.
        most_bytes: a longer file is refused. The content may take thirty times the memory.
        convert: what becomes of each object in the file, inner ones first: less memory than that
            of millions of dictionaries.

    Raises:
        ValueError: the file is longer, no JSON, nested deeper than 32, or holds something else
            than an object; a key twice in one object, NaN, a number that is infinite in
            float64, or an integer of more than 64 bits.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # read() takes memory for as much as it may give
        text = file.read(min(size, most_bytes) + 1)
    if len(text) > most_bytes:
        raise ValueError(f"{path} has more than {most_bytes:,} bytes: it is not the file expected")
    try:
        content = json.loads(
            text.decode("utf-8-sig"),
            parse_int=_integer,
            object_pairs_hook=lambda pairs: convert(_sound(pairs)),
        )
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object: it holds {type(content).__name__}")
    _require_flat(path, content)
    return content


def json_field(
    content: dict[str, Any],
    name: str,
    kind: type,
    source: object,
    low: float = -math.inf,
    high: float = math.inf,
    default: Any = MISSING,
) -> Any:
    """A field of an object, of one type and in a range.

    Args:
        content: the object.
        name: of the field.
        kind: int, float (an integer will do, and becomes a float), str, bool, list or dict.
        source: the file, in messages; of an inner object, with words that tell where it is.
        low: the smallest number, the shortest text or list.
        high: the largest or longest.
        default: of a field that is missing; without one, it has to be there.

    Raises:
        ValueError: the field is missing, of another type or out of range.
    """
    value = content.get(name, default)
    if value is MISSING:
        raise ValueError(f"{source} lacks the field {name}: expected {_wanted(kind, low, high)}")
    if name not in content:
        return value
    if kind is float and type(value) is int and abs(value) <= MOST_INTEGER:
        value = float(value)
    right = type(value) is kind
    size = len(value) if right and isinstance(value, str | list | dict) else value
    if not (right and low <= size <= high):
        # A checkpoint's field may be of any type, and be shown in several lines.
        known = value is None or type(value) in KINDS
        shown = f"{value!r:.{SHOWN}}" if known else f"of type {type(value).__name__}"
        raise ValueError(f"{source}: {name} is {shown}, expected {_wanted(kind, low, high)}")
    return value


@contextmanager
def naming(source: object, words: Mapping[str, str] = EMPTY) -> Iterator[None]:
    """A ValueError inside begins with the name of the file that is read.

    Args:
        source: the file.
        words: what fields are called in the message, and in the file where that is another name.
    """
    try:
        yield
    except ValueError as error:
        message = re.sub(r"\w+", lambda word: words.get(word[0], word[0]), str(error))
        raise ValueError(f"{source}: {message}") from error


def _wanted(kind: type, low: float, high: float) -> str:
    bounds = [f"at least {low:,}"] * (low > -math.inf) + [f"at most {high:,}"] * (high < math.inf)
    length = " of a length" if bounds and kind in (str, list, dict) else ""
    return f"{KINDS[kind]}{length}{' ' if bounds else ''}{' and '.join(bounds)}"


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= len(str(MOST_INTEGER)) else math.inf


def _sound(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values; ValueError for a key twice or a number out of range."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r:.{SHOWN}} occurs twice in one object")
    for name, value in pairs:
        values = [value]
        while values:
            each = values.pop()
            if isinstance(each, list):
                values += each
            elif isinstance(each, int | float) and not _is_finite(each):
                raise ValueError(
                    f"{name!r:.{SHOWN}} is {each}, expected a finite number (an integer: 64 bits)"
                )
    return entry


def _is_finite(number: float) -> bool:
    return abs(number) <= MOST_INTEGER if isinstance(number, int) else math.isfinite(number)


def _require_flat(path: Path, content: dict[str, Any]) -> None:
    level: list[Any] = [content]
    for _ in range(MOST_DEPTH):
        parents = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for each in parents for child in each if isinstance(child, dict | list)]
        if not level:
            return
    raise _too_deep(path)


def _too_deep(path: Path) -> ValueError:
    return ValueError(f"{path} nests objects and lists deeper than {MOST_DEPTH}: it is damaged")
