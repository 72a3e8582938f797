"""Files of tensors from others: measured before anything is unpacked, and nothing in them runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from weights.pickled import MOST_NAME, Storage, View, read_pickled

SAFETENSORS_HEADER = 9  # bytes: the length of the JSON that follows, and its opening brace
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# Bytes of a header or pickle: a large AST's with optimiser and averaged weights has 136 kB. A state
# lists the files that could not be read, too.
MOST_NAMES, MOST_STATE = 2**21, 2**23
MOST_AXES = 8
MOST = 2**40  # elements along an axis
MOST_DEPTH = 16  # containers in one another, in a training state
LARGEST = torch.finfo(torch.float32).max


def read_tensors(file: Path, wrapped_in: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by name.

    The first bytes tell the two apart. Tensors are dense, of floating point or integers, on the
    CPU, finite in float32, and together no larger than the file.

    Args:
        file: of weights.
        wrapped_in: names under which a checkpoint may hold the state dict beside other things.

    Raises:
        FileNotFoundError: no such file.
        OSError: it cannot be read.
        ValueError: the file is damaged or neither of the two, would run code, or holds something
            else than such tensors.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist or is a folder; give a file of weights")
    with file.open("rb") as opened:
        start = opened.read(SAFETENSORS_HEADER)
    if start[8:] == b"{" or file.suffix == ".safetensors":
        if int.from_bytes(start[:8], "little") > MOST_NAMES:
            raise ValueError(
                f"{file} is damaged or not a safetensors file: its names would take more than "
                f"{MOST_NAMES:,} bytes"
            )
        tensors = _read_safetensors(file)
    else:
        tensors = _read_checkpoint(file, wrapped_in)
    _require_within_file(file, tensors.values())
    for name, tensor in tensors.items():
        _require_finite(f"{file}: {name}", tensor)
    return tensors


def read_state(file: Path) -> Any:
    """What `torch.save` wrote of tensors, texts, numbers and None in lists, tuples and dicts.

    Tensors as `read_tensors` gives them; numbers are finite.

    Raises:
        FileNotFoundError, OSError, ValueError: as `read_tensors`; or it holds something else, or
            containers deeper than 16.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist or is a folder; give a file of torch.save")
    content, storages = read_pickled(file, MOST_STATE)
    return _State(file, storages).restored(content)


class _State:
    """Restores tensors in nested containers, each object of the file once."""

    def __init__(self, file: Path, storages: dict[str, Tensor]) -> None:
        self.file = file
        self.storages = storages
        self.done: dict[int, Any] = {}  # by the identity of what the file's content holds

    def restored(self, value: Any, name: str = "", depth: int = 0) -> Any:
        """A value of the content, at a place of this name."""
        if id(value) not in self.done:
            self.done[id(value)] = self._restored(value, name, depth)
        return self.done[id(value)]

    def _restored(self, value: Any, name: str, depth: int) -> Any:
        where = f"{self.file}: {name or 'the content'}"
        if isinstance(value, View):
            tensor = _built(where, value, self.storages)
            _require_finite(where, tensor)
            return tensor
        if depth > MOST_DEPTH:
            raise ValueError(f"{where} is nested deeper than any training state: it is damaged")
        if isinstance(value, dict):
            return {
                key: self.restored(one, f"{name}.{key}", depth + 1) for key, one in value.items()
            }
        if type(value) in (list, tuple):
            parts = [self.restored(one, f"{name}.{i}", depth + 1) for i, one in enumerate(value)]
            return type(value)(parts)
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and math.isfinite(value):
            return value
        shown = f"the number {value}" if type(value) is float else f"a {type(value).__name__}"
        raise ValueError(f"{where} is {shown}, expected a tensor, a text or a finite number")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        shown = repr(str(error))  # it quotes the header, which may be of several lines
        raise ValueError(f"{file} is damaged or not a safetensors file: {shown:.200}") from error
    for name, tensor in tensors.items():
        if len(name) > MOST_NAME or not name.isprintable():
            raise ValueError(f"{file} has tensors whose names are none ({name!r:.60})")
        if tensor.dtype not in (*FLOATS, *INTEGERS):
            raise ValueError(
                f"{file}: {name} is of {tensor.dtype}, expected 16 to 64 bits of floating point"
            )
    return tensors


def _read_checkpoint(file: Path, wrapped_in: Sequence[str]) -> dict[str, Tensor]:
    content, storages = read_pickled(file, MOST_NAMES)
    if isinstance(content, dict):
        inner = (content.get(name) for name in wrapped_in)
        content = next((each for each in inner if isinstance(each, dict)), content)
    if not isinstance(content, dict) or not content:
        found = {View: "a tensor", dict: "nothing"}
        kind = next((found[each] for each in found if isinstance(content, each)), "other things")
        raise ValueError(f"{file} holds {kind}, expected a state dict: names with tensors")
    if others := [name for name in content if not isinstance(name, str)]:
        raise ValueError(f"{file} names a tensor {others[0]!r}, expected a state dict: texts")
    if others := [name for name, value in content.items() if not isinstance(value, View)]:
        raise ValueError(
            f"{file} holds other things than tensors under {', '.join(others[:5])}; "
            "save its state dict alone, torch.save(model.state_dict(), FILE)"
        )
    return {name: _built(f"{file}: {name}", view, storages) for name, view in content.items()}


def _built(where: str, view: View, storages: dict[str, Tensor]) -> Tensor:
    """The tensor that a file describes; `where` is its place in a message."""
    storage, offset, shape, stride = view
    sound = type(shape) is type(stride) is tuple and len(shape) == len(stride) <= MOST_AXES
    sound = sound and all(type(n) is int and 0 <= n < MOST for n in (offset, *shape, *stride))
    if not sound or not isinstance(storage, Storage):
        raise ValueError(f"{where} has no size and strides of a tensor: it is damaged")
    elements = storages[storage.key]
    axes = sorted((step, size) for step, size in zip(stride, shape, strict=True) if size > 1)
    reaches = [0]  # of the axes so far, from the first element to the last
    for step, size in axes:
        reaches.append(reaches[-1] + step * (size - 1))
    if any(step <= reach for (step, _), reach in zip(axes, reaches, strict=False)):
        raise ValueError(
            f"{where} counts elements more than once (strides {stride} for {shape}): save a "
            "contiguous copy of it"
        )
    if 0 not in shape and offset + reaches[-1] >= len(elements):
        raise ValueError(f"{where} of {shape} is larger than its {len(elements)} elements")
    return elements.as_strided(shape, stride, offset)


def _require_within_file(file: Path, tensors: Iterable[Tensor]) -> None:
    """Names may share elements, which each of them would be a copy of later."""
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors) > file.stat().st_size:
        raise ValueError(
            f"{file} has tensors that are larger together than the file: names share elements; "
            "save each of them as a copy"
        )


def _require_finite(where: str, tensor: Tensor) -> None:
    """Finite in float32, too, which is what a model computes in."""
    if tensor.dtype not in FLOATS or not tensor.numel():
        return
    low, high = tensor.aminmax()
    if not (low >= -LARGEST and high <= LARGEST):  # NaN is neither
        raise ValueError(
            f"{where} holds NaN, infinity or more than {LARGEST:.1g}: the weights are broken; get "
            "them from before the training diverged"
        )
