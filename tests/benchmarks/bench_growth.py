"""How do time and memory grow with clips, with the length of a recording, with processes?

    python tests/benchmarks/bench_growth.py --out tests/benchmarks/results/MACHINE/growth.json

Prints a table, and how each row grows: the slope of a line through the logarithms of the three
largest sizes, in words. Beside the JSON file come the table as CSV and a plot for each question.
Every figure is measured in a process of its own (Linux only); memory is what that process takes at
its peak over what it held before.

Clips are hard links to a few files of 0.1 s in a temporary folder, which take directory entries but
no space, and a table that lists them; every file is as long as the others, so that all of them have
to be compared.

    open folder, open table    the corpus alone
    split                      80 : 10 : 10, for a corpus without splits
    first start, later start   all that a run does before its first step: open the table, choose
                               what the recipe leaves to the data, audit, decode the first batch.
                               A later one must not open an audio file before that batch.
    stream, timeline           a recording in FLAC decoded, and heard in windows by a small model
    run                        an epoch of a small model, by so many processes of one thread each
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from importlib import import_module
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from measuring import write

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import stream_audio
from data.cache import ClipCache
from data.corpora import open_corpus
from data.dataset import ClipDataset, load_batches
from data.files import atomic_file
from data.sampling import epoch_batches
from data.splits import split_clips, stratified_split
from train.device import peak_memory
from train.distributed import process_group
from train.loop import train
from train.preparation.choose import choose
from train.preparation.preflight import preflight
from train.recipes import RECIPES
from train.run.folder import fingerprint

CPU = torch.device("cpu")
SAMPLE_RATE = 16_000
NUM_CLASSES = 50
CLIP_SAMPLES = 1_600
LINKS = 50_000  # to one file; ext4 allows 65,000
FITTED = 3  # sizes, the largest ones, that a slope is of
LEAST = {"seconds": 0.01, "peak MB": 1.0}
WORDS = ((0.15, "flat"), (0.85, "less than linear"), (1.15, "linear"), (1.5, "a little more"))

Row = dict[str, Any]


# Clips


def add_clips(folder: Path, first: int, last: int) -> None:
    """Clips number `first` up to `last` as hard links; each tenth validates."""
    sources = {
        split: [source(folder, split, n) for n in range(max(10, -(-last // LINKS)))]
        for split in ("train", "validation")
    }
    for number in range(first, last):
        split, name = clip_name(number)
        path = folder / "clips" / name
        if number < 20 * NUM_CLASSES:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[split][number // 10 % len(sources[split])], path)


def clip_name(number: int) -> tuple[str, str]:
    split = "validation" if number // NUM_CLASSES % 10 == 0 else "train"
    return split, f"{split}/class{number % NUM_CLASSES:02}/clip{number:07}.wav"


def source(folder: Path, split: str, number: int) -> Path:
    """A file to link to: noise that no other one has."""
    path = folder / f"{split}{number}.wav"
    if not path.exists():
        noise = np.random.default_rng([number, split == "train"]).standard_normal(CLIP_SAMPLES)
        soundfile.write(path, 0.1 * noise, SAMPLE_RATE)
    return path


def write_table(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("path,label,split\n")
        for number in range(count):
            split, name = clip_name(number)
            file.write(f"clips/{name},class{number % NUM_CLASSES:02},{split}\n")


def open_folder(folder: Path, count: int) -> Row:
    with timed() as row:
        assert len(open_corpus("folder", folder / "clips").clips) == count
    return row


def open_table(folder: Path, count: int) -> Row:
    with timed() as row:
        assert len(open_corpus("table", folder / f"{count}.csv").clips) == count
    return row


def split(folder: Path, count: int) -> Row:
    manifest = open_corpus("table", folder / f"{count}.csv", split_column="")
    with timed() as row:
        stratified_split(manifest)
    return row


def start(folder: Path, count: int) -> Row:
    """What `ast-audio train from_scratch` does before the first step."""
    cache, recipe = ClipCache(folder / f"cache{count}"), RECIPES["from_scratch"]
    with timed() as row, counted_files() as opened:
        manifest = open_corpus("table", folder / f"{count}.csv")
        splits = split_clips(manifest, None, recipe.seed)
        recipe = choose(recipe, splits.train, cache)
        fingerprint(manifest)
        splits, _ = preflight(recipe, manifest, splits, cache)
        row["audio files read"] = len(opened)
        dataset = ClipDataset(splits.train, NUM_CLASSES, SAMPLE_RATE, cache, recipe.mixup_rate)
        batches = epoch_batches(len(splits.train), recipe.batch_size, recipe.seed, 0)
        next(load_batches(dataset, batch_sampler=batches))
    return row


def later_start(folder: Path, count: int) -> Row:
    row = start(folder, count)
    assert not row["audio files read"], "audio was read although nothing has changed"
    return row


@contextmanager
def timed() -> Iterator[Row]:
    """A row that the end of the block fills with its seconds and its peak memory."""
    row: Row = {}
    before, begin = peak_memory(CPU), time.perf_counter()
    yield row
    row["seconds"] = time.perf_counter() - begin
    row["peak MB"] = (peak_memory(CPU) - before) / 1e6


@contextmanager
def counted_files() -> Iterator[list[Path]]:
    """The audio files whose header, samples or bytes are read in the block."""
    opened: list[Path] = []

    def noting(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        @wraps(read)
        def noted(path: Path) -> Any:
            opened.append(path)
            return read(path)

        return noted

    with ExitStack() as patches:
        for name in ("audio.checked_source", "duplicates.middle_digest"):
            module, function = name.split(".")
            read = getattr(import_module(f"data.{module}"), function)
            patches.enter_context(patch(f"data.{name}", noting(read)))
        yield opened


def measure_clips(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """The rows of each number of clips, ascending."""
    made = 0
    for count in sizes:
        add_clips(folder, made, count)
        made = count
        write_table(folder / f"{count}.csv", count)
        works = {"open folder": open_folder, "open table": open_table, "split": split}
        works |= {"first start": start, "later start": later_start}
        for what, work in works.items():
            yield {"what": what, "against": "clips", "size": count} | fresh(work, folder, count)
        shutil.rmtree(folder / f"cache{count}")


# The length of a recording


def write_recording(path: Path, minutes: int) -> None:
    """Faint noise, which FLAC packs well, by the minute."""
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(generator.integers(-4, 5, 60 * SAMPLE_RATE, np.int16))


def stream(path: Path) -> Row:
    with timed() as row:
        for _ in stream_audio(path):
            pass
    return row


def timeline(path: Path) -> Row:
    """In windows of 10 s, two of which overlap by half, as `ast-audio predict --timeline`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = AST(ASTConfig(num_classes=3, num_frames=1024, width=16, depth=1, heads=2)).eval()
    classifier = AudioClassifier(network, Frontend(FrontendConfig(num_frames=1024)), tuple("abc"))
    with timed() as row:
        classifier.timeline(path)
    return row


