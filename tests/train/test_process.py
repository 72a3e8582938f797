"""What the program sets of its process, before PyTorch is imported."""

import os
import platform
import subprocess
import sys

import pytest

from train.process import CHOSEN_BY_USER


@pytest.mark.parametrize(("given", "set_to"), [(None, "10000"), ("7", "7")])
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(monkeypatch, given, set_to):
    """Said before PyTorch, and OpenMP with it, is loaded."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    code = "import os, sys, train.cli; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    words = [sys.executable, "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [set_to, "False"]


def page_faults_of_large_tensors(setting: dict[str, str]) -> int:
    """Of 20 tensors of 64 MB, one after the other, once the program is imported."""
    code = """
import resource, train.cli, torch
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(20): torch.ones(2**24).add_(1)
print(faults() - before)
"""
    words = [sys.executable, "-c", code]
    environment = {k: v for k, v in os.environ.items() if k not in CHOSEN_BY_USER} | setting
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    by_user = page_faults_of_large_tensors({"MALLOC_MMAP_THRESHOLD_": "131072"})
    assert by_user > 20 * 1000  # each time 16,384 pages of 4 KiB, or fewer larger ones
    assert page_faults_of_large_tensors({}) < by_user / 2
