"""What the page says of an ablation: its table and plot as they were written, and its runs."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from train.experiments.run_table import ROW
from train.experiments.runs import RunSummary, list_runs
from train.recipe import Recipe
from train.run.environment import Start, read_starts
from train.run.folder import find_runs, read_recipe

TABLE, PLOT = "table.md", "table.png"
MOST_TEXT = 1_000_000  # bytes of a table
MOST_PLOT = 2_000_000
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class TablePage:
    """An ablation as the page shows it."""

    folder: Path
    title: str
    header: list[str]
    rows: list[list[str]]
    verdicts: list[str]
    reading: str  # how the table is to be read
    plot: str  # data URI; "" where there is none
    runs: list[RunSummary]
    recipes: dict[str, Recipe]  # of each row
    starts: dict[str, list[Start]]  # of each run
    notes: list[str] = field(default_factory=list)

    @property
    def scores(self) -> list[str]:
        """Each row's name and score, for those who do not see the plot."""
        columns = [number for number, name in enumerate(self.header) if name.endswith(" (%)")]
        return [", ".join([row[0], *(row[n] + " %" for n in columns)]) for row in self.rows]


def is_table(folder: Path) -> bool:
    """Whether a folder is that of an ablation."""
    return (folder / TABLE).is_file() or any(folder.glob(f"*/{ROW}"))


def describe_table(folder: Path) -> TablePage:
    """The table that an ablation has written, and the runs that it is of.

    Raises:
        FileNotFoundError, ValueError: it has none yet, or the file holds something else.
    """
    file = folder / TABLE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: tabulate the finished runs with `ast-audio ablate … --report`"
        )
    title, cells, verdicts, reading = _parse(file)
    recipes = {path.parent.name: read_recipe(path)[0] for path in sorted(folder.glob(f"*/{ROW}"))}
    starts = {str(run.relative_to(folder)): read_starts(run) for run in find_runs(folder)}
    page = TablePage(
        folder, title, cells[0], cells[1:], verdicts, reading, "", list_runs(folder), recipes,
        starts,
    )  # fmt: skip
    _add_plot(page)
    if unfinished := sum(run.state != "finished" for run in page.runs):
        page.notes.append(f"{unfinished} of {len(page.runs)} runs are not finished.")
    return page


def _parse(file: Path) -> tuple[str, list[list[str]], list[str], str]:
    """Title, cells, verdicts and notes of a table as `table_report.markdown` writes it."""
    with file.open("rb") as stream:
        content = stream.read(MOST_TEXT + 1)
    try:
        if len(content) > MOST_TEXT:
            raise ValueError(f"more than {MOST_TEXT:,} bytes")
        lines = content.decode().splitlines()
    except ValueError as error:
        raise ValueError(f"{file} is not the table of an ablation: {error}") from None
    titles = [line[4:] for line in lines if line.startswith("### ")]
    cells = [_cells(line) for line in lines if line.startswith("| ") and line.endswith(" |")]
    del cells[1:2]  # the rule below the headings
    if not titles or len(cells) < 2 or len({len(row) for row in cells}) > 1:
        raise ValueError(
            f"{file} is not the table of an ablation, or damaged: tabulate the runs again with "
            "`ast-audio ablate … --report`"
        )
    verdicts = [line[2:] for line in lines if line.startswith("- ")]
    reading = [line for line in lines if line and not line.startswith(("### ", "| ", "- "))]
    return titles[0], cells, verdicts, " ".join(reading)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[2:-2].split(" | ")]


def _add_plot(page: TablePage) -> None:
    file = page.folder / PLOT
    content = b""
    if file.is_file():
        with file.open("rb") as stream:
            content = stream.read(MOST_PLOT + 1)
    if not content.startswith(PNG) or len(content) > MOST_PLOT:
        page.notes.append(f"Without the plot: {PLOT} is missing, or is no picture that fits.")
        return
    page.plot = f"data:image/png;base64,{base64.b64encode(content).decode()}"
