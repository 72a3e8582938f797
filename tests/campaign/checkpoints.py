"""Checkpoints that torch.save wrote: the authors' .pth, and the .bin of transformers."""

from __future__ import annotations

import copyreg
import io
import os
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

import weights
from tests.campaign.case import InputClass
from tests.campaign.models import asked, micro
from tests.campaign.mutations import NUMBERS, TEXTS, bytes_of, damaged
from weights.names import authors_names, hub_names

PTH, BIN = "authors.pth", "hub/pytorch_model.bin"
OUTSIDE = "/tmp/code-of-a-checkpoint-ran"
State = dict[Any, Any]


class Runs:
    """What would run code when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


CALLS = (
    (os.system, f"touch {OUTSIDE}"),
    (os.mkdir, OUTSIDE),
    (eval, f"__import__('os').mkdir({OUTSIDE!r})"),
    (open, OUTSIDE, "w"),
    (torch.load, OUTSIDE),
    (getattr, Tensor, "storage"),
    (bytearray, 2**40),
    (copyreg._reconstructor, nn.Linear, object, None),
)


def make(folder: Path) -> None:
    """An authors' file and a folder with pickled weights; a case has one of them."""
    weights.save(folder / "hub", micro())
    (folder / "hub" / "model.safetensors").unlink()
    torch.save(hub_state(), folder / BIN)
    torch.save(authors_state(), folder / PTH)


def authors_state() -> dict[str, Tensor]:
    """A micro model under the authors' names, of a width and a length that theirs may have."""
    state: dict[str, Tensor] = {}
    for name, tensor in micro(64, 128).model.state_dict().items():
        names = authors_names(name)
        state.update(
            (f"module.{part}", piece.clone())
            for part, piece in zip(names, tensor.chunk(len(names)), strict=True)
        )
    return state


def the_only(folder: Path, random: Random) -> Path:
    """The checkpoint of the case; the other is removed where it is still there."""
    found = [file for file in (folder / PTH, folder / BIN) if file.exists()]
    chosen = random.choice(found)
    for other in found:
        if other != chosen:
            other.unlink()
    return chosen


def state_of(file: Path) -> State:
    """The valid content, whatever was mutated before."""
    return dict(authors_state() if file.name == PTH else hub_state())


def hub_state() -> dict[str, Tensor]:
    """The micro model under the Hub's names."""
    state: dict[str, Tensor] = {}
    for name, tensor in micro().model.state_dict().items():
        names = hub_names(name)
        pieces = (piece.clone() for piece in tensor.chunk(len(names)))
        state.update(zip(names, pieces, strict=True))
    return state


def any_bytes(folder: Path, random: Random) -> None:
    bytes_of()(the_only(folder, random).parent, random)


def strange_tensor(folder: Path, random: Random) -> None:
    """One tensor that is no dense one of floats in memory."""
    file = the_only(folder, random)
    state = state_of(file)
    name = random.choice(sorted(state))
    state[name] = random.choice(TENSORS)(state[name])
    torch.save(state, file)


TENSORS: tuple[Callable[[Tensor], Any], ...] = (
    lambda t: torch.zeros(1).expand(t.shape),
    lambda t: torch.zeros(1).expand(100_000, 100_000),
    lambda t: torch.as_strided(t.flatten(), (len(t.flatten()), 2), (0, 0)),
    lambda t: t.to_sparse(),
    lambda t: torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (2**30, 2**30)),
    lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    lambda t: t.to("meta"),
    lambda t: torch.empty(2**40, device="meta"),
    lambda t: t.to(torch.complex64),
    lambda t: t.to(torch.float8_e4m3fn),
    lambda t: t.to(torch.int64),
    lambda t: t.to(torch.bool),
    lambda t: t.half(),
    lambda t: t.double() * 1e300,
    lambda t: t * float("nan"),
    lambda t: t * float("inf"),
    lambda t: torch.full_like(t, 3e38),
    lambda t: torch.full_like(t, 1e20),
    lambda t: nn.Parameter(t),
    lambda t: t.flatten()[:0],
    lambda t: t[None],
    lambda t: t.flatten()[::2],
    lambda t: torch.zeros(t.numel() * 1000)[: t.numel()].view(t.shape),
    lambda t: t.tolist(),
    lambda t: t.numpy(),
    lambda t: None,
    lambda t: float("nan"),
    lambda t: 10**5000,
    lambda t: "x" * 100_000,
    lambda t: nn.Linear(2, 2),
    lambda t: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    lambda t: t.view(torch.uint8).untyped_storage(),
    lambda t: t.conj() if t.is_complex() else torch.complex(t.float(), t.float()).conj(),
    lambda t: torch.zeros(2**20).expand(64, 2**20),
)


