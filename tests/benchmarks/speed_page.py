"""Write the tables of docs/speed.md from the results that are committed.

python tests/benchmarks/speed_page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.marked_page import put_between, write_page

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
BEGIN, END = "<!-- speeds: begin -->", "<!-- speeds: end -->"
COLUMNS = ("", "clips/s", "ratio", "to", "of matrix products", "peak memory")


def rendered(text: str, results: Path = RESULTS) -> str:
    """The page's text with the tables of `results` between the two marks, machine by machine.

    Args:
        results: a folder for each machine.

    Raises:
        ValueError: the marks are missing, or a file holds no benchmark's results.
    """
    lines: list[str] = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        files = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
        if files:
            lines.append(f"\n### {machine(files[0])}")
        lines += [line for content in files for line in section(content)]
    tables = "\n".join(lines)
    return put_between(text, BEGIN, END, tables)


def machine(content: Mapping[str, Any]) -> str:
    """What a file's results were measured on."""
    try:
        found = content["machine"]
        features = f" ({' '.join(found['cpu_features'])})" if found["cpu_features"] else ""
        return f"{found['device']}{features}"
    except (KeyError, TypeError) as error:
        raise ValueError(f"a file of results lacks {error}; run its benchmark again") from error


def section(content: Mapping[str, Any]) -> Iterator[str]:
    """One file of results: command, date and versions, and its tables."""
    try:
        command, date = content["command"], content["date"]
        versions = content["machine"]["packages"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"a file of results lacks {error}; run its benchmark again") from error
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    yield f"\n`{command}`, {date}; {packages}."
    if rates := content.get("matrix_products"):
        rate = ", ".join(f"{dtype} {rate / 1e9:,.0f}" for dtype, rate in rates.items())
        yield f"Matrix products of this machine, in GFLOP/s: {rate}."
    if left_out := content.get("left_out"):
        yield f"Left out, since this CPU multiplies it far slower than fp32: {', '.join(left_out)}."
    if "cases" in content:
        yield from heading(COLUMNS)
        for case in content["cases"]:
            yield f"| **{case['case']}** | | | | | |"
            yield from map(line, case["rows"])
    if rows := content.get("rows"):
        columns = list(dict.fromkeys(column for row in rows for column in row))
        yield from heading(columns)
        for row in rows:
            yield f"| {' | '.join(plain(row.get(column, '')) for column in columns)} |"
    for name, value in content.get("figures", {}).items():
        yield f"\n{name}: {value}"


def heading(columns: Sequence[str]) -> Iterator[str]:
    yield f"\n| {' | '.join(columns)} |\n| {' | '.join('---' for _ in columns)} |"


def plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line(row: Mapping[str, Any]) -> str:
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    share = f"{100 * row['share']:.0f} %" if "share" in row else ""
    memory = f"{row['peak_memory'] / 2**20:,.0f} MiB"
    speed = row["clips_per_second"]
    digits = 0 if speed >= 100 else 1 if speed >= 10 else 2
    cells = (row["name"], f"{speed:,.{digits}f}", ratio, row.get("to", ""), share, memory)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    write_page(PAGE, rendered(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
