"""Model folders: two JSON files and model.safetensors, of an AST or of a model of timm."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load, save

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig
from tests.campaign.case import InputClass
from tests.campaign.models import asked, micro
from tests.campaign.mutations import NUMBERS, TEXTS, bytes_of, files_in, json_of, with_other_field

JSONS = ("config.json", "preprocessor_config.json")
WEIGHTS = "model.safetensors"
TIMM = "test_efficientnet"
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)
CODES = ("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X")
VALUES = (float("nan"), float("inf"), 3e38, -3e38, 1e30, 1e-45, 0.0)


def make(folder: Path) -> None:
    """An AST and a baseline; a case has one of them."""
    weights.save(folder / "ast", micro())
    model = Baseline(BaselineConfig(TIMM, 3, 64, 128)).eval()
    frontend = Frontend(FrontendConfig(num_frames=64))
    weights.save(folder / "timm", AudioClassifier(model, frontend, ("a", "b", "c")))


def the_only(folder: Path, random: Random) -> Path:
    """The model of the case, more often an AST; the other is removed where it is still there."""
    chosen, other = random.choice(
        (("ast", "timm"), ("ast", "timm"), ("ast", "timm"), ("timm", "ast"))
    )
    if not (folder / chosen).exists():
        chosen, other = other, chosen
    shutil.rmtree(folder / other, ignore_errors=True)
    return folder / chosen


def any_bytes(folder: Path, random: Random) -> None:
    bytes_of()(the_only(folder, random), random)


def json_bytes(folder: Path, random: Random) -> None:
    bytes_of(".json")(the_only(folder, random), random)


def json_field(folder: Path, random: Random) -> None:
    json_of(*JSONS)(the_only(folder, random), random)


def two_json_fields(folder: Path, random: Random) -> None:
    """Fields that must fit each other, as a length and a number of mel bins."""
    mutate = json_of(*JSONS)
    for _ in range(2):
        mutate(folder, random) if random.random() < 0.3 else json_field(folder, random)


def absent(folder: Path, random: Random) -> None:
    """A file that is missing, empty, or a folder."""
    file = random.choice(files_in(the_only(folder, random)))
    file.unlink()
    if random.random() < 0.6:
        file.mkdir() if random.random() < 0.5 else file.touch()


def header_of(file: Path) -> tuple[bytes, bytes]:
    """The JSON of a safetensors file, and the bytes of the tensors."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def tensor_header(folder: Path, random: Random) -> None:
    """Names, types, shapes and offsets of safetensors, whose length is right or not."""
    file = the_only(folder, random) / WEIGHTS
    header, data = header_of(file)
    text = header.decode(errors="replace")
    kind = random.randrange(3)
    if kind == 0:
        text = with_other_field(text, random)
    elif kind == 1:
        text = text.replace("F32", random.choice(CODES), random.choice((1, -1)))
    else:
        content = json.loads(text)
        name = random.choice(sorted(content))
        content[name]["shape"] = [
            random.choice(NUMBERS) for _ in range(random.choice((0, 1, 4, 100)))
        ]
        text = json.dumps(content)
    new = text.encode()
    length = random.choice((len(new), len(new), len(new), random.choice(NUMBERS) % 2**64))
    file.write_bytes(struct.pack("<Q", length) + new + data)


def tensor_values(folder: Path, random: Random) -> None:
    """Values that are NaN, infinite, or so large that sums overflow; or other names and shapes."""
    file = the_only(folder, random) / WEIGHTS
    tensors = load(file.read_bytes())
    name = random.choice(sorted(tensors))
    kind = random.randrange(5)
    if kind <= 1:
        flat = tensors[name].float().flatten()
        flat[: random.choice((1, len(flat)))] = random.choice(VALUES)
        tensors[name] = flat.view(tensors[name].shape)
    elif kind == 2:
        dtype = random.choice(
            (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)
        )
        tensors[name] = tensors[name].to(dtype)
    elif kind == 3:
        tensors[random.choice(TEXTS).encode(errors="replace").decode()] = tensors.pop(name)
    else:
        tensors[name] = random.choice(
            (tensors[name][None], tensors[name].flatten()[:1], torch.zeros(0))
        )
    file.write_bytes(save({key: tensor.contiguous() for key, tensor in tensors.items()}))


def all_values(folder: Path, random: Random) -> None:
    """Every tensor multiplied, until the model overflows."""
    file = the_only(folder, random) / WEIGHTS
    factor = random.choice((0.0, 1e10, 1e20, 1e38, -1e5))
    tensors = {name: tensor * factor for name, tensor in load(file.read_bytes()).items()}
    file.write_bytes(save(tensors))


def read(folder: Path) -> list[Any]:
    """Load the model and ask it; a baseline gives scores alone."""
    source = next(path for path in sorted(folder.iterdir()) if path.is_dir())
    classifier = weights.load(source)
    if isinstance(classifier.model, Baseline):
        return [classifier.classify(torch.zeros(12_000), top_k=2)]
    return asked(classifier)


def convert(folder: Path) -> list[str]:
    source = next(path for path in sorted(folder.iterdir()) if path.is_dir())
    return ["convert", str(source), str(folder / "converted")]


MODEL_FOLDERS = InputClass(
    "models",
    make,
    (
        *(any_bytes, json_bytes, json_field, json_field, json_field, json_field, two_json_fields),
        *(absent, tensor_header, tensor_values, all_values),
    ),
    read,
    convert,
)
