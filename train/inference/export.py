"""A model from anywhere, as a Hugging Face folder, an ONNX file, or a file of the authors' code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from data import load_audio
from data.files import csv_records, read_json, text_lines
from train.inference.calibration import calibration_clips
from train.inference.models import WITHOUT_HEAD, find_model
from train.inference.provenance import provenance
from train.run.folder import RECIPE
from weights.card import UNTRAINED, model_card
from weights.checkpoint import numbered_classes
from weights.folder import CONFIG, read_epoch
from weights.onnx_export import export_onnx, require_packages
from weights.onnx_quantise import Int8Agreement, export_int8_onnx
from weights.verify import Agreement, require_transformers, verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """What was written."""

    path: Path  # a folder, or a file
    classifier: AudioClassifier
    agreement: Agreement | None = None  # with transformers, where that was compared
    reference: Path | None = None  # the folder that transformers read for it
    int8: Int8Agreement | None = None  # with PyTorch, of an ONNX file in 8-bit integers

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        files = self.path.iterdir() if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files)


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    num_classes: int | None = None,
    num_frames: int | None = None,
    stride: tuple[int, int] | None = None,
    num_mel_bins: int | None = None,
    pooling: str | None = None,
    positions: str | None = None,
    heads: int | None = None,
    rgb_kernel: str = "mean",
    file: Path | None = None,
    classes: Sequence[str] | None = None,
    verify_with: Path | None = None,
    frontend: bool = True,
    int8: bool = False,
    calibrate: Sequence[str | Path] = (),
) -> Converted:
    """Write any model as a folder in the Hugging Face layout, model card included, or as a file.

    Args:
        source: what `weights.load` takes, or a DeiT or ViT of timm.
        destination: a new folder, or that of an older model; or a file name that ends in .onnx, or
            in .pth for the layout of the authors' code.
        num_classes: of a new head; an SSAST .pth and an image model have none of use, so need it.
        num_frames, stride, num_mel_bins, pooling, positions, heads: as `weights.load`.
        rgb_kernel, file: of a model of timm, as `weights.from_timm`.
        classes: names of the classes.
        verify_with: audio file; compare the folder's features and logits with those of
            transformers, which reads the source where it can, else the folder.
        frontend: whether the filterbank is part of the ONNX file, so that it takes waveforms.
        int8: the linear layers of the ONNX file's blocks are in 8-bit integers.
        calibrate: recordings and folders of them, which show what range their inputs have.

    Raises:
        FileNotFoundError, ValueError: as `weights.load` and `weights.save`; arguments that do not
            go together; source and destination that lie in one another.
    """
    destination = Path(destination).resolve()
    to_onnx = destination.suffix.lower() == ".onnx"
    to_authors = destination.suffix.lower() == ".pth"
    _require_fitting(destination, to_onnx, to_authors, verify_with, frontend)
    _require_calibration(to_onnx, int8, calibrate)
    asked = {
        "num_classes": num_classes,
        "num_frames": num_frames,
        "stride": stride,
        "num_mel_bins": num_mel_bins,
        "pooling": pooling,
        "positions": positions,
    }
    requests = {name: value for name, value in asked.items() if value is not None}
    is_image_model = _is_image_model(source)
    path, run = (Path(source), None) if is_image_model else find_model(source)
    _require_apart((run or path).resolve(), destination)
    epoch = None
    if is_image_model:
        if heads is not None:
            raise ValueError(f"--heads is for a .pth; {source} is a model of timm: leave it out")
        classifier = _from_image_model(str(source), requests, rgb_kernel, file, classes)
    elif file or rgb_kernel != "mean":
        raise ValueError(f"--file and --rgb-kernel are for models of timm; {path} is none")
    else:
        classifier, epoch = _load(path, run, {**requests, "heads": heads, "classes": classes})
    pretrained = classifier.classes == UNTRAINED
    if to_authors:
        weights.save_authors(destination, classifier, pretrained)
        return Converted(destination, classifier)
    if pretrained:
        logger.warning(f"{source} {WITHOUT_HEAD}")
    if int8:
        clips = calibration_clips(calibrate, classifier)
        int8_agreement = export_int8_onnx(classifier, destination, clips, frontend)
        return Converted(destination, classifier, int8=int8_agreement)
    if to_onnx:
        export_onnx(classifier, destination, frontend)
        return Converted(destination, classifier)
    if verify_with:  # whatever can fail does so before anything is written
        require_transformers(classifier.model.config)
        waveform = load_audio(verify_with, classifier.frontend.config.sample_rate)
    made = provenance(str(source), path, run, requests, epoch)
    weights.save(destination, classifier, model_card(classifier, destination.name, **made))
    if not verify_with:
        return Converted(destination, classifier)
    reference = destination if requests or not _transformers_reads(path) else path
    return Converted(destination, classifier, verify(destination, waveform, reference), reference)


def _load(
    path: Path, run: Path | None, arguments: dict[str, Any]
) -> tuple[AudioClassifier, int | None]:
    """A model, and the epoch of its run, which may go on and replace the model meanwhile."""
    while True:
        epoch = read_epoch(path) if run else None
        classifier = weights.load(path, **arguments)
        if not run or read_epoch(path) == epoch:
            return classifier, epoch


def _is_image_model(source: str | Path) -> bool:
    name = str(source)
    return not Path(source).exists() and "/" not in name and weights.is_timm_name(name)


def _from_image_model(
    name: str,
    requests: dict[str, Any],
    rgb_kernel: str,
    file: Path | None,
    classes: Sequence[str] | None,
) -> AudioClassifier:
    """An AST before any training on sound: Hamming window and AudioSet's statistics."""
    if "num_classes" not in requests:
        raise ValueError(f"{name} knows images: give --num-classes for a new head")
    changes = {key: value for key, value in requests.items() if key != "positions"}
    config = weights.timm_config(name, **changes)
    positions = requests.get("positions", "bilinear")
    model = weights.from_timm(config, name, rgb_kernel, positions, file)
    frontend = Frontend(FrontendConfig(config.num_frames, config.num_mel_bins))
    names = classes or numbered_classes(config.num_classes)
    return AudioClassifier(model, frontend, names).eval()


