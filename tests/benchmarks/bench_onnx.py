"""How fast, small and right is ONNX in 8-bit integers, beside fp32 and PyTorch?

    python tests/benchmarks/bench_onnx.py [--model RUN --data FOLDER]

Waveforms in, logits out, on one thread and on --threads; ratios are to PyTorch in fp32. With a run
and its data set, accuracy too, on the clips that it was not trained on; the ranges of the integers
are then those of its training clips. Without, one base and one tiny model of random weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import torch
from measuring import Case, Contestant, as_text, options, run_case, write
from torch import Tensor

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from ast_model.quantise import quantise
from data import Clip
from data.dataset import ClipDataset
from train.inference.calibration import calibration_clips
from train.inference.scoring.selection import load_trained, select
from weights.onnx_export import export_onnx
from weights.onnx_quantise import export_int8_onnx

RANDOM = (("base384", 1024, 1), ("tiny224", 512, 4))  # preset, frames, clips a call
PYTORCH = "PyTorch fp32"
CPU = torch.device("cpu")

Work = Callable[[], object]


@dataclass(frozen=True)
class Forms:
    """One model as the contestants load it."""

    name: str
    folder: Path  # as `weights.save` writes it
    in_float: Path
    in_integers: Path


def written(name: str, classifier: AudioClassifier, clips: Sequence[Tensor], folder: Path) -> Forms:
    forms = Forms(name, folder / "model", folder / "float.onnx", folder / "int8.onnx")
    weights.save(forms.folder, classifier)
    export_onnx(classifier, forms.in_float)
    print(f"{name}: {export_int8_onnx(classifier, forms.in_integers, clips)}", flush=True)
    return forms


def random_classifier(preset: str, frames: int) -> AudioClassifier:
    torch.manual_seed(0)
    model = networks.ours(preset, frames, "cpu")
    names = [str(number) for number in range(model.config.num_classes)]
    return AudioClassifier(model, Frontend(FrontendConfig(num_frames=frames)), names).eval()


def noise(classifier: AudioClassifier, clips: int) -> Tensor:
    return 0.1 * torch.randn(clips, classifier.window_size)


def in_pytorch(folder: Path, clips: int, threads: int, int8: bool = False) -> Work:
    classifier = weights.load(folder)
    if int8:
        quantise(classifier.model)
    waveforms = noise(classifier, clips)

    def work() -> Tensor:
        torch.set_num_threads(threads)
        return classifier(waveforms)

    return torch.no_grad()(work)


def in_onnxruntime(file: Path, folder: Path, clips: int, threads: int) -> Work:
    session = open_session(file, threads)
    feed = {"waveform": noise(weights.load(folder), clips).numpy()}
    return lambda: session.run(["logits"], feed)


def open_session(file: Path, threads: int) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # Between its turns it is not to take the cores from the others.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def speed(forms: Forms, clips: int, threads: int) -> Case:
    size = {"folder": forms.folder, "clips": clips, "threads": threads}
    ours, theirs = (PYTORCH,), in_onnxruntime
    return Case(
        f"{forms.name}, {clips} clips, {threads} thread{'s' * (threads > 1)}",
        clips,
        [
            Contestant(PYTORCH, in_pytorch, size),
            Contestant("PyTorch int8", in_pytorch, {**size, "int8": True}, ours),
            Contestant("ONNX fp32", theirs, {**size, "file": forms.in_float}, ours),
            Contestant("ONNX int8", theirs, {**size, "file": forms.in_integers}, ours),
        ],
    )


def sizes(forms: Forms) -> dict[str, int]:
    """Bytes of the file of weights; PyTorch's integers are made when a model is loaded."""
    files = {
        PYTORCH: forms.folder / "model.safetensors",
        "ONNX fp32": forms.in_float,
        "ONNX int8": forms.in_integers,
    }
    return {name: path.stat().st_size for name, path in files.items()}


