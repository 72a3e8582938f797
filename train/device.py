"""Where a run computes, and in which precision."""

from __future__ import annotations

import torch

from train.distributed import own_gpu, world_size


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one; of several processes, each has its own GPU.

    Raises:
        ValueError: the device does not exist here, or all of several processes are to share it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but PyTorch sees no GPU; use cpu")
    if world_size() == 1 or device.type == "cpu":
        return device
    if device.index is not None:
        raise ValueError(
            f"device {name!r} is one GPU, but {world_size()} processes run, each with its own; "
            "use cuda"
        )
    return own_gpu()


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it faster than fp32, else fp32.

    On a CPU that is one with AMX: AVX-512-BF16 alone was measured slower than fp32.

    Raises:
        ValueError: the device does not compute in this precision.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if torch.cpu.get_capabilities().get("amx_bf16") else "fp32"
    if name == "int8" and device.type != "cpu":
        raise ValueError("precision int8 is for inference on a CPU; on a GPU use bf16 or fp16")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    return name


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for the model: parameters stay fp32, matrix products run in `precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision in ("fp16", "bf16"))
