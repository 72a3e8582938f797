"""What each command of `ast-audio` does: options in, one call into the library, text out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

import weights
from ast_model import AudioClassifier, Frontend
from data import load_audio
from data.corpora import open_corpus
from data.dataset import ClipDataset, collate
from data.download import download_esc50
from data.statistics import moments
from train.crossval import cross_validate
from train.device import choose_device, choose_precision
from train.evaluate import default_workers, predict_logits
from train.loop import train as train_fold
from train.metrics import evaluate_scores
from train.options import (
    PROGRAM,
    CrossvalOptions,
    DownloadOptions,
    EvaluateOptions,
    PredictOptions,
    Reading,
    StatsOptions,
    TrainOptions,
    parse,
)
from train.recipe import Recipe
from train.recipes import RECIPES
from train.run import RECIPE, read_recipe

RUNS = Path("runs")


def train(words: Sequence[str]) -> None:
    recipe, fold, rest = _recipe("train", words)
    default = TrainOptions(tyro.MISSING, recipe, Reading(), fold or 1)
    options = parse(TrainOptions, rest, f"train {words[0]}", default)
    recipe, reading = options.recipe, options.reading
    folder = options.out or RUNS / recipe.name / f"fold{options.fold}"
    rows = train_fold(
        recipe,
        open_corpus(recipe.corpus, options.data),
        options.fold,
        folder,
        reading.device,
        reading.clip_cache(),
        reading.workers,
        options.checkpoint_minutes,
    )
    print(f"accuracy {rows[-1]['accuracy']:.4f} on fold {options.fold} after epoch {len(rows)}")
    print(f"model {folder / 'last'}\nplots {folder / 'plots'}")


def crossval(words: Sequence[str]) -> None:
    recipe, _, rest = _recipe("crossval", words)
    default = CrossvalOptions(tyro.MISSING, recipe, Reading())
    options = parse(CrossvalOptions, rest, f"crossval {words[0]}", default)
    recipe, reading = options.recipe, options.reading
    folder = options.out or RUNS / recipe.name
    manifest = open_corpus(recipe.corpus, options.data)
    cache = reading.clip_cache()
    table = cross_validate(
        recipe, manifest, folder, options.folds, reading.device, cache, reading.workers
    )
    print(f"\n{table}")
    print(f"table {folder / 'crossval.md'}\nplots {folder / 'plots'}\nmodels {folder}/fold*/last")


def stats(words: Sequence[str]) -> None:
    recipe, _, rest = _recipe("stats", words)
    default = StatsOptions(tyro.MISSING, recipe, Reading())
    options = parse(StatsOptions, rest, f"stats {words[0]}", default)
    recipe = options.recipe
    manifest = open_corpus(recipe.corpus, options.data)
    device = choose_device(options.reading.device)
    frontend = Frontend(recipe.frontend_config()).to(device)
    dataset = ClipDataset(
        manifest.clips,
        len(manifest.classes),
        frontend.config.sample_rate,
        options.reading.clip_cache(),
    )
    mean, std = moments(_fbanks(dataset, frontend, options.reading.workers or 0))
    print(f"{len(dataset)} clips: mean {mean:.4f}, std {std:.4f}")
    print(f"recipe {recipe.name} has mean {recipe.mean:.4f}, std {recipe.std:.4f}")
    print(f"to train with the measured ones: --mean {mean:.4f} --std {std:.4f}")


def _fbanks(dataset: ClipDataset, frontend: Frontend, workers: int) -> Iterator[Tensor]:
    device = frontend.fbank.window.device
    loader = DataLoader(dataset, 32, collate_fn=collate, num_workers=workers)
    for batch in tqdm(loader, desc="stats", unit="batch", leave=False, disable=None):
        yield frontend.filterbank(batch.waveforms.to(device), batch.lengths)


def evaluate(words: Sequence[str]) -> None:
    options = parse(EvaluateOptions, words, "evaluate")
    classifier, run = _load_model(options.model, options.reading.device)
    recipe, fold = run or (None, None)
    corpus = options.corpus or (recipe.corpus if recipe else None)
    if corpus is None:
        raise ValueError(f"{options.model} has no recipe.json that says its data; give --corpus")
    manifest = open_corpus(corpus, options.data)
    if manifest.classes != classifier.classes:
        raise ValueError(
            f"{options.model} knows the classes {', '.join(classifier.classes)}; "
            f"{options.data} has {', '.join(manifest.classes)}; give the data it was trained for"
        )
    fold = options.fold if options.fold is not None else fold
    clips = manifest.clips if fold is None else manifest.split(fold)[1]
    device = choose_device(options.reading.device)
    workers = options.reading.workers
    logits, targets = predict_logits(
        classifier.model,
        classifier.frontend,
        clips,
        choose_precision(options.precision, device),
        cache=options.reading.clip_cache(),
        workers=default_workers(device) if workers is None else workers,
    )
    scores = evaluate_scores(logits.numpy(), targets.numpy(), classifier.multi_label)
    part = "all clips" if fold is None else f"fold {fold}"
    if options.json:
        print(json.dumps({"clips": len(clips), "fold": fold, **scores}, indent=2))
        return
    print(f"{corpus}, {part}, {len(clips)} clips")
    for name, value in scores.items():
        print(f"  {name:10} {value:.4f}")


def predict(words: Sequence[str]) -> None:
    options = parse(PredictOptions, words, "predict")
    if not options.files:
        raise ValueError("no audio file was given; name at least one after the model folder")
    for file in options.files:
        if not file.is_file():
            raise FileNotFoundError(f"audio file {file} does not exist, or is a folder; name files")
    classifier, _ = _load_model(options.model, options.device)
    results = [(file, _best(classifier, file, options.top_k)) for file in options.files]
    if options.json:
        print(json.dumps([_as_json(file, best) for file, best in results], indent=2))
        return
    for file, best in results:
        print(file)
        for name, probability in best:
            print(f"  {probability:6.1%}  {name}")


def _best(classifier: AudioClassifier, file: Path, top_k: int) -> list[tuple[str, float]]:
    config = classifier.frontend.config
    waveform = load_audio(file, config.sample_rate)
    heard = classifier.frontend.fbank.num_samples(config.num_frames)
    if len(waveform) > 1.1 * heard:  # clips are seldom exact to the frame
        print(
            f"note: {file} is {len(waveform) / config.sample_rate:.1f} s long; "
            f"the model hears its first {heard / config.sample_rate:.1f} s",
            file=sys.stderr,
        )
    try:
        return classifier(waveform, top_k)
    except ValueError as error:  # too short a clip, say
        raise ValueError(f"{file}: {error}") from error


def _as_json(file: Path, best: Sequence[tuple[str, float]]) -> dict[str, Any]:
    classes = [{"class": name, "probability": round(value, 6)} for name, value in best]
    return {"file": str(file), "classes": classes}


def download(words: Sequence[str]) -> None:
    options = parse(DownloadOptions, words, "download")
    if options.corpus != "esc50":
        raise ValueError(f"data set {options.corpus!r} cannot be downloaded; use esc50")
    download_esc50(options.folder)


def _recipe(command: str, words: Sequence[str]) -> tuple[Recipe, int | None, list[str]]:
    """The recipe that the first word names, the fold if a run's file names one, other words."""
    names = ", ".join(RECIPES)
    if not words or words[0] in ("-h", "--help"):
        print(
            f"usage: {PROGRAM} {command} RECIPE --data FOLDER [OPTIONS]\n\n"
            f"recipes: {names}, or the recipe.json of a run\n"
            f"`{PROGRAM} {command} RECIPE --help` lists the options and every field of the recipe."
        )
        raise SystemExit(0 if words else 2)
    if words[0].startswith("-"):
        raise ValueError(f"the recipe comes first: {PROGRAM} {command} RECIPE …; one of {names}")
    if words[0] in RECIPES:
        return RECIPES[words[0]], None, list(words[1:])
    if not words[0].endswith(".json"):
        raise ValueError(
            f"recipe {words[0]!r} is unknown; use one of {names}, or the recipe.json of a run"
        )
    if not Path(words[0]).is_file():
        raise FileNotFoundError(f"recipe file {words[0]} does not exist; give a run's recipe.json")
    return *read_recipe(Path(words[0])), list(words[1:])


def _load_model(path: Path, device: str) -> tuple[AudioClassifier, tuple[Recipe, int] | None]:
    """A model, and the recipe and fold of its run where it lies in one."""
    if not path.is_dir():
        raise FileNotFoundError(f"model folder {path} does not exist; give a run or model folder")
    run = path if (path / RECIPE).is_file() else path.parent
    folder = path / "last" if run == path else path
    place: torch.device = choose_device(device)
    classifier = weights.load(folder, place)
    return classifier, read_recipe(run / RECIPE) if (run / RECIPE).is_file() else None
