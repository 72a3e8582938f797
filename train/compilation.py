"""`torch.compile` for a run: refused where it cannot work, and not done anew for every batch."""

from __future__ import annotations

import os
import shutil
import sys

from torch import nn


def compile_in_place(*models: nn.Module) -> None:
    """Compile models at their next call; `state_dict`, saving and copies stay as they are.

    Every size of a batch but 1 runs in one graph, so that a smaller last batch costs nothing. There
    is one graph for training, one for evaluation, and where a batch of 1 occurs, one more. Random
    numbers are drawn as without compiling, so results differ by rounding alone.
    """
    for model in models:
        model.compile(dynamic=True, options={"fallback_random": True})


def require_compiler(precision: str) -> None:
    """Raises ValueError for int8, and where torch.compile has no C++ compiler to call."""
    if precision == "int8":
        raise ValueError(
            "8-bit integers run through kernels that torch.compile cannot look into: leave out "
            "--compile, or --precision int8"
        )
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = os.environ.get("CXX", default)  # as PyTorch looks for it
    if shutil.which(name) is None:
        raise ValueError(
            f"--compile needs a C++ compiler, and there is no {name}: install one, name another in "
            "the environment variable CXX, or leave --compile out"
        )
