"""What a measurement needs of the machine: time, memory, and a name."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch


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
    name, information = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
