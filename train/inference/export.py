"""`ast-audio convert`: a model from anywhere, as a Hugging Face folder or an ONNX file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from data import load_audio
from data.download.unpack import megabytes
from train.cli.options import ConvertOptions
from train.run_folder import METRICS, RECIPE, RESULTS, read_json, read_predictions
from weights.card import Score, model_card
from weights.checkpoint import numbered_classes
from weights.fetch import fetch
from weights.folder import CARD, CONFIG, PICKLED_WEIGHTS, PREPROCESSOR, WEIGHTS
from weights.onnx_export import export_onnx
from weights.verify import (
    FEATURES_TOLERANCE,
    LOGITS_TOLERANCE,
    Agreement,
    require_transformers,
    verify,
)

MODELS = ("best", "last", "averaged")  # folders of a run
MODEL_FILES = {CARD, CONFIG, PREPROCESSOR, WEIGHTS, PICKLED_WEIGHTS}
PREDICTIONS, TEST_PREDICTIONS = "predictions.csv", "test_predictions.csv"
NO_SCORES = {"epoch", "learning_rate", "train_loss"}  # columns of metrics.csv


def convert(options: ConvertOptions) -> None:
    """Write the model and print what was written and, with `verify`, how transformers agrees.

    Raises:
        FileNotFoundError, ValueError: as `weights.load`; options that do not go together; a
            destination that holds something else; names of other classes; no agreement.
    """
    to_onnx = options.destination.suffix.lower() == ".onnx"
    _require_fitting(options, to_onnx)
    requests = _requests(options)
    if _is_image_model(options.source):
        source, run = Path(options.source), None
        _require_free(options.destination.resolve(), to_onnx, source.resolve())
        classifier = _from_image_model(options, requests)
    else:
        source, run = find_model(options.source)
        if options.heads and source.is_dir():
            raise ValueError(f"--heads is for a .pth; {source} says its own, so leave it out")
        if options.file or options.rgb_kernel != "mean":
            raise ValueError(f"--file and --rgb-kernel are for models of timm; {source} is none")
        _require_free(options.destination.resolve(), to_onnx, (run or source).resolve())
        classifier = weights.load(source, **requests, heads=options.heads)
    if options.classes:
        classifier = _renamed(classifier, options.classes)
    if to_onnx:
        export_onnx(classifier, options.destination, options.frontend)
        taken = "waveform" if options.frontend else "fbank"
        print(f"wrote {_described(options.destination, classifier)}; {taken} in, logits out")
        return
    if options.verify:  # whatever can fail does so before anything is written
        require_transformers(classifier.model.config)
        waveform = load_audio(options.verify, classifier.frontend.config.sample_rate)
    name = options.destination.resolve().name
    card = model_card(classifier, name, **_history(options.source, source, run, requests))
    parts = (classifier.model, classifier.frontend, classifier.classes, classifier.multi_label)
    weights.save(options.destination.resolve(), *parts, card)
    print(f"wrote {_described(options.destination, classifier)}")
    if options.verify:
        reference = options.destination if requests or not _is_theirs(source) else source
        _report(verify(options.destination, waveform, reference), options, reference)


def find_model(source: str) -> tuple[Path, Path | None]:
    """The model's folder or file, fetched if need be, and the run folder it lies in, if any."""
    path = Path(source)
    if (path / RECIPE).is_file():
        if not (path / "last").is_dir():
            raise FileNotFoundError(f"the run {path} has no last/ yet: let it finish an epoch")
        return path / "last", path
    if not path.exists():
        return fetch(source), None
    run = path.resolve().parent
    if path.resolve().name in MODELS and (run / RECIPE).is_file():
        return path.resolve(), run
    return path, None


def _is_image_model(source: str) -> bool:
    return not Path(source).exists() and "/" not in source and weights.is_timm_name(source)


