"""What each command of `ast-audio` does: options in, one call into the library, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import tyro
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ast_model import Frontend
from data.corpora import open_corpus
from data.dataset import ClipDataset, collate
from data.download.fetch import download_esc50, download_speech_commands
from data.download.prepare import prepare as prepare_data
from data.files import atomic_file
from data.splits import split_clips
from data.statistics import moments
from train.cli.bench import bench as run_benchmarks
from train.cli.options import (
    PROGRAM,
    AblateOptions,
    AttentionOptions,
    AuditOptions,
    BenchOptions,
    ConvertOptions,
    CrossvalOptions,
    DownloadOptions,
    EmbedOptions,
    EnsembleOptions,
    EvaluateOptions,
    LedgerOptions,
    PredictOptions,
    PrepareOptions,
    Reading,
    RunsOptions,
    StatsOptions,
    TrainOptions,
    parse,
)
from train.crossval import cross_validate
from train.device import choose_device
from train.distributed import main_process_first
from train.experiments.ledger import ledger as write_ledger
from train.experiments.run_table import check_folders, planned_runs, run_table
from train.experiments.runs import difference, history
from train.experiments.table import Table
from train.experiments.table_report import report
from train.experiments.tables import TABLES, load_table
from train.inference.attention import attention as draw_attention
from train.inference.embed import embed as embed_recordings
from train.inference.ensemble import ensemble as score_ensemble
from train.inference.export import convert as convert_model
from train.inference.predict import predict as predict_recordings
from train.inference.report import evaluate as evaluate_model
from train.loop import train as train_run
from train.preflight import inspect
from train.recipe import Recipe
from train.recipes import RECIPES
from train.run_folder import read_recipe
from train.run_log import print_results

RUNS = Path("runs")


def train(words: Sequence[str]) -> None:
    recipe, fold, rest = _recipe("train", words)
    default = TrainOptions(tyro.MISSING, recipe, Reading(), fold)
    options = parse(TrainOptions, rest, f"train {words[0]}", default)
    recipe, reading = options.recipe, options.reading
    with main_process_first():  # some corpora are made as they are opened
        manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
    fold = manifest.folds[0] if options.fold is None and manifest.folds else options.fold
    folder = options.out or RUNS / recipe.name / ("" if fold is None else f"fold{fold}")
    train_run(
        recipe,
        manifest,
        fold,
        folder,
        reading.device,
        reading.clip_cache(),
        reading.workers,
        options.compile,
        options.checkpoint_minutes,
    )
    print_results(folder)


def crossval(words: Sequence[str]) -> None:
    recipe, _, rest = _recipe("crossval", words)
    default = CrossvalOptions(tyro.MISSING, recipe, Reading())
    options = parse(CrossvalOptions, rest, f"crossval {words[0]}", default)
    recipe, reading = options.recipe, options.reading
    folder = options.out or RUNS / recipe.name
    with main_process_first():  # some corpora are made as they are opened
        manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
    cache = reading.clip_cache()
    place = (reading.device, cache, reading.workers, options.compile)
    table = cross_validate(recipe, manifest, folder, options.folds, *place)
    print(f"\n{table}")
    print(f"table {folder / 'crossval.md'}\nplots {folder / 'plots'}\nmodels {folder}/fold*/last")


def ablate(words: Sequence[str]) -> None:
    table, words = _table(words)
    base, _, rest = _recipe(f"ablate {table.name}", words)
    default = AblateOptions(base, Reading())
    options = parse(AblateOptions, rest, f"ablate {table.name} {words[0]}", default)
    recipe, reading = options.recipe, options.reading
    if recipe.seed != base.seed:
        raise ValueError(f"--seed {recipe.seed} is one run's seed; a table has --seeds")
    table = table.part(options.rows, options.reference).with_checkpoint(options.checkpoint)
    recipes = table.recipes(recipe)
    out = options.out or RUNS / "ablate" / table.name
    if not options.report:
        if options.data is None:
            raise ValueError("training needs --data FOLDER; without it, there is --report")
        manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
        folds = options.folds or manifest.folds[:1] or (None,)
        runs = planned_runs(recipes, out, folds, options.seeds)
        check_folders(runs, recipes, out, manifest)
        cache = reading.clip_cache()
        place = (reading.device, cache, reading.workers, options.compile)
        if not run_table(runs, manifest, *place):
            print("the same command comes back to what is not finished, and reports at the end")
            return
    print(f"\n{report(table, recipes, out, options.cost_batch, reading.device)}")
    print(f"table {out / 'table.md'}, {out / 'table.csv'}\nplot {out / 'table.png'}")


def _table(words: Sequence[str]) -> tuple[Table, Sequence[str]]:
    """The table that the first word names, and the other words."""
    if not words or words[0].startswith("-"):
        print(
            f"usage: {PROGRAM} ablate TABLE RECIPE --data FOLDER [OPTIONS]\n\n"
            f"tables: {', '.join(TABLES)}, or a Python file of your own with\n"
            "  from train.experiments.table import Row, Table\n"
            '  TABLE = Table("lr", "Learning rate", [Row("a", {"learning_rate": 1e-4}), …], "a")\n'
            f"recipes: {', '.join(RECIPES)}, or the recipe.json of a run\n"
            f"`{PROGRAM} ablate TABLE RECIPE --help` lists the options."
        )
        raise SystemExit(0 if words and words[0] in ("-h", "--help") else 2)
    return load_table(words[0]), words[1:]


def runs(words: Sequence[str]) -> None:
    options = parse(RunsOptions, words, "runs")
    print(difference(*options.diff) if options.diff else history(options.folder))


def ledger(words: Sequence[str]) -> None:
    options = parse(LedgerOptions, words, "ledger")
    text = write_ledger(options.runs, options.bench)
    if options.out is None:
        print(text)
        return
    with atomic_file(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {options.out}")


def bench(words: Sequence[str]) -> None:
    run_benchmarks(parse(BenchOptions, words, "bench"))


def stats(words: Sequence[str]) -> None:
    recipe, _, rest = _recipe("stats", words)
    default = StatsOptions(tyro.MISSING, recipe, Reading())
    options = parse(StatsOptions, rest, f"stats {words[0]}", default)
    recipe = options.recipe
    manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
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


def audit(words: Sequence[str]) -> None:
    recipe, fold, rest = _recipe("audit", words)
    default = AuditOptions(tyro.MISSING, recipe, Reading(), fold)
    options = parse(AuditOptions, rest, f"audit {words[0]}", default)
    recipe = options.recipe
    manifest = open_corpus(recipe.corpus, options.data, **recipe.columns())
    splits = split_clips(manifest, options.fold, recipe.seed)
    inspect(recipe, manifest, splits, options.reading.clip_cache())
    print(f"nothing stands in the way of training {recipe.name} on these data")


def evaluate(words: Sequence[str]) -> None:
    evaluate_model(parse(EvaluateOptions, words, "evaluate"))


def ensemble(words: Sequence[str]) -> None:
    score_ensemble(parse(EnsembleOptions, words, "ensemble"))


def predict(words: Sequence[str]) -> None:
    predict_recordings(parse(PredictOptions, words, "predict"))


def embed(words: Sequence[str]) -> None:
    embed_recordings(parse(EmbedOptions, words, "embed"))


def attention(words: Sequence[str]) -> None:
    draw_attention(parse(AttentionOptions, words, "attention"))


def convert(words: Sequence[str]) -> None:
    convert_model(parse(ConvertOptions, words, "convert"))


def download(words: Sequence[str]) -> None:
    options = parse(DownloadOptions, words, "download")
    if options.corpus == "esc50":
        download_esc50(options.folder)
    else:
        download_speech_commands(options.folder, options.version)


def prepare(words: Sequence[str]) -> None:
    options = parse(PrepareOptions, words, "prepare")
    prepare_data(options.folder, options.destination, options.sample_rate, options.processes)


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
