"""What does a list of two million clips cost, and each worker that decodes from it?

    python tests/benchmarks/bench_manifest.py --out manifest.json

Made-up clips like those of AudioSet, as `data.Clips` and as a plain tuple, each in a process of its
own (Linux only). No audio file exists and nothing is decoded. To send the tuple of 2,000,000 clips
to a spawned worker takes several GB of memory; all of it, ten minutes or more on two cores.

    built        the clips made and kept; by how much the process grew
    read         a segments table of as many lines, its files known; peak: above what the process
                 and the index of the files took before
    fork, spawn  a worker of a DataLoader: its private memory at the start, and by how much that
                 grew when it read random clips and their targets. A forked worker starts with the
                 pages that it changed of its parent's, a spawned one with all that it holds.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import write
from torch.utils.data import DataLoader, Dataset

from data import Clip, Clips
from data.corpora.audioset import ClipIndex, read_segments, read_split
from data.dataset import ClipDataset

FORMS: dict[str, Callable[[Iterable[Clip]], Sequence[Clip]]] = {"columns": Clips.of, "tuple": tuple}
NUM_FOLDERS, NUM_CLASSES = 41, 527
MIDS = {f"/m/{index:06}": index for index in range(NUM_CLASSES)}
SEED = 0


def folders() -> list[Path]:
    return [
        Path(f"/data/audioset/unbalanced_train_segments_part{n:02}") for n in range(NUM_FOLDERS)
    ]


def labels() -> list[tuple[int, ...]]:
    """Combinations of one to four classes; clips share them, as those of AudioSet do."""
    generator = np.random.default_rng(SEED)
    return [
        tuple(sorted(generator.choice(NUM_CLASSES, size, replace=False).tolist()))
        for size in generator.integers(1, 5, 50_000)
    ]


def make_clips(count: int) -> Iterator[Clip]:
    paths, combinations = folders(), labels()
    for n in range(count):
        video = f"{n:011}"
        targets = combinations[n % len(combinations)]
        yield Clip(paths[n % NUM_FOLDERS] / f"Y{video}.flac", targets, split="train", group=video)


def write_table(path: Path, count: int) -> None:
    mids, combinations = list(MIDS), labels()
    with path.open("w") as file:
        for n in range(count):
            names = ",".join(mids[target] for target in combinations[n % len(combinations)])
            file.write(f'{n:011}, 30.000, 40.000, "{names}"\n')


def file_index(count: int) -> ClipIndex:
    shared = [(f"{folder}/", ".flac") for folder in folders()]
    return {f"Y{n:011}": shared[n % NUM_FOLDERS] for n in range(count)}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def private() -> int:
    """Bytes that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


class ClipReads(Dataset[int]):
    """Item 0 is the worker's private memory; item 1, by how much it grows by reading clips."""

    def __init__(self, clips: Sequence[Clip], reads: int) -> None:
        self.dataset = ClipDataset(clips, NUM_CLASSES)
        self.reads = reads

    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> int:
        if item == 0:
            self.read(0)  # the first tensor takes memory of its own
            return private()
        before = private()
        for index in np.random.default_rng(SEED).integers(len(self.dataset), size=self.reads):
            self.read(int(index))
        return private() - before

    def read(self, index: int) -> None:
        """What a dataset reads of a clip."""
        str(self.dataset.clips[index].path)
        self.dataset._target(index)


def measure_object(form: str, count: int, reads: int) -> list[dict[str, Any]]:
    gc.collect()
    before, start = resident(), time.perf_counter()
    clips = FORMS[form](make_clips(count))
    seconds = time.perf_counter() - start
    gc.collect()
    rows = [{"what": "built", "seconds": seconds, "bytes": resident() - before}]
    if isinstance(clips, Clips):
        rows[0]["nbytes"] = clips.nbytes
    for method in ("fork", "spawn"):
        start = time.perf_counter()
        loader = DataLoader(
            ClipReads(clips, reads), batch_size=None, num_workers=1, multiprocessing_context=method
        )
        at_start, growth = (int(item) for item in loader)
        seconds = time.perf_counter() - start
        rows.append({"what": method, "seconds": seconds, "bytes": at_start, "growth": growth})
    return rows


def measure_reading(form: str, count: int, table: Path) -> list[dict[str, Any]]:
    files = file_index(count)
    gc.collect()
    before, start = resident(), time.perf_counter()
    rows = read_split(table, read_segments(table, files), "train", MIDS)
    if form == "columns":
        clips = Clips.of_rows(rows)
    else:
        clips = FORMS[form](Clip(Path(path), *fields) for path, *fields in rows)
    seconds = time.perf_counter() - start
    assert len(clips) == count
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return [{"what": "read", "seconds": seconds, "peak": peak, "bytes": resident() - before}]


def fresh(function: Callable[..., list[dict[str, Any]]], *arguments: Any) -> list[dict[str, Any]]:
    """In a process that has nothing else in memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2_000_000, help="(%(default)s)")
    parser.add_argument("--reads", type=int, default=10_000, help="of a worker (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "segments.csv")
        write_table(table, arguments.clips)
        for form in FORMS:
            found = fresh(measure_object, form, arguments.clips, arguments.reads)
            found += fresh(measure_reading, form, arguments.clips, table)
            rows += [{"form": form, "clips": arguments.clips, **row} for row in found]
    print(f"{arguments.clips:,} clips, {arguments.reads:,} reads; MB are 10^6 bytes")
    print(f"{'':8} {'':6} {'seconds':>9} {'MB':>9} {'peak MB':>9} {'growth MB':>10}")
    for row in rows:
        sizes = [row["bytes"], row.get("peak"), row.get("growth")]
        texts = ["" if size is None else f"{size / 1e6:.1f}" for size in sizes]
        print(
            f"{row['form']:8} {row['what']:6} {row['seconds']:9.1f} "
            f"{texts[0]:>9} {texts[1]:>9} {texts[2]:>10}"
        )
    if arguments.out:
        write(arguments.out, "manifest", torch.device("cpu"), rows=rows)


if __name__ == "__main__":
    main()
