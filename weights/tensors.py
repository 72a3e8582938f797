"""Files of tensors from others: opened without running anything that is in them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

SAFETENSORS_HEADER = 9  # bytes: the length of the JSON that follows, and its opening brace


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by name.

    The first bytes tell the two apart. A checkpoint is opened with `weights_only=True`, which
    reads tensors and plain containers and executes nothing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or neither of the two, would run code, or holds something
            else than tensors.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist or is a folder; give a file of weights")
    with file.open("rb") as opened:
        if opened.read(SAFETENSORS_HEADER)[8:] == b"{" or file.suffix == ".safetensors":
            return _read_safetensors(file)
    content = _read_checkpoint(file)
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{file} holds {type(content).__name__}, expected a state dict: names with tensors"
        )
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{file} holds other things than tensors under {', '.join(map(str, others[:5]))}; "
            "save its state dict alone, torch.save(model.state_dict(), FILE)"
        )
    return content


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error


def _read_checkpoint(file: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says GLOBAL if the pickle names a function or class that it does not allow
        if "GLOBAL" in str(error):
            raise ValueError(
                f"{file} is refused: opening it would run code of its own, which weights do not "
                "need; get the weights as safetensors or as a plain state dict"
            ) from error
        raise _damaged(file) from error
    except Exception as error:  # arbitrary bytes raise almost anything in the unpickler
        raise _damaged(file) from error


def _damaged(file: Path) -> ValueError:
    return ValueError(
        f"{file} is damaged or not a file of weights (PyTorch or safetensors): get it again"
    )
