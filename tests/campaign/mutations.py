"""Mutations that several classes share: of bytes, of JSON, of numbers in binary headers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

JSON_VALUES = (
    *("null", "NaN", "Infinity", "-Infinity", "-1", "0", "1", "-0.0", "0.5", "1e308", "1e999"),
    *("1e-320", "2147483648", "9223372036854775808", "16777216", "100000", "1" + "0" * 5000),
    *('""', '"x"', '"1"', '"../../x"', '"/etc/passwd"', '"\\u0000"', '"\\ud800"', '"a\\nb"'),
    *("[]", "[[]]", "[1, 2]", "[1e308, null]", "{}", '{"a": 1}', "true", "false"),
    *('"' + "x" * 100_000 + '"', "[" * 5000 + "]" * 5000, "[" + "0," * 50_000 + "0]"),
)
NUMBERS = (
    0,
    1,
    2,
    3,
    8,
    100,
    2**15,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
TEXTS = (
    *("", " ", "nan", "inf", "-1", "1e308", "9" * 30, "9" * 5000, "0.5", "true", "None", "a;b"),
    *("a|b", "a,b", '"', "[1]", "['a', 'b']", "../../x", "/etc/passwd", "..", ".", "~", "C:\\x"),
    *("\x00", "\x1b[2J", "a\nb", "\r", "\u2028", "\ud800", "\udcff", "\ufeff", "x" * 300),
    *("x" * 200_000, "é", "\u0661", "https://example.org/x.wav", "train", "a\tb"),
)


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes changed, cut, removed, repeated, moved, or numbers written over them."""
    changed = bytearray(content)
    if not changed:
        return random.randbytes(random.choice((1, 100)))
    kind = random.randrange(7)
    start = random.randrange(len(changed))
    if random.random() < 0.4:
        start = min(start, random.choice((16, 64, 256)), len(changed) - 1)  # headers come first
    end = min(len(changed), start + random.choice((1, 2, 4, 16, 64, 512)))
    if kind == 0:
        for _ in range(random.choice((1, 1, 4, 32))):
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    elif kind == 1:
        del changed[start:]
    elif kind == 2:
        del changed[start:end]
    elif kind == 3:
        changed[start:start] = changed[start:end] * random.choice((1, 2, 1000))
    elif kind == 4:
        source = random.randrange(len(changed))
        changed[start:end] = changed[source : source + end - start]
    elif kind == 5:
        changed[start:end] = random.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * (end - start)
    else:
        number = with_number(random.choice((2, 4, 8)), random)
        changed[start : start + len(number)] = number
    return bytes(changed)


def with_number(size: int, random: Random) -> bytes:
    """One of the numbers where programs go wrong, in either byte order."""
    number = random.choice(NUMBERS) % 256**size
    return number.to_bytes(size, random.choice(("little", "big")))


def files_in(folder: Path, suffixes: tuple[str, ...] = ("",)) -> list[Path]:
    """The files at any depth, in order."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes)
    )


def bytes_of(*suffixes: str) -> Callable[[Path, Random], None]:
    """A mutator that damages the bytes of one file with one of these endings."""

    def damaged_bytes(folder: Path, random: Random) -> None:
        if files := files_in(folder, suffixes or ("",)):
            file = random.choice(files)
            file.write_bytes(damaged(file.read_bytes(), random))

    return damaged_bytes


def json_of(*suffixes: str) -> Callable[[Path, Random], None]:
    """A mutator that changes a field of one JSON file with one of these endings."""

    def json_field(folder: Path, random: Random) -> None:
        file = random.choice(files_in(folder, suffixes))
        file.write_text(
            with_other_field(file.read_text(encoding="utf-8"), random), encoding="utf-8"
        )

    return json_field


def with_other_field(text: str, random: Random) -> str:
    """JSON with one value replaced, removed, doubled or renamed, at any depth."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # mutated before
        return text
    places = list(_places(content))
    if not places:
        return random.choice(JSON_VALUES)
    container, key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[random.choice(TEXTS)] = container.pop(key)
    else:
        container[key] = "@@"
        value = random.choice(JSON_VALUES)
        if kind == 2 and isinstance(container, dict):  # the key twice
            value = f"{value}, {json.dumps(key)}: {value}"
        return json.dumps(content).replace('"@@"', value)
    return json.dumps(content)


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = (
        list(content)
        if isinstance(content, dict)
        else range(len(content))
        if isinstance(content, list)
        else ()
    )
    for key in keys:
        yield content, key
        yield from _places(content[key])


def packed(form: str, content: bytes, offset: int, random: Random) -> bytes:
    """Bytes with a number of a `struct` form written at an offset."""
    number = random.choice(NUMBERS) % 256 ** struct.calcsize(form)
    return content[:offset] + struct.pack(form, number) + content[offset + struct.calcsize(form) :]
