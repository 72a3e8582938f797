"""BirdCLEF's submission: a row for every five seconds of a soundscape, a column a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.inference.detections.choice import choose
from train.inference.detections.detect import hear_season
from train.inference.detections.formats import Format, Heard, Table
from train.inference.detections.output import Output
from train.inference.predict import open_predictor
from train.inference.rows import ROW_SECONDS, require_own_stems, require_rows, row_id
from train.inference.season import Season, Written, model_digest, recordings_a_part
from train.run.tables import write_csv
from train.shards import Shard, own_shard


def write_submission(path: Path, recordings: Iterable[Heard], table: Table) -> None:
    """Columns row_id and the classes; the rows of one recording are in memory at a time."""
    columns = len(table.classes)

    def rows() -> Iterator[tuple[Any, ...]]:
        for heard in recordings:
            starts = heard.detections["start"][::columns].tolist()
            probabilities = heard.detections["probability"].reshape(-1, columns)
            for start, values in zip(starts, probabilities, strict=True):
                yield row_id(heard.path, start), *values.tolist()

    write_csv(path, ("row_id", *table.classes), rows())


SUBMISSION = Format(".submission.csv", write_submission)


def submit(
    model: str | Path,
    files: str | Path | Sequence[str | Path],
    out: Path,
    *,
    classes: Sequence[str] | None = None,
    shard: Shard | None = None,
    skip_unreadable: bool = False,
    batch_size: int = 8,
    precision: str = "fp32",
    device: str = "auto",
    compile: bool = False,
    keep_tokens: float = 1.0,
) -> Written:
    """Write what a model hears in soundscapes in the form of a submission to BirdCLEF.

    A row is five seconds, named by the soundscape's file and the second in which it ends, from the
    beginning to the end of each; a last one that is shorter is heard padded, and named as if it
    were whole. Columns are the model's classes. A journal beside the file lets the same call go on
    after a crash, as that of `detect`.

    Args:
        model, files: as in `predict`.
        out: a file in .csv; or a folder, for a file a soundscape.
        classes: those that are columns; None: all.
        shard, skip_unreadable, batch_size, precision, device, compile, keep_tokens: as in `detect`.

    Raises:
        FileNotFoundError, ValueError: as `detect`; or the model hears less than five seconds, or
            two soundscapes have one name.
    """
    season = Season.of(files, recordings_a_part(batch_size, pad=True), own_shard(shard))
    require_own_stems(season.paths)
    output = Output.of(Path(out), SUBMISSION, season)
    predictor = open_predictor(
        model,
        season.own,
        timeline=True,
        hop=None,
        pad=True,
        spectrograms=False,
        skip_unreadable=skip_unreadable,
        batch_size=batch_size,
        precision=precision,
        device=device,
        compile=compile,
        keep_tokens=keep_tokens,
    )
    require_rows(predictor.classifier)
    predictor.in_rows = True
    choice = choose(predictor.classifier.classes, threshold=0.0, classes=classes)
    run = {
        "command": "predict",
        "recordings": str(season.folder),
        "model": model_digest(model),
        "rows": f"{ROW_SECONDS} s",
        "classes": classes,
        "batch_size": batch_size,
        "precision": predictor.precision,
        "keep_tokens": keep_tokens,
    }
    written = hear_season(predictor, choice, season, output, run, shard)
    return replace(written, rows=written.rows // len(choice.classes))
