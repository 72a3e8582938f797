"""`ast-audio predict`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tqdm import tqdm

from ast_model.timeline import Timeline, likeliest
from data.files import require_replaceable, write_json
from train.cli.options import (
    TO_FILE,
    Compile,
    Device,
    Files,
    InferencePrecision,
    KeepTokens,
    Model,
    PositiveInt,
    ShardOfAll,
    SkipUnreadable,
    folder_to_write,
    one_of,
    parse,
    unless_given,
)
from train.cli.parsing import one_word
from train.distributed import world_size
from train.inference.detections import Choice, choose, detect, read_thresholds, submit
from train.inference.detections.formats import CSV as TIMELINE_COLUMNS
from train.inference.predict import Prediction, open_predictor
from train.inference.progress import counted
from train.inference.recordings import find_recordings
from train.inference.spectrogram import timeline_figure
from train.run.plots import save_figure
from train.run.tables import write_csv

Row = tuple[Any, ...]  # (class, probability) or, of a timeline, (start, end, class, probability)
CLIP_COLUMNS = ("class", "probability")
Form = Literal["raven", "audacity", "kaleidoscope", "csv", "parquet", "json", "birdclef"]


def _threshold(word: str) -> float | Path:
    try:
        return float(word)
    except ValueError:
        return Path(word)


@dataclass(frozen=True)
class PredictOptions:
    """Name the classes of recordings of any length.

    A recording longer than the model's input is heard in overlapping windows. Its probabilities
    are those of the windows: the highest for a model of several labels a clip, else the mean.
    Short recordings come first; each is printed as soon as it is heard, JSON at the end.
    """

    model: Model
    files: Files
    top_k: PositiveInt = 5
    """Classes a recording, or a window of a timeline; --threshold replaces it."""
    threshold: Annotated[
        float | Path | None, one_word(_threshold, "FLOAT|CSV"), unless_given("none")
    ] = None
    """Show the classes that reach this probability, however many. Or a CSV file with the columns
    class and threshold: one for each class."""
    classes: Annotated[tuple[str, ...], unless_given("all")] = ()
    """The classes to keep."""
    timeline: bool = False
    """Say when: start, end, class and probability for each window, or with --threshold for each
    stretch in which a class is heard."""
    hop: Annotated[float | None, unless_given("half a window", "FLOAT")] = None
    """Seconds from one window of a long recording to the next."""
    pad: bool = True
    """Pad recordings shorter than the model's input. With --no-pad they run at their own length,
    and it is said what that saves: faster, but the model may have learnt from the padding, so
    measure the accuracy."""
    merge_gap: Annotated[
        float | None, unless_given("0 with --timeline, none with --format", "FLOAT")
    ] = None
    """With --threshold: join windows of one class that are up to so many seconds apart."""
    format: Annotated[Form | None, one_of(Form), unless_given("none")] = None
    """Write tables of detections (start, end, class, probability) for Raven, Audacity, Kaleidoscope
    or scripts; birdclef: a submission, every class in rows of five seconds. A journal beside them
    lets the same command go on after a crash."""
    out: Annotated[Path | None, unless_given("printed", "PATH")] = None
    """With --format: a folder that gets a table a recording, or a file (.txt, .csv, .parquet, .json
    as the format's) for one of all. With --timeline alone: a folder that gets a CSV (with --json a
    JSON) and a PNG a recording."""
    shard: ShardOfAll = None
    """With --format: hear only the K-th of N shares of the recordings, for an array of jobs; the
    command without this option then writes the table of all."""
    csv: Annotated[Path | None, TO_FILE, unless_given("printed")] = None
    """Write one CSV file instead of printing a table."""
    json: bool = False
    """Print JSON instead of a table."""
    skip_unreadable: SkipUnreadable = False
    batch_size: PositiveInt = 8
    """Recordings or windows that run through the model at a time."""
    precision: InferencePrecision = "fp32"
    device: Device = "auto"
    compile: Compile = False
    keep_tokens: KeepTokens = 1.0


def run(words: Sequence[str]) -> None:
    options = parse(PredictOptions, words, "predict")
    _check(options)
    threshold = options.threshold
    chosen = {
        "threshold": read_thresholds(threshold) if isinstance(threshold, Path) else threshold,
        "classes": options.classes or None,
        "top_k": options.top_k,
        "merge_gap": options.merge_gap,
    }
    how = {
        "hop": options.hop,
        "pad": options.pad,
        "skip_unreadable": options.skip_unreadable,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "device": options.device,
        "compile": options.compile,
        "keep_tokens": options.keep_tokens,
    }
    if options.format == "birdclef":
        _submit(options)
        return
    if options.format:
        written = detect(
            *(options.model, options.files, options.out, options.format),
            shard=options.shard,
            **chosen,
            **how,
        )
        print(f"wrote {written.path}: {written.rows:,} detections in {counted(written.recordings)}")
        return
    files = find_recordings(options.files)
    stems = _stems(files, options.out) if options.out else {}
    predictor = open_predictor(
        options.model,
        files,
        timeline=options.timeline,
        spectrograms=options.out is not None,
        **how,
    )
    choice = choose(predictor.classifier.classes, **chosen)
    results = _results(predictor.predictions(), choice, stems, options)
    if options.csv:
        count = _write_table(results, options)
    elif options.out:
        count = sum(1 for _ in results)
    elif options.json:
        rows = dict(results)
        content = [_as_json(path, rows[path], options.timeline) for path in files if path in rows]
        print(json.dumps(content, indent=2))
    else:
        for path, rows in results:
            tqdm.write(_as_text(path, rows, options))  # above the progress bar
            sys.stdout.flush()
    if options.out:
        kind = "json" if options.json else "csv"
        which = "the recording" if count == 1 else f"each of {count} recordings"
        print(f"wrote {options.out}: a .{kind} and a .png for {which}")


def _submit(options: PredictOptions) -> None:
    written = submit(
        *(options.model, options.files, options.out),
        classes=options.classes or None,
        shard=options.shard,
        skip_unreadable=options.skip_unreadable,
        batch_size=options.batch_size,
        precision=options.precision,
        device=options.device,
        compile=options.compile,
        keep_tokens=options.keep_tokens,
    )
    print(f"wrote {written.path}: {written.rows:,} rows of {counted(written.recordings)}")


def _check(options: PredictOptions) -> None:
    threshold, gap = options.threshold, options.merge_gap
    if isinstance(threshold, float) and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold {threshold} is not a probability in [0, 1]")
    if gap is not None and gap < 0:
        raise ValueError(f"--merge-gap {gap} is not a length of time; use 0 or more seconds")
    if gap is not None and threshold is None:
        raise ValueError("--merge-gap joins where a class reaches a threshold; add --threshold")
    if options.format:
        _check_tables(options)
        return
    if world_size() > 1:
        raise ValueError("torchrun's processes share recordings with --format; add it, with --out")
    if options.shard:
        raise ValueError("--shard is for tables of a season; add --format and --out")
    if gap is not None and not options.timeline:
        raise ValueError("--merge-gap is for timelines; add --timeline, or --format and --out")
    if options.out and not options.timeline:
        raise ValueError(
            "--out is for timelines; add --format or --timeline, or use --csv for one table"
        )
    if options.out:
        folder_to_write(str(options.out))
    if options.csv and options.json:
        raise ValueError("--csv and --json are two forms of one table; give one of them")
    if options.csv:
        tables = (CLIP_COLUMNS, TIMELINE_COLUMNS)
        require_replaceable(options.csv, *(",".join(("file", *columns)) for columns in tables))


def _check_tables(options: PredictOptions) -> None:
    if options.out is None:
        raise ValueError(
            f"--format {options.format} needs --out: a folder for a table a recording, or a file"
        )
    if options.csv or options.json:
        other = "--csv" if options.csv else "--json"
        raise ValueError(f"--format says the form of the tables in --out; leave out {other}")
    if options.timeline:
        raise ValueError(
            "--format says when, too; leave out --timeline (--merge-gap 0 joins windows)"
        )
    if options.format == "birdclef":
        _check_submission(options)
    folder_to_write(str(options.out.parent))


def _check_submission(options: PredictOptions) -> None:
    given = {
        "--threshold": options.threshold is not None,
        "--top-k": options.top_k != PredictOptions.top_k,
        "--hop": options.hop is not None,
        "--no-pad": not options.pad,
    }
    for option in (name for name, is_given in given.items() if is_given):
        raise ValueError(
            f"--format birdclef gives every class in rows of five seconds; leave out {option}"
        )


def _results(
    predictions: Iterable[Prediction],
    choice: Choice,
    stems: Mapping[Path, Path],
    options: PredictOptions,
) -> Iterator[tuple[Path, list[Row]]]:
    """The rows of each recording as it is heard, which are written below --out if that is given."""
    for prediction in predictions:
        rows = chosen_rows(prediction.timeline, choice, options.timeline)
        if options.out:
            _write_timeline(stems[prediction.path], prediction, rows, options.json)
        yield prediction.path, rows


def chosen_rows(timeline: Timeline, choice: Choice, as_timeline: bool) -> list[Row]:
    """(class, probability), or (start, end, class, probability) of a timeline.

    With thresholds, what reaches them, windows of a timeline joined; else the `top_k` likeliest.
    """
    timeline, thresholds = choice.kept(timeline), choice.thresholds
    if not as_timeline:
        if thresholds is None:
            return timeline.top(choice.top_k)
        least = dict(zip(choice.classes, thresholds, strict=True))
        return [(name, p) for name, p in timeline.top(len(least)) if p >= least[name]]
    if thresholds is not None:
        return timeline.segments(thresholds, choice.merge_gap or 0.0)
    spans = zip(timeline.starts.tolist(), timeline.ends.tolist(), strict=True)
    return [
        (*span, *best)
        for span, row in zip(spans, timeline.probabilities, strict=True)
        for best in likeliest(row, timeline.classes, choice.top_k)
    ]


def _stems(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Below `out` as the recordings lie below the folder that they share: no two in one file."""
    absolute = {path: Path(os.path.normpath(path.absolute())) for path in files}
    common = os.path.commonpath([path.parent for path in absolute.values()])
    return {path: out / whole.relative_to(common) for path, whole in absolute.items()}


