"""Tables that programs write into pages of the documentation, each between two marks."""

from __future__ import annotations

from pathlib import Path

from data.files import atomic_file


def put_between(text: str, begin: str, end: str, table: str) -> str:
    """A page's text with a table between two marks, in place of what was there.

    Raises:
        ValueError: a mark is missing.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page lacks {begin} or {end}; put them around its tables")
    return f"{before}{begin}\n{table}\n{end}{after}"


def write_page(page: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote the tables of {page.name}")