def strange_names(folder: Path, random: Random) -> None:
    """Names that are no texts, odd, missing, many, or wrapped in other names."""
    file = the_only(folder, random)
    state: Any = state_of(file)
    name = random.choice(sorted(state))
    kind = random.randrange(8)
    if kind == 0:
        state[random.choice((1, None, (1, "a"), 1.5, b"x", float("nan"), 2**70))] = state.pop(name)
    elif kind == 1:
        state[random.choice(TEXTS)] = state.pop(name)
    elif kind == 2:
        del state[name]
    elif kind == 3:
        state |= {f"{name}.{n}": torch.zeros(()) for n in range(random.choice((1, 2000)))}
    elif kind == 4:
        state = {random.choice(("model", "state_dict", "audio_model")): state, "epoch": 3}
    elif kind == 5:
        state = random.choice(
            ([], [state], {}, None, 5, "x", torch.zeros(3), OrderedDict(state), {1})
        )
    elif kind == 6:
        shared = state[name]
        state = dict.fromkeys(state, shared)
    else:
        for _ in range(random.choice((3, 200))):
            state = [state]
    torch.save(state, file)


def old_format(folder: Path, random: Random) -> None:
    """The format before the zip, damaged or with one strange tensor."""
    file = the_only(folder, random)
    state = state_of(file)
    if random.random() < 0.5:
        name = random.choice(sorted(state))
        state[name] = random.choice(TENSORS)(state[name])
    try:
        torch.save(state, file, _use_new_zipfile_serialization=False)
    except (RuntimeError, NotImplementedError, AttributeError):  # not every tensor had that format
        torch.save(state_of(file), file, _use_new_zipfile_serialization=False)
    if random.random() < 0.7:
        file.write_bytes(damaged(file.read_bytes(), random))


def runs_code(folder: Path, random: Random) -> None:
    """A call in the pickle, as a value, a name or the whole."""
    file = the_only(folder, random)
    state: Any = state_of(file)
    call = Runs(*random.choice(CALLS))
    state = random.choice(({**state, "x": call}, {**state, call: state}, call, [call]))
    torch.save(state, file, _use_new_zipfile_serialization=random.random() < 0.7)


def records(folder: Path, random: Random) -> None:
    """Records of the zip packed, damaged, missing, doubled, or longer than they were."""
    file = the_only(folder, random)
    torch.save(state_of(file), file)
    with zipfile.ZipFile(file) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    pickled = next(name for name in content if name.endswith("data.pkl"))
    name = random.choice((pickled, pickled, random.choice(sorted(content))))
    kind, method = random.randrange(5), zipfile.ZIP_STORED
    if kind == 0:
        method = random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif kind == 1:
        del content[name]
    elif kind == 2:
        content[name] += bytes(random.choice((1, 4, 2**20)))
        method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    else:
        content[name] = damaged(content[name], random)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for each, data in content.items():
            opened.writestr(each, data)
            if kind == 2 and random.random() < 0.1:
                opened.writestr(each.upper(), data)
    file.write_bytes(buffer.getvalue())


def record_sizes(folder: Path, random: Random) -> None:
    """Sizes in the zip's directory that are not those of the records."""
    file = the_only(folder, random)
    content = bytearray(file.read_bytes())
    starts = [n for n in range(len(content) - 46) if content.startswith(b"PK\x01\x02", n)]
    for start in random.sample(starts, min(len(starts), random.choice((1, 100)))):
        offset = random.choice((8, 10, 16, 20, 24, 28, 30, 42))
        struct.pack_into("<I", content, start + offset, random.choice(NUMBERS) % 2**32)
    file.write_bytes(bytes(content))


def pickle_alone(folder: Path, random: Random) -> None:
    """Not a checkpoint: text, compressed bytes, opcodes that fill the memory."""
    file = the_only(folder, random)
    opcodes = b"\x80\x02]q\0" + b"(h\0h\0h\0h\0h\0e" * 10_000 + b"."
    nested = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    doubling = b"\x80\x02X\x01\0\0\0a" + b"q\0h\0h\0\x86" * 50 + b"."
    long_number = b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1"
    memo = b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"."
    contents = (
        opcodes,
        nested,
        doubling,
        long_number,
        memo,
        b"hello\n",
        zlib.compress(bytes(2**20)),
    )
    file.write_bytes(random.choice(contents))


def read(folder: Path) -> list[Any]:
    """Load the model and ask it."""
    file = folder / PTH
    return asked(weights.load(file if file.exists() else folder / "hub"))


def convert(folder: Path) -> list[str]:
    source = folder / PTH if (folder / PTH).exists() else folder / "hub"
    return ["convert", str(source), str(folder / "converted")]


CHECKPOINTS = InputClass(
    "checkpoints",
    make,
    (
        *(any_bytes, any_bytes, strange_tensor, strange_tensor, strange_tensor, strange_names),
        *(strange_names, old_format, runs_code, records, records, record_sizes, pickle_alone),
    ),
    read,
    convert,
)
