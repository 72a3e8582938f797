"""Write the README's table of speeds from the results that are committed.

python tests/benchmarks/readme.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weights.files import atomic_file

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- speeds: begin -->", "<!-- speeds: end -->"
COLUMNS = ("", "clips/s", "ratio", "to", "of matrix products", "peak memory")


def rendered(text: str, results: Path = RESULTS) -> str:
    """The README's text with the tables of `results` between the two marks.

    Raises:
        ValueError: the marks are missing, or a file is not a benchmark's.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README lacks {BEGIN} or {END}; put them around its speeds")
    files = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    ]
    tables = "\n".join(line for content in files for line in section(content))
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def section(content: Mapping[str, Any]) -> Iterator[str]:
    """One file: who ran what where, and a table a case of those rows that are ours."""
    try:
        machine, rates = content["machine"], content["matrix_products"]
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        cases = content["cases"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"a file of results lacks {error}; run its benchmark again") from error
    rate = "; ".join(f"{dtype} {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in rates.items())
    yield f"\n`{content['command']}`, {content['date']}: {machine['device']}; {packages}."
    if rate:
        yield f"Matrix products of this machine: {rate}."
    yield f"\n| {' | '.join(COLUMNS)} |\n| {' | '.join('---' for _ in COLUMNS)} |"
    for case in cases:
        yield f"| **{case['case']}** | | | | | |"
        yield from map(line, case["rows"])
    for name, value in content.get("figures", {}).items():
        yield f"\n{name}: {value}"


def line(row: Mapping[str, Any]) -> str:
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    share = f"{100 * row['share']:.0f} %" if "share" in row else ""
    memory = f"{row['peak_memory'] / 2**20:,.0f} MiB"
    speed = row["clips_per_second"]
    digits = 0 if speed >= 100 else 1 if speed >= 10 else 2
    cells = (row["name"], f"{speed:,.{digits}f}", ratio, row.get("to", ""), share, memory)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    text = rendered(README.read_text(encoding="utf-8"))
    with atomic_file(README) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote the speeds into {README.name}")


if __name__ == "__main__":
    main()
