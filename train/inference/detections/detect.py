"""Tables of what a model hears in a season of recordings, resumed where that was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.distributed import barrier, is_main_process
from train.inference.detections.choice import Choice, choose
from train.inference.detections.formats import FORMATS, Heard, Table
from train.inference.detections.output import Output
from train.inference.predict import Predictor, open_predictor
from train.inference.season import (
    Entry,
    Found,
    Journal,
    Season,
    Written,
    model_digest,
    open_journal,
    recordings_a_part,
    table_of_shard,
)
from train.shards import Shard, own_shard

CLOSE = 1e-3  # seconds; a header that is further off does not know how long the recording is

logger = logging.getLogger(__name__)


def detect(
    model: str | Path,
    files: str | Path | Sequence[str | Path],
    out: Path,
    form: str = "csv",
    *,
    threshold: float | Mapping[str, float] | None = None,
    classes: Sequence[str] | None = None,
    top_k: int = 5,
    merge_gap: float | None = None,
    shard: Shard | None = None,
    hop: float | None = None,
    pad: bool = True,
    skip_unreadable: bool = False,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    compile: bool = False,
    keep_tokens: float = 1.0,
) -> Written:
    """Write tables of when a model hears what in recordings, however many.

    What was heard is kept in a journal beside the tables: the same call after a crash goes on, and
    what it writes is what an undisturbed one writes, byte for byte. A recording whose size or time
    of change differs from the journal's is heard again, and so is one that could not be read.
    Processes of torchrun share the recordings.

    Args:
        model, files: as in `predict`.
        out: a folder, for a table a recording at the same place as below the folder that was named
            (of several, below the one that they share); or a file that ends as the format's do, for
            one of them all.
        form: one of `FORMATS`.
        threshold: least probability, of all classes or by class; None: the `top_k` likeliest.
        classes: those that are kept; None: all.
        top_k: classes a window.
        merge_gap: windows of one class up to so many seconds apart are one detection; None: each
            window is one.
        shard: hear this share alone. Of several shards with one `out`, each writes a table of its
            own; called without a shard afterwards, `detect` writes the table of all from their
            journals, and hears only what is missing.
        hop, pad, skip_unreadable, batch_size, precision, device, compile, keep_tokens: as in
            `predict`.

    Raises:
        FileNotFoundError, ValueError: as `predict`; or the journal is of another model or other
            options, `out` is of something else, or a class is unknown to the model.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r:.60} is unknown; use one of {', '.join(FORMATS)}")
    season = Season.of(files, recordings_a_part(batch_size, pad), own_shard(shard))
    output = Output.of(Path(out), FORMATS[form], season)
    predictor = open_predictor(
        model,
        season.own,
        timeline=True,
        hop=hop,
        pad=pad,
        spectrograms=False,
        skip_unreadable=skip_unreadable,
        batch_size=batch_size,
        precision=precision,
        device=device,
        compile=compile,
        keep_tokens=keep_tokens,
    )
    choice = choose(predictor.classifier.classes, threshold, classes, top_k, merge_gap)
    run = {
        "command": "predict",
        "recordings": str(season.folder),
        "model": model_digest(model),
        "threshold": threshold,
        "classes": classes,
        "top_k": top_k,
        "merge_gap": merge_gap,
        "hop": hop,
        "pad": pad,
        "batch_size": batch_size,
        "precision": predictor.precision,
        "keep_tokens": keep_tokens,
    }
    return hear_season(predictor, choice, season, output, run, shard)


def hear_season(
    predictor: Predictor,
    choice: Choice,
    season: Season,
    output: Output,
    run: Mapping[str, Any],
    shard: Shard | None,
) -> Written:
    """Hear what the journal lacks of a season, and write its tables.

    Args:
        predictor: of the season's own recordings.
        run: the model and the options that decide what is found, for the journal.
        shard: that was asked for; None: the table is of all recordings.
    """
    band = predictor.classifier.frontend.fbank.band
    table = Table(choice.classes, band, season.folder, output.combined)
    with open_journal(output.journal, run, season.shard) as journal:
        _hear(predictor, choice, season, journal, output, table)
        if not output.combined:
            _write_missing(season, journal, output, table)
        barrier()  # until torchrun's other processes have heard theirs
        journal.refresh()
        heard = season.heard(journal, season.own if shard else season.paths)
        own_file = shard and output.combined
        path = table_of_shard(output.path, shard) if own_file else output.path
        if output.combined and is_main_process():
            output.form.write(path, _recordings(journal, heard), table)
        return Written(path, len(heard), sum(entry.rows for entry in heard.values()))


def _hear(
    predictor: Predictor,
    choice: Choice,
    season: Season,
    journal: Journal,
    output: Output,
    table: Table,
) -> None:
    """Hear what the journal lacks; a recording's own table is written before its entry there."""
    recordings = predictor.recordings
    predictor.parts, predictor.before = season.progress(journal, recordings.seconds)
    heard_before = journal.names

    def found() -> Iterator[Found]:
        for prediction in predictor.predictions():
            path = prediction.path
            seconds, heard = recordings.seconds[path], prediction.timeline.ends[-1].item()
            seconds = seconds if abs(seconds - heard) < CLOSE else heard
            detections = choice.detections(prediction.timeline)
            if not output.combined and season.stamps[path] not in journal:
                one = Heard(path, seconds, recordings.rates[path], detections)
                output.form.write(output.beside(path, season.folder), [one], table)
                if season.stamps[path][0] in heard_before:
                    _note_outdated(path, season, output)
            yield path, seconds, detections

    season.keep(journal, found(), recordings.rates)


def _note_outdated(path: Path, season: Season, output: Output) -> None:
    """Log a changed recording's tables in other formats, which somebody may have worked on."""
    for form in FORMATS.values():
        other = replace(output, form=form).beside(path, season.folder)
        if form != output.form and other.exists():
            logger.warning(
                f"{other} is of {path} before that changed; remove it, and the command with its "
                "--format writes it anew"
            )


def _write_missing(season: Season, journal: Journal, output: Output, table: Table) -> None:
    """Tables of another format, or that somebody removed, from what the journal knows."""
    missing = {
        path: entry
        for path, entry in season.heard(journal, season.own).items()
        if not output.beside(path, season.folder).exists()
    }
    for one in _recordings(journal, missing):
        output.form.write(output.beside(one.path, season.folder), [one], table)


def _recordings(journal: Journal, heard: Mapping[Path, Entry]) -> Iterator[Heard]:
    arrays = journal.arrays(heard.values())
    for (path, entry), detections in zip(heard.items(), arrays, strict=True):
        yield Heard(path, entry.seconds, entry.sample_rate, detections)
