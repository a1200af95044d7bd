"""Shows answers: one JSON line on standard output for programs, tables for people, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

Report = Callable[[int, int], None]
_PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.5


def print_json(value: Any) -> None:
    """One value on one line; NaN and infinity, which JSON lacks, become null."""
    click.echo(as_text(value))


def as_text(value: Any) -> str:
    """One value as JSON, see `print_json`."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.decode("utf-8", "replace")
        case Path():
            return str(value)
        case _:
            return value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on standard output, as wide as the terminal; no row is dropped."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=SIMPLE_HEAD, title=title, title_justify="left")
    for row in rows:
        grid.add_row(*(Text(text(cell)) for cell in row))
    # a pipe has no width; there long lines are better than wrapped words
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(grid)


def facts(pairs: Mapping[str, Any], *, indent: int = 0) -> None:
    """`name  value` lines, nested mappings indented below their name."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        margin = " " * indent
        if isinstance(value, Mapping) and value:
            click.echo(f"{margin}{name}")
            facts(value, indent=indent + 2)
        else:
            click.echo(f"{margin}{name:<{width}}  {text(value)}")


def text(value: Any) -> str:
    """A cell: numbers are shortened, None is a dash, lists are joined."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if math.isfinite(value) else "–"
        case list() | tuple():
            items = [text(item) for item in value]
            return ("; " if any(", " in item for item in items) else ", ").join(items) or "–"
        case Mapping():
            return ", ".join(f"{key} {text(item)}" for key, item in value.items()) or "–"
        case _:
            return str(value)


def note(message: str) -> None:
    """A line for people, on standard error."""
    click.echo(message, err=True)


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A bar on standard error, fed as `report(done, total)`; if that is no terminal, a line at each tenth, or at each
    doubling where the total is 0 because nobody knows it."""
    if not sys.stderr.isatty():
        yield _plain_progress(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each of several named steps, one after the other, fed as `report(label, done, total)`."""
    with ExitStack() as stack:
        open_now: dict[str, Report] = {}

        def report(label: str, done: int, total: int) -> None:
            if label not in open_now:
                stack.close()
                open_now.clear()
                open_now[label] = stack.enter_context(progress(label))
            open_now[label](done, total)

        yield report


def _plain_progress(label: str) -> Report:
    shown, last = -1, 0

    def report(done: int, total: int) -> None:
        nonlocal shown, last
        if not total and done >= 2 * last:  # of unknown length: a line at each doubling
            shown, last = -1, done
        tenth = 10 * done // total if total else 0
        if tenth > shown:
            shown = tenth
            note(f"{label}: {done} of {total}" if total else f"{label}: {done}")

    return report


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A moving sign on standard error during work of unknown length; if that is no terminal, one line after 2 s."""
    if not sys.stderr.isatty():
        timer = threading.Timer(_PATIENCE_SECONDS, note, [f"{label} …"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        return
    from rich.console import Console

    with Console(stderr=True).status(label):
        yield


@contextmanager
def following(label: str, models: Path) -> Iterator[None]:
    """A bar for the training that runs meanwhile, from the progress file that the trainer keeps beside its model."""
    since, stop = time.time(), threading.Event()
    with progress(label) as report:
        watcher = threading.Thread(target=_follow, args=(models, since, report, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _follow(models: Path, since: float, report: Report, stop: threading.Event) -> None:
    while not stop.wait(_LOOK_SECONDS):
        step = training_step(models, since)
        if step is not None:
            report(*step)


def training_step(models: Path, since: float) -> tuple[int, int] | None:
    """(step, steps) of the training that wrote its progress after `since` (epoch seconds); None if there is none."""
    files = [(path.stat().st_mtime, path) for path in models.glob("**/*.progress.json")]
    recent = [path for moment, path in sorted(files) if moment >= since]
    if not recent:
        return None
    try:
        facts = json.loads(recent[-1].read_text("utf-8"))
        return int(facts["step"]), int(facts["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
