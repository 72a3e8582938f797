"""Folders of data sets in the layouts of the corpora, without decoding."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

from data.corpora import open_corpus
from tests.campaign.case import InputClass
from tests.campaign.mutations import TEXTS, damaged, files_in, with_other_field

VIDEOS = ("aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc", "-dddddddddd")
ESC50_HEADER = "filename,fold,target,category,esc10,src_file,take"
NAMES = (
    "\udcff",
    "a\nb",
    "x" * 240,
    "\x1b[2J",
    "train",
    ".hidden",
    "CON",
    "é",
    " ",
    "-",
    "~",
    "a;b",
)
DEPTH = 60  # folders in one another


def make(folder: Path) -> None:
    """A folder of each layout, by the corpus's name; a case has one of them."""
    esc50, commands, audioset = (
        folder / n for n in ("esc50", "speech_commands", "audioset_balanced")
    )
    classes = folder / "folder"
    for clip in range(5):
        write_sound(esc50 / "audio" / f"{clip}.wav")
        write_sound(classes / ("train", "validation")[clip // 4] / "ab"[clip % 2] / f"{clip}.flac")
        write_sound(commands / "yes" / f"{clip}_nohash_0.wav")
        write_sound(commands / "no" / f"{clip}_nohash_0.wav")
    write_sound(classes / "validation" / "b" / "5.flac")
    rows = [f"{n}.wav,{n + 1},{n % 2},{'ab'[n % 2]},True,1,A" for n in range(5)]
    write(esc50 / "meta" / "esc50.csv", "\n".join([ESC50_HEADER, *rows]) + "\n")
    write(commands / "validation_list.txt", "yes/0_nohash_0.wav\nno/0_nohash_0.wav\n")
    write(commands / "testing_list.txt", "yes/1_nohash_0.wav\nno/1_nohash_0.wav\n")
    for video in VIDEOS:
        write_sound(audioset / "clips" / f"Y{video}.wav")
    labels = 'index,mid,display_name\n0,/m/a,"Sp, eech"\n1,/m/b,Dog\n'
    write(audioset / "class_labels_indices.csv", labels)
    segments = [f'{video}, 30.000, 40.000, "/m/a,/m/b"' for video in VIDEOS[:2]]
    write(audioset / "balanced_train_segments.csv", "# A\n# B\n# C\n" + "\n".join(segments) + "\n")
    data = [{"wav": f"clips/Y{video}.wav", "labels": "/m/a"} for video in VIDEOS[2:]]
    write(audioset / "eval.json", json.dumps({"data": data}))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_sound(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.zeros(160), 16_000)


def the_only(folder: Path, random: Random) -> Path:
    """The layout of the case; the others are removed where they are still there."""
    layouts = sorted(path for path in folder.iterdir() if path.is_dir())
    chosen = random.choice(layouts)
    for other in layouts:
        if other != chosen:
            shutil.rmtree(other)
    return chosen


def texts_in(layout: Path) -> list[Path]:
    return files_in(layout, (".csv", ".txt", ".json"))


def table_bytes(folder: Path, random: Random) -> None:
    layout = the_only(folder, random)
    if files := texts_in(layout) or files_in(layout):
        file = random.choice(files)
        file.write_bytes(damaged(file.read_bytes(), random))


def table_cell(folder: Path, random: Random) -> None:
    """A cell, a line or a word of a list, with a text that is none."""
    layout = the_only(folder, random)
    if not (files := texts_in(layout)):
        return rename(folder, random)
    file = random.choice(files)
    text = file.read_bytes().decode(errors="surrogateescape")
    if file.suffix == ".json":
        text = with_other_field(text, random)
    else:
        lines = text.split("\n")
        row = random.randrange(len(lines))
        cells = lines[row].split(",")
        cells[random.randrange(len(cells))] = random.choice(TEXTS)
        lines[row] = ",".join(cells)
        if random.random() < 0.2:
            lines.append(random.choice(lines))
        text = "\n".join(lines)
    file.write_bytes(text.encode(errors="replace"))


def rename(folder: Path, random: Random) -> None:
    """A file or folder of another name: no UTF-8, line breaks, hidden, reserved."""
    layout = the_only(folder, random)
    path = random.choice(sorted(layout.rglob("*")) or [layout])
    target = path.with_name(random.choice(NAMES) + random.choice((path.suffix, "", ".wav")))
    if path != layout and not target.exists():
        path.rename(target)


def replace_path(folder: Path, random: Random) -> None:
    """A file or folder removed, or in its place the other, a pipe, or a link to nowhere or up."""
    layout = the_only(folder, random)
    path = random.choice(sorted(layout.rglob("*")) or [layout])
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    kind = random.randrange(7)
    if kind == 0:
        path.mkdir(parents=True)
    elif kind == 1:
        path.write_bytes(b"" if random.random() < 0.5 else b"x" * 1000)
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.symlink_to(
            random.choice(("nowhere", "..", ".", str(layout), path.name, "/etc/passwd"))
        )
    elif kind == 4:
        path.joinpath(*["d"] * DEPTH).mkdir(parents=True)


def add(folder: Path, random: Random) -> None:
    """A file or link more, at any place."""
    layout = the_only(folder, random)
    places = [layout, *(path for path in sorted(layout.rglob("*")) if path.is_dir())]
    place, name = random.choice(places), random.choice((*NAMES, "a.wav", "eval_2.json", "0.mp3"))
    path = place / f"{name}{random.choice(('', '.wav', '.csv'))}"
    if os.path.lexists(path):
        return
    kind = random.randrange(3)
    if kind == 0:
        path.write_bytes(b"RIFF")
    elif kind == 1:
        path.symlink_to(random.choice(("..", ".", str(layout), "nowhere")))
    else:
        (path / "inner").mkdir(parents=True)


def read(folder: Path) -> list[Any]:
    """The clips of the one layout, as its corpus."""
    found: list[Any] = []
    for layout in sorted(folder.iterdir())[:1]:
        found += [clip.fold for clip in open_corpus(layout.name, layout).clips]
    return found


LAYOUTS = InputClass(
    "layouts",
    make,
    (table_bytes, table_bytes, table_cell, table_cell, table_cell, rename, replace_path, add),
    read,
)
