"""What a row of docs/figures.md is made of: figures, and how each is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """How a value is written."""

    tell: Callable[[Any], str]


@dataclass(frozen=True)
class Figure:
    """`label` for people; `path` into the result, parts divided by `/`, `*` for every element; how it is written."""

    label: str
    path: str
    unit: Unit


@dataclass(frozen=True)
class Row:
    """`name` of the stored result; `what` it answers; the `command` that measures it."""

    name: str
    what: str
    command: str
    figures: tuple[Figure, ...]


def _known(tell: Callable[[Any], str]) -> Unit:
    return Unit(lambda value: "none" if value is None else tell(value))


POINTS = _known(lambda value: f"{100 * value:.1f}")
PERCENT = _known(lambda value: f"{100 * value:.1f} %")
PLAIN = _known(lambda value: f"{value:+.2f}")
COUNT = _known(lambda value: f"{value:,.0f}")
DECIMAL = _known(lambda value: f"{value:.2f}")
FINE = _known(lambda value: f"{value:+.4f}")
SMALL = _known(lambda value: f"{value:.1e}")
SECONDS = _known(lambda value: f"{value:.1f} s")
TIMES = _known(lambda value: f"{value:.1f} times")
TEXT = _known(str)
