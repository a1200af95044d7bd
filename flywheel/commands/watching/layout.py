"""Figures and times as people read them, in columns that fit 80."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

WIDTH = 80
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def span(seconds: float | None) -> str:
    """A time span in its largest unit: 42 s, 3 min, 5 h, 12 d."""
    if seconds is None:
        return "–"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def ago(iso: str | None, now: datetime) -> str:
    """How long ago an ISO time was; "never" where there is none."""
    if not iso:
        return "never"
    at = datetime.fromisoformat(iso)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return f"{span(max(0.0, (now - at).total_seconds()))} ago"


def count(number: float | None) -> str:
    """A whole number with its thousands apart."""
    return "–" if number is None else f"{number:,.0f}"


def many(number: float, noun: str) -> str:
    """A count and its noun, in the singular for one."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def figure(value: float | None) -> str:
    """A measurement: whole numbers as such, others to three digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return count(value) if float(value).is_integer() else f"{value:.3g}"


def share(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def width() -> int:
    """Of the terminal, and never more than is comfortable to read."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def lines(name: str, words: str, *, indent: int = 13) -> list[str]:
    """`name` and its words beside it, wrapped below each other."""
    return textwrap.wrap(
        words, width(), initial_indent=f"{name:<{indent}}", subsequent_indent=" " * indent, break_long_words=False
    ) or [name]


def columns(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> list[str]:
    """A table whose last column takes what is left of the width, and is wrapped there."""
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(head) - 1)]
    start = sum(widths) + 2 * len(widths)
    told = []
    for row in texts:
        left = "  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=False))
        left = f"{left}  " if widths else ""
        wrapped = textwrap.wrap(row[-1], max(20, width() - start)) or [""]
        told.append(f"{left}{wrapped[0]}".rstrip())
        told += [" " * start + more for more in wrapped[1:]]
    return told
