"""`ast-audio ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from data.files import atomic_file, require_replaceable
from train.cli.options import TO_FILE, parse, unless_given
from train.experiments.ledger import ledger


@dataclass(frozen=True)
class LedgerOptions:
    """A Markdown table of the published results: the command of each, its needs, and our score."""

    runs: Path = Path("runs")
    """Folder with the runs, which are looked through for those of the same recipe."""
    bench: Annotated[tuple[Path, ...], unless_given("none")] = ()
    """Measured speeds, as `ast-audio cost` writes them, for the hours."""
    out: Annotated[Path | None, TO_FILE, unless_given("printed")] = None
    """File to write."""


def run(words: Sequence[str]) -> None:
    options = parse(LedgerOptions, words, "ledger")
    text = ledger(options.runs, options.bench)
    if options.out is None:
        print(text)
        return
    require_replaceable(options.out, text.partition("\n")[0])
    with atomic_file(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {options.out}")
