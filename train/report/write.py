"""The page: what it shows is collected, written into the template, and saved as one file."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.files import atomic_file, read_json
from train.experiments.run_table import ROW
from train.report.charts import HEIGHT, WIDTH
from train.report.runs import SCORES, RunsPage, describe_runs, find_folds
from train.report.scores import BINS
from train.report.tables import TablePage, describe_table, is_table
from train.run.folder import RECIPE

TEMPLATES = Path(__file__).parent
GENERATOR = '<meta name="generator" content="ast-audio report">'  # by which we know our own pages
HEAD = 2000  # bytes at whose beginning it is
MOST_BYTES = 10_000_000  # of the page
MOST_MEDIA = 8_500_000  # of its sounds and pictures
MOST_MISTAKES = 50

logger = logging.getLogger(__name__)


def write_report(
    source: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    mistakes: int = 12,
    device: str = "auto",
) -> list[str]:
    """Write a run, a cross-validation or an ablation as one HTML file that needs nothing else.

    Args:
        source: run folder, folder of a cross-validation, or of an ablation.
        out: the file; one that is no such page is not replaced.
        data: the runs' data, as for `evaluate`, for sounds, spectrograms and attention of the
            mistakes; None: without.
        mistakes: how many are shown, the most confident first; up to 50.
        device: for attention; auto (GPU where there is one), cpu, cuda or cuda:N.

    Returns:
        What the page lacks and why, a sentence each.

    Raises:
        FileNotFoundError, ValueError: `source` is none of the three, has no finished epoch, was
            pretrained without labels, or a file in it is damaged; the data is not that of the run;
            `out` is a folder or a file of others.
    """
    folder, out = Path(source), Path(out)
    _require_replaceable(out)
    if not 0 <= mistakes <= MOST_MISTAKES:
        raise ValueError(f"{mistakes} mistakes cannot be shown; use 0 to {MOST_MISTAKES}")
    page = _describe(folder, None if data is None else Path(data), mistakes, device)
    text = _render(page).encode(errors="replace")
    if len(text) > MOST_BYTES:
        raise ValueError(
            f"the page of {folder} would have {len(text):,} bytes, more than {MOST_BYTES:,}: show "
            "fewer mistakes"
        )
    with atomic_file(out) as temporary:
        temporary.write_bytes(text)
    return page.notes


def _require_replaceable(out: Path) -> None:
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give a file that ends in .html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{out} is to be a page; give a name that ends in .html")
    if not out.exists():
        return
    with out.open("rb") as file:
        if GENERATOR.encode() not in file.read(HEAD):
            raise ValueError(f"{out} exists and is no page of `report`; give another --out")


def _describe(folder: Path, data: Path | None, mistakes: int, device: str) -> RunsPage | TablePage:
    if not folder.exists():
        raise FileNotFoundError(f"folder {folder} does not exist; give that of a run")
    if (folder / RECIPE).is_file():
        return describe_runs(folder, [folder], data, mistakes, device, MOST_MEDIA)
    if folder.is_dir() and is_table(folder):
        return describe_table(folder)
    folds = find_folds(folder) if folder.is_dir() else []
    if not folds:
        raise ValueError(
            f"{folder} is no run, cross-validation or ablation; give a folder that `train`, "
            "`crossval` or `ablate` made"
        )
    return describe_runs(folder, folds, data, mistakes, device, MOST_MEDIA)


def _render(page: RunsPage | TablePage) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "uri": _json_uri}
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    name = "runs.html" if isinstance(page, RunsPage) else "table.html"
    return environment.get_template(name).render(
        page=page,
        generator=Markup(GENERATOR),
        style=Markup(style),
        style_hash=digest,
        files=_recipe_files(page),
        version=version("ast-audio"),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        width=WIDTH,
        height=HEIGHT,
        score_names=SCORES,
        bins=BINS,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _json_uri(content: dict[str, Any]) -> str:
    """A data URI of a JSON file to be saved."""
    text = json.dumps(content, indent=2).encode()
    return f"data:application/json;base64,{base64.b64encode(text).decode()}"


def _recipe_files(page: RunsPage | TablePage) -> dict[str, dict[str, Any]]:
    """The files that repeat what the page is of, by the name that they are saved under."""
    if isinstance(page, RunsPage):
        return {"recipe.json": read_json(page.runs[0].folder / RECIPE)}
    return {f"{name}.json": read_json(page.folder / name / ROW) for name in page.recipes}
