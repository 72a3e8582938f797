"""Write the campaign's table of docs/reliability.md from the counts that are committed.

python -m tests.campaign.reliability_page
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.marked_page import put_between, write_page

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- campaign: begin -->", "<!-- campaign: end -->"
COLUMNS = ("inputs", "first tried", "broke", "what broke", "tried now", "read", "refused", "failed")
FIRST = {  # the campaign from outside, before anything was mended: tried, broke, what
    "audio": ("audio", 750, 24, "samples of 1e19 and more load, and score NaN"),
    "tables": ("tables of clips", 375, 13, "no UTF-8; timestamps of 2^62; no file or line named"),
    "layouts": ("corpus layouts", 250, 2, "a path that is not UTF-8"),
    "archives": (
        "archives",
        300,
        17,
        "2 GB in a tar header, seeks without end, 64 GB of zeros, 2,000 folders deep, zip flag 6",
    ),
    "models": (
        "model folders",
        825,
        226,
        "fields of JSON: errors of other kinds that name no file, 17 GB allocated, NaN accepted",
    ),
    "checkpoints": (
        "`.pth` and `.bin`",
        350,
        61,
        "zero strides, deflated records, keys that are no strings, sparse and meta tensors, NaN",
    ),
    "runs": (
        "run folders",
        150,
        40,
        "`state.pt` of another content, damaged CSV files, NaN that trains on",
    ),
}


def rendered(text: str, results: Path = RESULTS) -> str:
    """The page's text with the counts of `results` between the two marks.

    Raises:
        ValueError: the marks are missing, or the file holds no counts of every class.
    """
    table = "\n".join(lines(json.loads(results.read_text(encoding="utf-8"))))
    return put_between(text, BEGIN, END, table)


def lines(content: dict[str, Any]) -> Iterator[str]:
    """Date and seed of the campaign, a row a class, and the sums."""
    if missing := set(FIRST) - set(content["classes"]):
        raise ValueError(f"the counts lack {', '.join(sorted(missing))}; run make campaign again")
    now = [content["classes"][name] for name in FIRST]
    yield f"\nNow: {content['date']}, seeds from {content['seed']:,} on.\n"
    yield f"| {' | '.join(COLUMNS)} |\n| {' | '.join('---' for _ in COLUMNS)} |"
    for (name, tried, broke, what), counts in zip(FIRST.values(), now, strict=True):
        yield row(name, tried, broke, what, counts)
    total = {key: sum(counts[key] for counts in now) for key in now[0]}
    first = FIRST.values()
    yield row("**all**", sum(each[1] for each in first), sum(each[2] for each in first), "", total)
    yield ""


def row(name: str, tried: int, broke: int, what: str, counts: dict[str, int]) -> str:
    figures = [f"{counts[key]:,}" for key in ("tried", "ok", "refused", "failed")]
    return f"| {' | '.join([name, f'{tried:,}', f'{broke:,}', what, *figures])} |"


def main() -> None:
    write_page(PAGE, rendered(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
