"""Where a run computes, and in which precision."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from train.distributed import own_gpu, world_size

logger = logging.getLogger(__name__)


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
    """`auto` is the 16-bit type that the device multiplies faster than fp32, if any, else fp32.

    Raises:
        ValueError: the device does not compute in this precision.
    """
    if name == "auto":
        if bf16_is_faster(device):
            return "bf16"
        return "fp16" if device.type == "cuda" else "fp32"
    if name == "int8" and device.type != "cpu":
        raise ValueError("precision int8 is for inference on a CPU; on a GPU use bf16 or fp16")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    return name


def bf16_is_faster(device: torch.device) -> bool:
    """Than fp32: on most GPUs, and on CPUs with AMX.

    Measured in GFLOP/s of matrix products: a CPU with AMX 1,450, in fp32 370; with AVX-512-BF16
    alone 151, in fp32 275; with no more than AVX2 between 0.3 and 25, in fp32 180.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def warn_of_slow_bf16(device: torch.device, precision: str) -> None:
    """Log a warning where this CPU multiplies matrices slower in bf16 than in fp32; takes 0.1 s."""
    if precision != "bf16" or device.type != "cpu" or bf16_is_faster(device):
        return
    slower = _multiply(torch.bfloat16) / _multiply(torch.float32)
    if slower > 1.2:  # the measurement's own spread
        logger.warning(
            f"this CPU takes {slower:.1f} times as long to multiply matrices in bf16 as in fp32: "
            "--precision fp32 is faster"
        )


def _multiply(dtype: torch.dtype, width: int = 256) -> float:
    """Seconds of a product of square matrices, the best of three after one that does not count."""
    left, right = (torch.ones(width, width, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for the model: parameters stay fp32, matrix products run in `precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision in ("fp16", "bf16"))


def round_weights(model: nn.Module, precision: str) -> None:
    """Keep the weights of matrix products in the 16 bits that `autocast` rounds them to.

    For inference in bf16 or fp16: the same numbers, without rounding all weights again for every
    batch, and in half the memory.
    """
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    for module in model.modules() if dtype else ():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(dtype)


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


def clock(device: torch.device) -> float:
    """Seconds, after what the device was given to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU the most that was allocated there, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, whose ru_maxrss begins at the peak of the process that started us
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024  # "VmHWM: 1234 kB"
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024  # bytes there, KiB elsewhere


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's and how many threads compute."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # platform.processor() would start a process to ask for it, where there is /proc/cpuinfo too
    name, information = platform.machine(), Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def run_in_threads(count: int) -> None:
    """Have PyTorch's operations that the calling thread begins run in so many threads.

    The number is also what threads begin with that have not asked for one.
    """
    torch.get_num_threads()  # PyTorch sets the number once more at the first question or operation
    torch.set_num_threads(count)


@contextmanager
def in_one_thread() -> Iterator[int]:
    """Have what the calling thread begins run in it alone; gives how many threads it had."""
    threads = torch.get_num_threads()
    run_in_threads(1)
    try:
        yield threads
    finally:
        run_in_threads(threads)
