"""On what a run was trained: machine, versions and dates, in a file of its folder."""

from __future__ import annotations

import logging
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from data.files import json_field, read_json, write_json
from train.device import device_name

ENVIRONMENT = "environment.json"
PACKAGES = ("ast-audio", "torch", "timm", "numpy", "scipy", "soundfile", "soxr")
MOST_STARTS = 1000  # that are kept, of a run that is started over and over

Start = dict[str, str]

logger = logging.getLogger(__name__)


def describe_environment(device: torch.device, precision: str, processes: int = 1) -> Start:
    """This machine and what runs on it, now: names and values to be read by people."""
    system = platform.uname()  # platform.platform() would start a process to ask for the processor
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": device_name(device),
        "precision": precision,
        "processes": str(processes),
        "system": f"{system.system} {system.release} {system.machine}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "torch": torch.__version__,  # with the build, as "+cu130"
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # ours, run from a folder that is not installed
        return "not installed"


def note_start(folder: Path, start: Start) -> None:
    """Add a start of a run, its first or where it went on, to the file in its folder.

    A damaged file, which no run needs, is written anew, and a warning says so.
    """
    try:
        before = read_starts(folder)
    except ValueError as error:
        logger.warning(f"{error}; it is written anew")
        before = []
    starts = [*before, start][-MOST_STARTS:]
    write_json(folder / ENVIRONMENT, {"version": 1, "starts": starts})


def read_starts(folder: Path) -> list[Start]:
    """The starts of a run, the first one first; none of a run of an earlier version.

    Raises:
        ValueError: the file holds something else.
    """
    file = folder / ENVIRONMENT
    if not file.is_file():
        return []
    starts = json_field(read_json(file), "starts", list, file)
    for number, start in enumerate(starts, start=1):
        source = f"{file}, start {number}"
        if not isinstance(start, dict):
            raise ValueError(f"{source} is {type(start).__name__}, expected an object")
        for name in start:
            json_field(start, name, str, source)
    return starts
