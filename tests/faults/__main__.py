"""Interrupts the commands at every operation on files, and writes what came of it."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from data.files import write_json
from tests.faults.commands import make_commands, make_inputs, serving
from tests.faults.faults import Trials, counts, delays, faulty_disk
from tests.marked_page import put_between, write_page

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = """
A command's operations on files (write, fsync, open, rename, mkdir, unlink, …) are counted, and
one of them fails: the disk is full (ENOSPC), breaks (EIO) or takes half a write and is full, or
the process is killed there. What has to hold: one line and exit 2, older versions readable, and
after the same command again the same bits as undisturbed, and nothing else. Training is of a
micro model, two epochs.

```console
$ python -m tests.faults    # every operation; --most 30: an even sample
```
"""
KINDS = ("ENOSPC", "EIO", "short", "kill", "killed at random")


def main() -> int:
    """Try the commands, one line each; exit code 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of commands")
    parser.add_argument("--most", type=int, help="of the interruptions of a command, spread evenly")
    parser.add_argument("--kills", type=int, default=20, help="a command, at random")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of these kills")
    parser.add_argument("--plots", action="store_true", help="training draws them too")
    options = parser.parse_args()
    shared = Path("/dev/shm")  # in memory: what is tried is the order, not the disk
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        failed = try_all(Path(name), options)
    return int(failed)


def try_all(scratch: Path, options: argparse.Namespace) -> bool:
    """Try every command; the results of those that were not tried stay."""
    make_inputs(scratch)
    failed = False
    with serving(scratch / "served") as address, faulty_disk(scratch) as disk:
        for name, command in make_commands(scratch, address, options.plots).items():
            if options.only and name not in options.only:
                continue
            trials = Trials(disk, command, scratch / "work")
            problems = [
                (kind, trials.interrupt(at, kind)) for at, kind in trials.points(options.most)
            ]
            for moment in delays(trials, options.kills, options.seed):
                problems.append(("killed at random", trials.kill(moment)))
            row = {"operations": len(trials.operations), **counts(problems)}
            for problem in filter(None, dict.fromkeys(problem for _, problem in problems)):
                print(f"  {problem}")
            print(f"{name}: {json.dumps(row)}", flush=True)
            failed |= row["failed"] > 0
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            write_json(RESULTS, {**results, name: row})
            text = PAGE.read_text(encoding="utf-8")
            write_page(PAGE, put_between(text, BEGIN, END, f"{HEAD}\n{table()}\n"))
    return failed


def table() -> str:
    """The results in Markdown."""
    lines = [" | ".join(["Command", "operations", *KINDS, "failed"])]
    lines.append(" | ".join(["---", *["--:"] * (len(KINDS) + 2)]))
    for name, row in json.loads(RESULTS.read_text()).items():
        numbers = [row["operations"], *(row.get(kind, 0) for kind in KINDS), row["failed"]]
        lines.append(" | ".join([f"`{name}`", *map(str, numbers)]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
