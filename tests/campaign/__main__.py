"""Command line of the campaign: a line a class, what failed, and exit code 1 if anything did."""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

from data.files import write_json
from tests.campaign.campaign import CLASSES, KEPT, campaign
from tests.campaign.case import FAILED, OK, REFUSED, Verdict


def show(verdict: Verdict) -> None:
    """A failure, and how to see it again."""
    if verdict.outcome == FAILED:
        last = verdict.reason.strip().splitlines()[-1]
        print(f"  {verdict.how}: {last[:300]}")
        print(f"    python -m tests.campaign --only {verdict.name} --seed {verdict.seed} --count 1")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="inputs of each class")
    parser.add_argument("--seed", type=int, default=0, help="of the first input of each")
    parser.add_argument("--only", choices=CLASSES, help="one class")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--out", type=Path, help="a JSON file for the counts")
    options = parser.parse_args()
    names = [options.only] if options.only else list(CLASSES)
    outcomes = campaign(names, options.count, options.seed, options.workers, show)
    rows = {
        name: {"tried": counts.total(), **{each: counts[each] for each in (OK, REFUSED, FAILED)}}
        for name, counts in outcomes.items()
    }
    print("class: tried ok refused failed")
    for name, row in rows.items():
        print(f"{name}: {' '.join(map(str, row.values()))}")
    if options.out:
        date = datetime.date.today().isoformat()
        write_json(options.out, {"date": date, "seed": options.seed, "classes": rows})
    failed = sum(row[FAILED] for row in rows.values())
    if failed:
        print(f"{failed} failed; the inputs are in {KEPT}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