def _require_fitting(
    destination: Path, to_onnx: bool, to_authors: bool, verify_with: Path | None, frontend: bool
) -> None:
    if (to_onnx or to_authors) and destination.is_dir():
        raise ValueError(f"{destination} is a folder; give the name of a file")
    if to_authors and verify_with:
        raise ValueError("--verify compares a folder with transformers; leave it out with a .pth")
    if to_onnx and verify_with:
        raise ValueError(
            "--verify compares a folder with transformers; leave it out: an ONNX file is always "
            "compared with PyTorch"
        )
    if not to_onnx and not frontend:
        raise ValueError("--no-frontend is for a DESTINATION that ends in .onnx; leave it out")


def _require_calibration(to_onnx: bool, int8: bool, calibrate: Sequence[str | Path]) -> None:
    if int8 and not to_onnx:
        raise ValueError(
            "--int8 is for a DESTINATION that ends in .onnx; a folder keeps float32: give "
            "--precision int8 to predict and evaluate instead"
        )
    if int8 and not calibrate:
        raise ValueError(
            "--int8 has to hear what the model will hear: name recordings of the training data, "
            "some tens of them, with --calibrate FILE|FOLDER…"
        )
    if calibrate and not int8:
        raise ValueError("--calibrate is for --int8; add that, or leave it out")
    if int8:
        require_packages()


def _require_apart(source: Path, destination: Path) -> None:
    """ValueError if writing would touch the source or a run."""
    if destination.is_relative_to(source) or source.is_relative_to(destination):
        raise ValueError(f"{destination} and {source} lie in one another; give another folder")
    if (destination.parent / RECIPE).is_file():
        raise ValueError(f"{destination} belongs to a run; give a folder of its own")


def read_class_names(file: Path) -> list[str]:
    """Class names in order: one a line, or a CSV with the columns `index` and `display_name`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `text_lines` and `csv_records`; indices other than 0, 1, 2 …, or a name that
            is missing or occurs twice.
    """
    if not file.is_file():
        raise FileNotFoundError(f"class names {file} do not exist; give a text with one a line")
    header = next(text_lines(file), "").strip().replace('"', "").split(",")
    if "display_name" in header:
        rows = [row for _, row in csv_records(file, ("index", "display_name"))]
        by_index = {row["index"]: row["display_name"] for row in rows}
        names = [by_index.get(str(index), "") for index in range(len(rows))]
        if not all(names):
            raise ValueError(
                f"{file}: expected the indices 0, 1, 2 … once each, and a display_name for each; "
                "correct the table"
            )
    else:
        names = list(filter(None, map(str.strip, text_lines(file))))
    if len(set(names)) < len(names):
        raise ValueError(f"{file} names a class twice; give each class a name of its own")
    return names


def _transformers_reads(source: Path) -> bool:
    """Whether transformers can read the source itself, class head included."""
    if not source.is_dir():
        return False
    return read_json(source / CONFIG).get("architectures") == ["ASTForAudioClassification"]