def _write_timeline(stem: Path, prediction: Prediction, rows: list[Row], as_json: bool) -> None:
    """`stem` with .csv or .json and with .png appended."""
    if as_json:
        content = _as_json(prediction.path, rows, timeline=True)
        write_json(stem.with_name(f"{stem.name}.json"), content)
    else:
        write_csv(stem.with_name(f"{stem.name}.csv"), TIMELINE_COLUMNS, rows)
    figure = timeline_figure(prediction.spectrogram, prediction.timeline, prediction.path.name)
    save_figure(figure, stem.with_name(f"{stem.name}.png"))


def _as_json(path: Path, rows: Iterable[Row], timeline: bool) -> dict[str, Any]:
    columns = TIMELINE_COLUMNS if timeline else CLIP_COLUMNS
    entries = [
        {n: round(v, 6) if isinstance(v, float) else v for n, v in zip(columns, row, strict=True)}
        for row in rows
    ]
    return {"file": str(path), "timeline" if timeline else "classes": entries}


def _write_table(results: Iterable[tuple[Path, list[Row]]], options: PredictOptions) -> int:
    """All rows as one CSV file, each as it comes; the number of recordings."""
    recordings = count = 0

    def table() -> Iterator[Row]:
        nonlocal recordings, count
        for path, rows in results:
            recordings, count = recordings + 1, count + len(rows)
            yield from ((path, *row) for row in rows)

    columns = TIMELINE_COLUMNS if options.timeline else CLIP_COLUMNS
    write_csv(options.csv, ("file", *columns), table())
    print(f"wrote {options.csv}: {count} rows for {recordings} recordings")
    return recordings


def _as_text(path: Path, rows: Iterable[Row], options: PredictOptions) -> str:
    lines = []
    for *span, name, probability in rows:
        times = f"{span[0]:8.2f} - {span[1]:7.2f} s  " if span else ""
        lines.append(f"  {times}{probability:6.1%}  {name}")
    least = options.threshold
    missed = f"{least:g}" if isinstance(least, float) else "its threshold"
    return "\n".join([str(path), *(lines or [f"  no class reaches {missed}"])])