def _from_image_model(options: ConvertOptions, requests: dict[str, Any]) -> AudioClassifier:
    """An AST before any training on sound: Hamming window and AudioSet's statistics."""
    if options.num_classes is None:
        raise ValueError(f"{options.source} knows images: give --num-classes for a new head")
    changes = {name: value for name, value in requests.items() if name != "positions"}
    config = weights.timm_config(options.source, **changes)
    positions = options.positions or "bilinear"
    parts = (config, options.source, options.rgb_kernel, positions, options.file)
    model = weights.from_timm(*parts)
    frontend = Frontend(FrontendConfig(config.num_frames, config.num_mel_bins))
    return AudioClassifier(model, frontend, numbered_classes(config.num_classes)).eval()


def _require_fitting(options: ConvertOptions, to_onnx: bool) -> None:
    if to_onnx and options.verify:
        raise ValueError(
            "--verify compares a folder with transformers; leave it out: an ONNX file is always "
            "compared with PyTorch"
        )
    if not to_onnx and not options.frontend:
        raise ValueError("--no-frontend is for a DESTINATION that ends in .onnx; leave it out")


def _require_free(destination: Path, to_onnx: bool, source: Path) -> None:
    """ValueError if writing would delete anything but an older model, or touch the source."""
    if destination.is_relative_to(source) or source.is_relative_to(destination):
        raise ValueError(f"{destination} and {source} lie in one another; give a place beside it")
    if to_onnx and destination.is_dir():
        raise ValueError(f"{destination} is a folder; give the name of a file")
    if to_onnx or not destination.exists():
        return
    if not destination.is_dir():
        raise ValueError(f"{destination} is a file; give a folder, or a name that ends in .onnx")
    names = {path.name for path in destination.iterdir()}
    if names and (CONFIG not in names or names - MODEL_FILES):
        found = ", ".join(sorted(names - MODEL_FILES)[:3]) or f"no {CONFIG}"
        raise ValueError(
            f"{destination} holds something other than a model ({found}), which would be lost; "
            "give a new folder"
        )
    if names and (destination.parent / RECIPE).is_file():
        raise ValueError(f"{destination} belongs to a run; give a new folder")


def _requests(options: ConvertOptions) -> dict[str, Any]:
    """What was asked of `weights.load`, by its arguments."""
    names = ("num_classes", "num_frames", "stride", "num_mel_bins", "pooling", "positions")
    asked = {name: getattr(options, name) for name in names}
    return {name: value for name, value in asked.items() if value is not None}


def _renamed(classifier: AudioClassifier, file: Path) -> AudioClassifier:
    names = read_class_names(file)
    if len(names) != len(classifier.classes):
        raise ValueError(
            f"{file} names {len(names)} classes, the model has {len(classifier.classes)}: give a "
            "file with as many, or --num-classes for a new head"
        )
    parts = (classifier.model, classifier.frontend, names, classifier.multi_label)
    return AudioClassifier(*parts).eval()


def read_class_names(file: Path) -> list[str]:
    """Class names in order: one a line, or a CSV with the columns `index` and `display_name`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text of that kind, indices other than 0, 1, 2 …, or a name that occurs twice.
    """
    if not file.is_file():
        raise FileNotFoundError(f"class names {file} do not exist; give a text with one a line")
    try:
        text = file.read_text(encoding="utf-8-sig")
        header = next(csv.reader(text.splitlines()), [])
        if "display_name" in header:
            names = _in_order(csv.DictReader(text.splitlines(), strict=True))
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{file} is no list of class names ({error}): give a text in UTF-8 with one name a "
            "line, or a CSV with the columns index (0, 1, 2 …) and display_name"
        ) from error
    if len(set(names)) < len(names):
        raise ValueError(f"{file} names a class twice; give each class a name of its own")
    return names


def _in_order(rows: csv.DictReader) -> list[str]:
    named = sorted((int(row["index"] or ""), row["display_name"] or "") for row in rows)
    if [index for index, name in named if name] != list(range(len(named))):
        raise ValueError("an index or a name is missing")
    return [name for _, name in named]


def _is_theirs(source: Path) -> bool:
    """Whether transformers can read the source itself, class head included."""
    if not source.is_dir():
        return False
    return read_json(source / CONFIG).get("architectures") == ["ASTForAudioClassification"]


