"""`ast-audio ensemble`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional

from train.cli.options import (
    TO_REPORT_FOLDER,
    ColumnsOfTable,
    CorpusOfRun,
    DataFolder,
    InferencePrecision,
    KeepTokens,
    Reading,
    SkipAsInRun,
    Split,
    one_of,
    parse,
    positional,
    unless_given,
)
from train.inference import ensemble
from train.inference.scoring.report import SCORES_FILE, require_report_folder
from train.run.folder import write_predictions

SCORES = ("accuracy", "mAP", "AUC")


@dataclass(frozen=True)
class EnsembleOptions:
    """Average the probabilities of several models and compare the scores.

    The models need the same classes and nothing else in common: each has its own front end.
    """

    models: Annotated[Positional[tuple[str, ...]], positional("MODEL…")]
    """Run folders, model folders, hub ids or .pth files, two or more."""
    data: DataFolder
    reading: OmitArgPrefixes[Reading]
    columns: OmitArgPrefixes[ColumnsOfTable]
    corpus: CorpusOfRun = None
    fold: Annotated[int | None, unless_given("the fold that all runs validated on", "INT")] = None
    """Fold to score."""
    split: Annotated[Split | None, one_of(Split), unless_given("as for `evaluate`")] = None
    """Split to score, or all clips."""
    skip_unreadable: SkipAsInRun = None
    out: Annotated[Path | None, TO_REPORT_FOLDER, unless_given("not written")] = None
    """Folder for predictions.csv, the ensemble's probabilities."""
    precision: InferencePrecision = "fp32"
    keep_tokens: KeepTokens = 1.0


def run(words: Sequence[str]) -> None:
    options = parse(EnsembleOptions, words, "ensemble")
    if options.out:
        require_report_folder(options.out)
        if (options.out / SCORES_FILE).exists():
            raise ValueError(f"{options.out} holds the report of one model; give another folder")
    result = ensemble(
        options.models,
        options.data,
        corpus=options.corpus,
        fold=options.fold,
        split=options.split,
        columns=options.columns.given_columns(),
        skip_unreadable=options.skip_unreadable,
        precision=options.precision,
        keep_tokens=options.keep_tokens,
        **options.reading.arguments(),
    )
    selection = result.selection
    print(f"{selection.corpus}, {selection.name}, {len(selection.clips)} clips")
    print(_table({**result.model_scores, "ensemble": result.scores}))
    if options.out:
        file = options.out / "predictions.csv"
        write_predictions(file, selection.manifest, selection.clips, result.probabilities)
        print(f"wrote {file}")


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    width = max(map(len, rows))
    header = f"{'':{width}}  " + "  ".join(f"{name:>8}" for name in SCORES)
    lines = [
        f"{name:{width}}  " + "  ".join(f"{scores[key]:8.4f}" for key in SCORES)
        for name, scores in rows.items()
    ]
    return "\n".join([header, *lines])
