"""The commands that are interrupted, on data and models that are made here."""

from __future__ import annotations

import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data import synthetic
from data.files import write_json
from tests.faults.faults import Command
from train.experiments.cost import Cost

MICRO = [
    "--corpus", "esc50", "--depth", "1", "--num-frames", "64", "--frequency-mask", "8",
    "--time-mask", "16", "--precision", "fp32", "--device", "cpu", "--workers", "0",
    "--mixup-rate", "0.5", "--dropout", "0.1",
]  # fmt: skip
COST = Cost(12, 5_000_000, 2_500_000_000, "a chip", "fp32", 8, 10.0, 10**9, 30.0, 5 * 10**8)
TABLE = """
from train.experiments.table import Row, Table
rows = [Row("low", {"learning_rate": 1e-4}), Row("high", {"learning_rate": 1e-3})]
TABLE = Table("rate", "Learning rate", rows, "low")
"""


def make_inputs(folder: Path) -> None:
    """Sounds, models and data sets, and what lies before a command in its folder."""
    synthetic(folder / "corpus", clips_per_class=5)
    for name, seed in (("model", 0), ("older", 1)):
        torch.manual_seed(seed)
        model = AST(ASTConfig(num_classes=3, num_frames=64, width=8, depth=1, heads=1)).eval()
        classifier = AudioClassifier(
            model, Frontend(FrontendConfig(num_frames=64)), ("a", "b", "c")
        )
        weights.save(folder / name, classifier)
        weights.save(folder / "before" / "convert" / "written", classifier)  # the older one stays
    rng = np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for name in ("one", "two", "three"):
        soundfile.write(folder / "sounds" / f"{name}.wav", rng.normal(0, 0.1, 16_000), 16_000)
    (folder / "sounds" / "table.csv").write_text("filename,category\none.wav,a\n")
    for name in ("train", "crossval", "ablate", "predict", "embed", "onnx", "prepare", "download"):
        (folder / "before" / name).mkdir(parents=True)
    (folder / "before/predict/scores.csv").write_text("file,class,probability\nolder.wav,a,1\n")
    for row in ("low", "high"):  # else its speed is measured, which is never twice the same
        write_json(folder / "before" / "ablate" / "out" / row / "cost.json", asdict(COST))
    (folder / "table.py").write_text(TABLE)
    (folder / "served").mkdir()
    (folder / "served" / "esc50.zip").write_bytes(esc50_zip())


def esc50_zip() -> bytes:
    """An archive such as ESC-50's, with four clips."""
    buffer, sound = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, np.zeros(800), 16_000, format="WAV")
    rows = [f"{fold}-{fold}-A-0.wav,{fold},0,dog,True,{fold},A" for fold in (1, 2)]
    header = "filename,fold,target,category,esc10,src_file,take"
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("ESC-50-master/meta/esc50.csv", "\n".join([header, *rows, ""]))
        for row in rows:
            file.writestr(f"ESC-50-master/audio/{row.partition(',')[0]}", sound.getvalue())
    return buffer.getvalue()


def make_commands(folder: Path, address: str, plots: bool) -> dict[str, Command]:
    """By name.

    Args:
        folder: of `make_inputs`.
        address: of a server of its folder `served`.
        plots: whether runs draw them, which takes longer than to train.
    """
    corpus, sounds, before = str(folder / "corpus"), str(folder / "sounds"), folder / "before"
    data = ["--data", corpus, "--cache", str(folder / "cache"), *MICRO]
    model, table = str(folder / "model"), str(folder / "table.py")
    on_sounds = [model, sounds, "--device", "cpu"]
    to_out = ["--out", "{folder}/out"]
    return {
        command.name: command
        for command in (
            Command(
                "train",
                ["train", "demo", *data, "--fold", "1", "--epochs", "2", "--out", "{folder}/run"],
                before / "train",
                has_stages=True,
                plots=plots,
            ),
            Command("convert", ["convert", model, "{folder}/written"], before / "convert"),
            Command("convert to ONNX", ["convert", model, "{folder}/a.onnx"], before / "onnx"),
            Command(
                "prepare",
                ["prepare", sounds, "{folder}/flac", "--processes", "1"],
                before / "prepare",
            ),
            Command(
                "predict",
                ["predict", *on_sounds, "--csv", "{folder}/scores.csv"],
                before / "predict",
            ),
            Command(
                "predict --timeline",
                ["predict", *on_sounds, "--timeline", *to_out],
                before / "prepare",
            ),
            Command(
                "predict --format",
                ["predict", *on_sounds, "--format", "raven", *to_out],
                before / "prepare",
            ),
            Command(
                "embed", ["embed", *on_sounds, "--out", "{folder}/vectors.npz"], before / "embed"
            ),
            Command(
                "download",
                ["download", "esc50", "{folder}/esc50"],
                before / "download",
                url=f"{address}/esc50.zip",
            ),
            Command(
                "crossval",
                ["crossval", "demo", *data, "--folds", "1", "2", "--epochs", "1", *to_out],
                before / "crossval",
                has_stages=True,
                plots=plots,
            ),
            Command(
                "ablate",
                ["ablate", table, "demo", *data, "--folds", "1", "--epochs", "1", *to_out],
                before / "ablate",
                has_stages=True,
                plots=plots,
            ),
        )
    }


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that prints nothing."""

    def log_message(self, *_) -> None:
        """Nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files, on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
