"""`ast-audio evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes

from data.files import write_json
from train.cli.options import (
    TO_REPORT_FOLDER,
    ColumnsOfTable,
    Compile,
    CorpusOfRun,
    DataFolder,
    InferencePrecision,
    KeepTokens,
    Model,
    Reading,
    SkipAsInRun,
    Split,
    at_least,
    one_of,
    parse,
    unless_given,
)
from train.inference import evaluate
from train.inference.detections import score_rows
from train.inference.scoring.joined import THRESHOLD, joined_scores
from train.inference.scoring.report import (
    PER_CLASS,
    SCORES_FILE,
    require_report_folder,
    summary,
    write_report,
)
from train.run.tables import write_csv


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on a data set: by default on clips that it was not trained on."""

    model: Model
    data: DataFolder
    reading: OmitArgPrefixes[Reading]
    columns: OmitArgPrefixes[ColumnsOfTable]
    corpus: CorpusOfRun = None
    fold: Annotated[int | None, unless_given("the fold that the run validated on", "INT")] = None
    """Fold to score."""
    split: Annotated[
        Split | None,
        one_of(Split),
        unless_given("test, if there is one; else what the run validated on; without a run, all"),
    ] = None
    """Split to score, or all clips."""
    skip_unreadable: SkipAsInRun = None
    out: Annotated[Path | None, TO_REPORT_FOLDER, unless_given("no report")] = None
    """Folder for a report: scores.json, per_class.csv, confusion.csv and .png, worst.csv (the most
    confident mistakes), predictions.csv, and predictions.parquet with paths and embeddings for
    Renumics Spotlight (needs pyarrow)."""
    joined: Annotated[float | None, at_least(0.1), unless_given("clip by clip")] = None
    """Join clips to a recording of so many minutes with silence between, and score what the model
    hears in it when: the share of clips that their window names, event F1, and what it calls
    silence."""
    row_labels: Annotated[Path | None, unless_given("none", "CSV")] = None
    """Score soundscapes: --data is a folder of them, heard in rows of five seconds, and this table
    says in the columns row_id and birds which classes are in which row."""
    pad: bool = True
    """Pad clips shorter than the model's input, as in training. With --no-pad they run at their own
    length: faster, but other scores, since the model may have learnt from the padding."""
    precision: InferencePrecision = "fp32"
    compile: Compile = False
    keep_tokens: KeepTokens = 1.0
    json: bool = False
    """Print JSON instead of a table."""


def run(words: Sequence[str]) -> None:
    options = parse(EvaluateOptions, words, "evaluate")
    if options.out:
        require_report_folder(options.out)
    if options.row_labels is not None:
        return _run_rows(options)
    if options.joined is not None:
        return _run_joined(options)
    evaluation = evaluate(
        options.model,
        options.data,
        corpus=options.corpus,
        fold=options.fold,
        split=options.split,
        columns=options.columns.given_columns(),
        skip_unreadable=options.skip_unreadable,
        precision=options.precision,
        compile=options.compile,
        keep_tokens=options.keep_tokens,
        pad=options.pad,
        vectors=options.out is not None,
        **options.reading.arguments(),
    )
    if options.out:
        write_report(evaluation, options.out)
    if options.json:
        print(json.dumps(summary(evaluation), indent=2))
        return
    selection = evaluation.selection
    told = [selection.corpus, selection.name, f"{len(selection.clips)} clips"]
    told += [] if options.pad else ["without padding"]
    told += [f"patches merged to {options.keep_tokens:.0%}"] if options.keep_tokens < 1 else []
    print(", ".join(told))
    _print_scores(evaluation.scores)
    if options.out:
        print(f"report {options.out}: {', '.join(sorted(p.name for p in options.out.iterdir()))}")


def _print_scores(scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        print(f"  {name:10} {value:.4f}")


def _run_rows(options: EvaluateOptions) -> None:
    given = {
        "--corpus": options.corpus is not None,
        "--fold": options.fold is not None,
        "--split": options.split is not None,
        "--label-column and the like": bool(options.columns.given_columns()),
        "--skip-unreadable": options.skip_unreadable is not None,
        "--joined": options.joined is not None,
        "--no-pad": not options.pad,
        "--workers": options.reading.workers is not None,
        "--cache and --no-use-cache": options.reading != Reading(device=options.reading.device),
    }
    for option in (name for name, is_given in given.items() if is_given):
        raise ValueError(f"--row-labels scores rows of soundscapes; leave out {option}")
    found = score_rows(
        *(options.model, options.data, options.row_labels),
        precision=options.precision,
        device=options.reading.device,
        compile=options.compile,
        keep_tokens=options.keep_tokens,
    )
    content = {"soundscapes": found.soundscapes, "rows": found.rows, **found.scores}
    if options.out:
        write_json(options.out / SCORES_FILE, content)
        write_csv(options.out / "per_class.csv", PER_CLASS, found.per_class)
    if options.json:
        print(json.dumps(content, indent=2))
        return
    print(f"{found.rows} rows of {found.soundscapes} soundscapes")
    _print_scores(found.scores)
    if options.out:
        print(f"report {options.out}: per_class.csv, scores.json")


def _run_joined(options: EvaluateOptions) -> None:
    given = options.out or options.compile or options.skip_unreadable or options.reading.workers
    if given or not options.pad:
        raise ValueError(
            "--joined scores a timeline, without --out, --compile, --skip-unreadable, --workers "
            "and --no-pad"
        )
    selection, scores = joined_scores(
        options.model,
        options.data,
        minutes=options.joined,
        corpus=options.corpus,
        fold=options.fold,
        split=options.split,
        columns=options.columns.given_columns(),
        precision=options.precision,
        keep_tokens=options.keep_tokens,
        device=options.reading.device,
        cache=options.reading.clip_cache(),
    )
    if options.json:
        print(json.dumps({name: asdict(row) for name, row in scores.items()}, indent=2))
        return
    print(f"{selection.corpus}, {selection.name}, {len(selection.clips)} clips")
    for name, row in scores.items():
        print(
            f"{row.events} clips joined to {row.seconds:.0f} s, {name} between them\n"
            f"  named      {row.named:.4f}  clips whose window names them\n"
            f"  event F1   {row.event_f1:.4f}  at a threshold of {THRESHOLD:g}\n"
            f"  silence    {row.silence_highest:.4f}  highest probability in "
            f"{row.silent_windows} windows without a clip; {row.silence_heard:.0%} of them reach "
            f"{THRESHOLD:g}"
        )