def _history(
    given: str, source: Path, run: Path | None, requests: dict[str, Any]
) -> dict[str, Any]:
    """What a model card tells of where the model comes from: arguments of `model_card`."""
    if run is None:
        return {"origin": given, "requests": requests}
    try:
        record = read_json(run / RECIPE)
        recipe = dict(record["recipe"])
        score = None if requests else _score(run, source.name, recipe, record["fold"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{run} holds a damaged {RECIPE}, {METRICS} or other record ({error!r}); to convert "
            f"the model without its history, copy {source} elsewhere"
        ) from error
    return {"requests": requests, "recipe": recipe, "score": score}


def _score(run: Path, kind: str, recipe: dict[str, Any], fold: int | None) -> Score | None:
    """What the run measured of `last/`, `best/` or `averaged/`: the test part goes first."""
    results = read_json(run / RESULTS) if (run / RESULTS).is_file() else {}
    if "test" in results:
        remark = "Neither training nor the choice of an epoch looked at these clips."
        row, part, predictions = results["test"][kind], "test", run / TEST_PREDICTIONS
    else:
        remark, row = _held_out_score(run, kind, recipe.get("metric", "accuracy"), results)
        name = results.get("held out", "a part" if fold is None else f"fold {fold}")
        part, predictions = f"{name}, held out from training", run / PREDICTIONS
    if row is None:
        return None
    metrics = {name: float(value) for name, value in row.items() if name not in NO_SCORES}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    clips = len(read_predictions(predictions)) if predictions.is_file() else None
    return Score(finite, recipe["corpus"], part, clips, remark)


def _held_out_score(
    run: Path, kind: str, metric: str, results: dict[str, Any]
) -> tuple[str, dict[str, Any] | None]:
    """What the figures are of, and the figures: none before the first epoch's."""
    if kind == "averaged":
        return "The figures are of the mean of several epochs' weights.", results.get(kind)
    if not (run / METRICS).is_file():
        return "", None
    with (run / METRICS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if kind == "last":
        return f"The figures are of the last epoch, {rows[-1]['epoch']}.", rows[-1]
    row = max(rows, key=lambda row: float(row[metric]))  # the earliest of equals
    remark = (
        f"The figures are of epoch {row['epoch']}, chosen because its {metric} on these very clips "
        "was the highest, so they flatter."
    )
    return remark, row


def _described(destination: Path, classifier: AudioClassifier) -> str:
    files = destination.iterdir() if destination.is_dir() else [destination]
    size = megabytes(sum(file.stat().st_size for file in files))
    parameters = sum(tensor.numel() for tensor in classifier.model.parameters())
    frames = classifier.model.config.num_frames
    return (
        f"{destination} ({size}): {parameters:,} parameters, {len(classifier.classes)} classes, "
        f"{frames} frames"
    )


def _report(agreement: Agreement, options: ConvertOptions, reference: Path) -> None:
    """The comparison as a table; ValueError where it does not hold."""
    features, logits = agreement.features, agreement.logits
    allowed = f"{FEATURES_TOLERANCE:.0e} absolute"
    if not agreement.same_window:
        allowed = f"any: transformers has no {agreement.window} window; both logits are of ours"
    print(
        f"{options.verify} here and in transformers, which read {reference}\n"
        f"             absolute  relative  allowed\n"
        f"  features   {features.absolute:8.1e}  {features.relative:8.1e}  {allowed}\n"
        f"  logits     {logits.absolute:8.1e}  {logits.relative:8.1e}  "
        f"{LOGITS_TOLERANCE:.0e} relative\n"
        f"  top class  {agreement.top_class}; transformers: {agreement.their_top_class}"
    )
    if not agreement.holds:
        raise ValueError(
            f"{options.destination} was written, but transformers does not agree with it: the "
            f"features differ by {features.absolute:.1e}, the logits by {logits.relative:.1e} of "
            "the largest; do not use it before that is understood"
        )
