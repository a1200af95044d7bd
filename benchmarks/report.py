"""Writes docs/figures.md from the results in benchmarks/results/; nobody copies a figure by hand.

    python -m benchmarks.learning --beir DIR --seeds 1 | tail -n 1 > benchmarks/results/learning-pbm.json
    python -m benchmarks.report

Each result is the last line of a benchmark's output, saved under the name of its row. The rows stand in
`benchmarks/report_rows.py`. The page depends on nothing but rows and results, so that a test can write it again.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import ROOT
from benchmarks.report_figures import Figure, Row
from benchmarks.report_rows import GROUPS

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "figures.md"
BUSY = 1.5  # processes for each core from which on times say more about the other work than about ours
HEAD = """\
# Figures

`python -m benchmarks.report` writes this page from the results in `benchmarks/results/`. Do not edit it by hand.

Each row names the seeds, the commit, the machine and the command that gave it. `DIR` and a bare name such as `scifact`
stand for a folder in BEIR's layout. nDCG@10 is given in points of 100. "Seen" are test queries with a relevant
document that training touched, "unseen" all others. A `+` after a commit means that tracked files differed from it.
The load is the mean number of processes that wanted a core in the five minutes before the benchmark ended. A row says
"busy" where that is more than one and a half for each core: then other work slowed it down, and its times are too long.

To measure a row again, run its command, and save the last line of its output:

```sh
python -m benchmarks.evaluator bandit | tail -n 1 > benchmarks/results/evaluator-bandit.json
python -m benchmarks.report
```
"""
OPEN = """\
## Not yet measured in this form

These benchmarks exist, and no result of theirs is stored yet. So they have no figure here.

| what | command |
|---|---|
"""


class ResultError(Exception):
    """A stored result does not fit its row; the message names both."""


def page(results: dict[str, dict[str, Any]]) -> str:
    """The whole page. `results` holds a benchmark's JSON object by the name of its row.

    Raises:
        ResultError: a result has no row, came from another command, or lacks a figure.
    """
    rows = {row.name: row for _, group in GROUPS for row in group}
    if strangers := sorted(set(results) - set(rows)):
        raise ResultError(f"no row in report_rows.py is called {', '.join(strangers)}")
    parts = [HEAD]
    for title, group in GROUPS:
        lines = [line(row, results[row.name]) for row in group if row.name in results]
        if lines:
            head = "| what | figures | seeds | commit | machine | command |\n|---|---|---|---|---|---|\n"
            parts.append(f"## {title}\n\n{head}" + "".join(lines))
    missing = [row for row in rows.values() if row.name not in results]
    if missing:
        parts.append(OPEN + "".join(f"| {row.what} | `{row.command}` |\n" for row in missing))
    return "\n".join(parts)


def line(row: Row, result: dict[str, Any]) -> str:
    """One line of a table."""
    run = result.get("run")
    if not isinstance(run, dict):
        raise ResultError(f"{row.name}: the result does not say where it comes from; save the benchmark's last line")
    if _without_seeds(run["command"]) != _without_seeds(row.command):
        raise ResultError(f"{row.name}: the result is of `{run['command']}`, the row of `{row.command}`")
    machine = run["machine"]
    load = "" if machine["load"] is None else f", load {machine['load']:g}"
    if (machine["load"] or 0) > BUSY * machine["cores"]:
        load += " (busy)"
    cells = (
        row.what,
        "<br>".join(f"{figure.label}: {told(row, figure, result)}" for figure in row.figures),
        ", ".join(map(str, run["seeds"])) or "none",
        run["commit"] or "unknown",
        f"{machine['cpu']}, {machine['cores']} cores{load}; {run['seconds']:.0f} s",
        f"`{run['command']}`",
    )
    return f"| {' | '.join(cells)} |\n"


def told(row: Row, figure: Figure, result: dict[str, Any]) -> str:
    """A figure's values as a person reads them, in the order in which the result has them."""
    values = list(_values(result, figure.path.split("/")))
    if not values:
        raise ResultError(f"{row.name}: the result has no {figure.path}")
    return ", ".join(figure.unit.tell(value) for value in values)


def _values(found: Any, path: list[str]) -> list[Any]:
    """What stands at `path`; `*` stands for every element of a list or every value of an object."""
    if not path:
        return [found]
    key, *rest = path
    if key == "*":
        inner = found.values() if isinstance(found, dict) else found
        return [value for item in inner for value in _values(item, rest)]
    if isinstance(found, dict) and key in found:
        return _values(found[key], rest)
    return []


def _without_seeds(command: str) -> str:
    """The command but for which seeds it used, and where it kept vectors."""
    return re.sub(r" --(first-seed|seeds|seed|vectors|indexes|threads) \S+", "", command)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The stored results by the name of their file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def main() -> None:
    """Write the page; exit with 1 and one line where a result does not fit."""
    try:
        PAGE.write_text(page(read(RESULTS)), "utf-8")
    except ResultError as error:
        raise SystemExit(f"benchmarks.report: {error}") from error


if __name__ == "__main__":
    main()
