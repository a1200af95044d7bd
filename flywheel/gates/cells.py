"""Reads a cell of somebody's table: a name, a person, a number, a day, or the word that stands for nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

# how exports write that there is nothing
MISSING = frozenset({"", "null", "(null)", "nan", "<na>", "n/a", "\\n", "nil", "undefined"})
# nobody is called that, though an arm may be: the one without a treatment
_NOBODY = MISSING | {"none", "na", "-"}
_DAY = 86_400.0
# seconds since 1970 are below the first and above the second (1973) for any log of searches
_MILLISECONDS, _EARLIEST = 1e11, 1e8


def named(value: Any) -> str | None:
    """A name without blanks around it and with single ones in it; None where it says that there is none."""
    if value is None:
        return None
    words = " ".join(_plain(value).split())
    return None if words.casefold() in MISSING else words


def identity(value: Any) -> str | None:
    """A person's id; None where it says that there is none. Capitals tell people apart."""
    if value is None:
        return None
    text = _plain(value).strip()
    return None if text.casefold() in _NOBODY else text


def _plain(value: Any) -> str:
    """As text; a whole number is written as one, since a table with gaps makes fractions of its numbers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def day_of(value: Any) -> int:
    """The day of a time: a date, ISO 8601, or seconds or milliseconds since 1970. 0 where it is none."""
    match value:
        case datetime():
            return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() // _DAY)
        case date():
            return int(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp() // _DAY)
        case None:
            return 0
    since = number(value, 0.0)
    if since is not None:
        return int((since / 1000 if since > _MILLISECONDS else since) // _DAY) if since > _EARLIEST else 0
    try:
        return day_of(datetime.fromisoformat(str(value).strip()))
    except ValueError:
        return 0


def cell(value: Any) -> Any:
    """The value, or None where it is a word for nothing."""
    return None if value is None or str(value).strip().casefold() in MISSING else value


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these columns that has a value; a word for nothing is one, so that it can be told."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def count(value: Any, default: float) -> float | None:
    """A number of at least 0, `default` where there is none, None where it is something else."""
    found = number(value, default)
    return None if found is None or found < 0 else found


def number(value: Any, default: float) -> float | None:
    """A finite number, yes and no among them; `default` where there is none, None where it is something else."""
    if value is None:
        return default
    if isinstance(value, str) and value.strip().casefold() in {"true", "false"}:
        return float(value.strip().casefold() == "true")
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