@torch.no_grad()
def accuracies(forms: Forms, clips: Sequence[Clip]) -> dict[str, float]:
    """Share of the clips whose likeliest class is the true one, one clip at a time."""
    classifier, integers = weights.load(forms.folder), weights.load(forms.folder)
    quantise(integers.model)
    sessions = {
        "ONNX fp32": open_session(forms.in_float, torch.get_num_threads()),
        "ONNX int8": open_session(forms.in_integers, torch.get_num_threads()),
    }
    config = classifier.model.config
    right = dict.fromkeys((PYTORCH, "PyTorch int8", *sessions), 0)
    dataset = ClipDataset(clips, config.num_classes, classifier.frontend.config.sample_rate)
    for number in range(len(clips)):
        item = dataset[number]
        waveforms = item.waveform[None]
        logits = {PYTORCH: classifier(waveforms), "PyTorch int8": integers(waveforms)}
        for name, session in sessions.items():
            logits[name] = session.run(["logits"], {"waveform": waveforms.numpy()})[0]
        for name, each in logits.items():
            right[name] += int(each.argmax() == item.target.argmax())
    return {name: count / len(clips) for name, count in right.items()}


def rows(forms: Forms, accuracy: dict[str, float]) -> list[dict[str, object]]:
    """Of each contestant the size, and the accuracy where that was measured."""
    size, found = sizes(forms), []
    for name in (PYTORCH, "PyTorch int8", "ONNX fp32", "ONNX int8"):
        row: dict[str, object] = {"model": forms.name, "form": name}
        if name in size:
            row |= {"bytes": size[name], "of fp32's": f"{size[name] / size[PYTORCH]:.2f}"}
        if accuracy:
            row |= {
                "accuracy": f"{accuracy[name]:.4f}",
                "points lost": f"{100 * (accuracy[PYTORCH] - accuracy[name]):.2f}",
            }
        found.append(row)
    return found


def random_models(folder: Path) -> Iterator[tuple[Forms, int, Sequence[Clip]]]:
    """A model in its forms, the clips of a call, and none to score."""
    for preset, frames, clips in RANDOM:
        classifier = random_classifier(preset, frames)
        title = f"{preset}, {frames} frames, random weights"
        heard = [*noise(classifier, 2)]
        yield written(title, classifier, heard, folder / preset), clips, ()


def trained_model(
    run: Path, data: Path, most: int | None, folder: Path
) -> tuple[Forms, int, Sequence[Clip]]:
    """The same of a run, with clips to score: at most so many, spread evenly."""
    trained = load_trained(run, "cpu")
    training = select(trained, data, split="train").clips
    heard = calibration_clips([clip.path for clip in training], trained.classifier)
    selection = select(trained, data)
    count = min(most or len(selection.clips), len(selection.clips))
    scored = [selection.clips[n * len(selection.clips) // count] for n in range(count)]
    title = f"{selection.corpus}, {selection.name}"
    return written(title, trained.classifier, heard, folder), 4, scored


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", type=Path, help="run folder")
    parser.add_argument("--data", type=Path, help="the data set that it was trained on")
    parser.add_argument("--clips", type=int, help="that are scored, at most")
    arguments = parser.parse_args()
    if bool(arguments.model) != bool(arguments.data):
        parser.error("--model and --data go together")
    if arguments.device != "cpu":
        parser.error("8-bit integers are for a CPU; leave --device out")
    torch.set_num_threads(arguments.threads)
    cases, table = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model:
            models = [trained_model(arguments.model, arguments.data, arguments.clips, folder)]
        else:
            models = random_models(folder)
        for forms, clips, scored in models:
            found = rows(forms, accuracies(forms, scored) if scored else {})
            print(*found, sep="\n", flush=True)
            table += found
            for threads in sorted({1, arguments.threads}):
                cases.append(run_case(speed(forms, clips, threads), arguments, CPU, {}))
                print(as_text(cases[-1]), flush=True)
    if arguments.out:
        write(arguments.out, "onnx", CPU, cases=cases, rows=table)


if __name__ == "__main__":
    main()
