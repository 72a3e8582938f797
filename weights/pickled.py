"""PyTorch's own files, the zip of today and the older one, read as data: nothing in them runs.

The pickle in such a file becomes plain containers and descriptions of tensors. Only functions of
this module can be called from it, and memory is taken only for bytes that are in the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import torch
from torch import Tensor

MOST_RECORDS = 100_000  # of a zip; one a tensor
MOST_NAME = 200  # characters
MOST_KEY = 2**31  # optimisers number their parameters
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
ZIP_START = b"PK\x03\x04"

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}


NOT_READ = {
    opcode[0]
    for opcode in (
        *(pickle.DICT, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),  # hash their items
        pickle.BYTEARRAY8,  # takes memory for bytes that are not there
    )
}
"""What `torch.save` does not write, and what can take time or memory out of proportion."""


class Refused(ValueError):
    """A file of this kind that is not read; the message goes on from the file's name."""


@dataclass(frozen=True)
class Storage:
    """Elements in a row, as a pickle describes them."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.count * self.dtype.itemsize


class View(NamedTuple):
    """A tensor, as a pickle describes it; none of it is checked."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


def read_pickled(file: Path, most: int) -> tuple[Any, dict[str, Tensor]]:
    """What a file of `torch.save` holds, with a `View` for each tensor, and the storages by key.

    Storages are one-dimensional, on the CPU, and together no larger than the file.

    Args:
        file: of any version of PyTorch.
        most: bytes of its pickle, without the tensors' elements; a longer one is taken for damaged,
            since each of them may take a microsecond and 150 bytes of memory.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged or of another kind, would run code, or holds tensors other than
            dense ones of floating point or integers.
    """
    with file.open("rb") as opened:
        is_zip = opened.read(len(ZIP_START)) == ZIP_START
        opened.seek(0)
        try:
            return _read_zip(opened, most) if is_zip else _read_legacy(opened, most)
        except Refused as error:
            raise ValueError(f"{file} {error}") from error
        except Exception as error:  # arbitrary bytes raise almost anything
            raise ValueError(
                f"{file} is damaged or not a file of weights (PyTorch or safetensors): get it again"
            ) from error


def _read_zip(file: BinaryIO, most: int) -> tuple[Any, dict[str, Tensor]]:
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info for info in archive.infolist()}
        _require_stored(archive.infolist(), file.seek(0, io.SEEK_END))
        (name,) = (name for name in records if name.endswith("/data.pkl"))
        folder = name.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in records and archive.read(order) != b"little":
            raise Refused("has the byte order of another machine: save it on one like this")
        with archive.open(name) as source:
            unpickler = _Unpickler(io.BytesIO(source.read(most)))
        content = unpickler.load()
        storages = {}
        for key, storage in unpickler.storages.items():
            record = records[f"{folder}data/{key}"]
            with archive.open(record) as source:
                storages[key] = _filled(source, storage, record.file_size)
    return content, storages


def _require_stored(records: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what would be larger in memory than in the file."""
    if len(records) > MOST_RECORDS:
        raise Refused(f"has {len(records):,} records, more than any checkpoint")
    for each in records:
        if each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size:
            raise Refused(
                f"has a compressed record ({each.filename!r:.60}), which torch.save never writes: "
                "save it again, or unpack and pack it without compression"
            )
    if sum(each.file_size for each in records) > size:
        raise Refused("names more bytes than it has: it is damaged, get it again")


def _read_legacy(file: BinaryIO, most: int) -> tuple[Any, dict[str, Tensor]]:
    """Five pickles, then of each storage the number and the bytes of its elements."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = io.BytesIO(file.read(most))
    magic, version, system = (_Unpickler(head).load() for _ in range(3))
    if (magic, version) != (LEGACY_MAGIC, LEGACY_VERSION) or not system["little_endian"]:
        raise pickle.UnpicklingError("no file of torch.save")
    unpickler = _Unpickler(head)
    content, keys = unpickler.load(), _Unpickler(head).load()
    file.seek(head.tell())
    storages = {}
    for key in keys:
        if type(key) is not str:
            raise pickle.UnpicklingError("no key of a storage")
        (count,) = struct.unpack("<q", file.read(8))
        storage = unpickler.storages[key]
        if count != storage.count:
            raise pickle.UnpicklingError("a storage of another size than the tensors' in it")
        storages[key] = _filled(file, storage, size - file.tell())
    return content, {key: storages[key] for key in unpickler.storages}


def _filled(source: Any, storage: Storage, available: int) -> Tensor:
    """The storage's elements; memory is taken only if so many bytes can be there."""
    if not 0 <= storage.nbytes <= available:
        raise Refused("holds a tensor larger than its bytes: it is damaged, get it again")
    elements = torch.empty(storage.count, dtype=storage.dtype)
    memory = memoryview(elements.view(torch.uint8).numpy())
    if storage.nbytes and source.readinto(memory) != storage.nbytes:
        raise EOFError
    return elements


class _Unpickler(pickle._Unpickler):
    """A pickle as data. In Python, since the one in C takes memory for any number it is told."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code not in NOT_READ
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the pickle names."""
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) in FUNCTIONS:
            return FUNCTIONS[module, name]
        if name.startswith("_rebuild") or name.endswith("Storage"):
            raise Refused(
                f"holds {module}.{name}, but dense tensors of floating point or integers are "
                "expected (none that are sparse, quantised, complex or without content): get "
                "the weights in another file"
            )
        raise Refused(
            "is refused: opening it would run code of its own, which weights do not need; "
            "get the weights as safetensors or as a plain state dict"
        )

    def persistent_load(self, identifier: Any) -> Storage:
        """A storage; `torch.save` refers to them by what they are."""
        kind, dtype, key, _, count, *view = identifier
        whole = kind == "storage" and (not view or view == [None])
        if not whole or [*map(type, (dtype, key, count))] != [torch.dtype, str, int] or count < 0:
            raise pickle.UnpicklingError("no storage")
        storage = self.storages.setdefault(key, Storage(key, dtype, count))
        if storage != Storage(key, dtype, count):
            raise pickle.UnpicklingError("two storages of one key")
        return storage

    def load_build(self) -> None:
        """Leave out attributes: those of a state dict are versions of PyTorch's modules."""
        self.stack.pop()

    def load_empty_dictionary(self) -> None:
        """Instead of a dict."""
        self.append(_Named())

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary


class _Named(dict):
    """A dict whose keys are hashed at once: tuples in tuples, in a few bytes, can take for ever."""

    __slots__ = ()

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        is_name = type(key) is str and len(key) <= MOST_NAME and key.isprintable()
        if not is_name and not (type(key) is int and abs(key) < MOST_KEY):
            raise Refused("has keys that are no names: save a state dict, names with tensors")
        super().__setitem__(key, value)


def _view(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> View:
    if metadata:
        raise Refused("holds a tensor that is to be negated or conjugated: save it as it is")
    return View(storage, offset, shape, stride)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> Any:
    return data


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Named,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
"""What a pickle may name, and what is called in its place."""
