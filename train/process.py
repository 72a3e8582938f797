"""What `ast-audio` sets of its own process before PyTorch is imported, for speed."""

from __future__ import annotations

import ctypes
import os

# OpenMP's threads spin while they wait for each other, which costs training more than half of its
# speed where another process needs a core. After fewer turns they sleep, at little or no cost on
# idle cores (tests/benchmarks/bench_process.py). It is read once, when PyTorch is imported.
SPIN_COUNT = ("GOMP_SPINCOUNT", "10000")

# The C library returns the memory of a large tensor to the system when it is freed, and the next
# one is made of new pages, which the system clears one by one: up to two fifths of a training step
# (tests/benchmarks/bench_process.py). Below these thresholds it keeps them for the next tensor.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def set_up() -> list[str]:
    """Set what the user's environment does not, and say in words what was set."""
    found = []
    name, value = SPIN_COUNT
    if name not in os.environ:
        os.environ[name] = value
        found.append(f"{name}={value}, so that waiting threads sleep")
    if not any(name in os.environ for name in CHOSEN_BY_USER) and keep_freed_memory():
        found.append("freed memory is kept for the next tensor (mallopt)")
    return found


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory up to 2 GB; whether it could (glibc can)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return (
        mallopt is not None
        and mallopt(TRIM_THRESHOLD, LARGEST) == 1
        and mallopt(MMAP_THRESHOLD, LARGEST) == 1
    )