def measure_lengths(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """The rows of each length in minutes."""
    path = folder / "recording.flac"
    for minutes in sizes:
        write_recording(path, minutes)
        for work in (stream, timeline):
            yield {"what": work.__name__, "against": "minutes", "size": minutes} | fresh(work, path)
        path.unlink()


# Processes


def train_in(folder: Path, processes: int) -> Row:
    """An epoch of a small model with so many processes: the time of all, the memory of one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        ranks = [
            pool.submit(train_rank, folder, rank, processes, port) for rank in range(processes)
        ]
        rows = [rank.result() for rank in ranks]
    return {key: max(row[key] for row in rows) for key in rows[0]}


def train_rank(folder: Path, rank: int, processes: int, port: int) -> Row:
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
    named |= {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "localhost"}
    os.environ.update({name: str(value) for name, value in named.items()})
    torch.set_num_threads(1)
    short = {"num_frames": 16, "time_mask": 4, "time_shift_frames": 0}
    recipe = replace(RECIPES["demo"], corpus="folder", epochs=1, warmup_epochs=0.0, **short)
    cache = ClipCache(folder / "cache")
    with timed() as row, process_group():
        train(recipe, open_corpus("folder", folder / "clips"), folder / "run", cache=cache)
    return row


def measure_processes(folder: Path, sizes: Sequence[int], clips: int) -> Iterator[Row]:
    """The rows of each number of processes; what is kept of the clips is there for all."""
    for processes in sizes:
        if not (folder / "run").exists():
            add_clips(folder, 0, clips)
            train_in(folder, 1)
        shutil.rmtree(folder / "run")
        row = {"what": "run", "against": "processes", "size": processes}
        yield row | train_in(folder, processes)


# The report


def fresh(work: Callable[..., Row], *arguments: Any) -> Row:
    """In a process that has nothing else in memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def slope(sizes: Sequence[float], values: Sequence[float], least: float) -> float:
    """Of a line through the logarithms of the largest sizes: 1 for what grows in proportion.

    Args:
        least: what is below it is noise, and counts as this.
    """
    logs = np.log(sizes[-FITTED:]), np.log(np.maximum(values[-FITTED:], least))
    return float(np.polyfit(*logs, 1)[0])


def in_words(slope: float) -> str:
    """ "flat (slope 0.02)"."""
    word = next((word for limit, word in WORDS if slope <= limit), "more than linear")
    return f"{word} (slope {round(slope, 2) + 0.0:.2f})"  # no -0.00


def growth(rows: Sequence[Row]) -> dict[str, str]:
    """How time and memory of each thing grow, where there are several sizes."""
    found = {}
    for what, against in dict.fromkeys((row["what"], row["against"]) for row in rows):
        chosen = [row for row in rows if (row["what"], row["against"]) == (what, against)]
        if len(chosen) > 1:
            sizes = [row["size"] for row in chosen]
            words = [
                in_words(slope(sizes, [row[key] for row in chosen], least))
                for key, least in LEAST.items()
            ]
            found[f"{what} against {against}"] = f"time {words[0]}, memory {words[1]}"
    return found


def plot(rows: Sequence[Row], against: str, path: Path) -> None:
    """Time and memory against the size, both axes logarithmic."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, key in zip(axes, LEAST, strict=True):
        for what in dict.fromkeys(row["what"] for row in rows):
            chosen = [row for row in rows if row["what"] == what]
            values = [max(row[key], LEAST[key]) for row in chosen]
            axis.plot([row["size"] for row in chosen], values, "o-", label=what)
        axis.set(xscale="log", yscale="log", xlabel=against, ylabel=key)
        axis.grid(alpha=0.3)
    axes[0].legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)


def show(row: Row) -> None:
    read = row.get("audio files read")
    note = "" if read is None else f"  {read:,} audio files read before the first batch"
    size = f"{row['size']:,} {row['against']}"
    figures = f"{row['seconds']:9.2f} s {row['peak MB']:9.1f} MB"
    print(f"{row['what']:12} {size:>20} {figures}{note}", flush=True)


def save(out: Path, rows: Sequence[Row]) -> None:
    """The JSON file, the table as CSV, and a plot for each question."""
    write(out, "growth", CPU, rows=rows, figures=growth(rows))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_file(out.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    for against in dict.fromkeys(row["against"] for row in rows):
        chosen = [row for row in rows if row["against"] == against]
        plot(chosen, against, out.with_name(f"{out.stem}-{against}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    sizes = {"type": int, "nargs": "*"}
    add("--clips", **sizes, default=[1_000, 10_000, 100_000, 2_000_000], help="(%(default)s)")
    add("--minutes", **sizes, default=[1, 15, 240, 1440], help="of a recording (%(default)s)")
    add("--processes", **sizes, default=[1, 2], help="(%(default)s)")
    add("--clips-of-a-run", type=int, default=5_000, help="for the processes (%(default)s)")
    add("--out", type=Path, help="JSON file to write; the CSV and the plots go beside it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the links are removed then, too
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("clips", "lengths", "processes")]
        for place in places:
            place.mkdir()
        for row in chain(
            measure_clips(places[0], sorted(arguments.clips)),
            measure_lengths(places[1], sorted(arguments.minutes)),
            measure_processes(places[2], sorted(arguments.processes), arguments.clips_of_a_run),
        ):
            show(row)
            rows.append(row)
    for name, words in growth(rows).items():
        print(f"{name}: {words}")
    if arguments.out:
        save(arguments.out, rows)


if __name__ == "__main__":
    main()
