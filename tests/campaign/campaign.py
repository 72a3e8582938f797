"""Many mutated inputs of each class, in several processes, counted."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import torch

from tests.campaign.archives import ARCHIVES
from tests.campaign.audio import AUDIO
from tests.campaign.case import InputClass, Verdict, run_case
from tests.campaign.checkpoints import CHECKPOINTS
from tests.campaign.layouts import LAYOUTS
from tests.campaign.model_folders import MODEL_FOLDERS
from tests.campaign.models import micro
from tests.campaign.run_folders import RUN_FOLDERS
from tests.campaign.tables import TABLES

CLASSES = {
    each.name: each
    for each in (AUDIO, TABLES, LAYOUTS, ARCHIVES, MODEL_FOLDERS, CHECKPOINTS, RUN_FOLDERS)
}
SLOW_TO_IMPORT = ("timm", "train.cli.convert", "train.cli.evaluate")  # before the cases are forked
KEPT = Path("build", "campaign")  # inputs that failed, each with its reason


def campaign(
    names: list[str], count: int, seed: int, workers: int, say: Callable[[Verdict], None]
) -> dict[str, Counter[str]]:
    """Outcomes of `count` inputs of each class, of the seeds from `seed` on.

    Args:
        names: keys of `CLASSES`.
        say: is called with every verdict.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Counter[str]] = {}
    with (
        valid_inputs([CLASSES[name] for name in names]) as base,
        multiprocessing.get_context("fork").Pool(workers) as pool,
    ):
        for name in names:
            judge = partial(run_case, CLASSES[name], base=base, kept=KEPT)
            outcomes[name] = Counter()
            for verdict in pool.imap(judge, range(seed, seed + count), chunksize=4):
                outcomes[name][verdict.outcome] += 1
                say(verdict)
    return outcomes


@contextmanager
def valid_inputs(classes: list[InputClass]) -> Iterator[Path]:
    """A folder that holds the valid inputs of each class, which are read once."""
    torch.set_num_threads(1)
    micro(), micro(64, 128)
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        os.environ["XDG_CACHE_HOME"] = os.environ["MPLCONFIGDIR"] = folder
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for module in SLOW_TO_IMPORT:
            import_module(module)
        base = Path(folder).resolve()
        for inputs in classes:
            (base / inputs.name).mkdir()
            _in_own_process(partial(inputs.make, base / inputs.name))
        yield base


def _in_own_process(function: Callable[[], None]) -> None:
    """Threads that training starts would not live in the cases, which are forked from this one."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the valid inputs could not be made")
