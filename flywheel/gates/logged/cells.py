"""Reads a cell of a log of arms: a name, a person, a number, a day, or the word that stands for nothing.

What a cell holds is for `flywheel.files.cells` to say, as for every file; here stands what logs of arms mean by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from flywheel.files import cells
from flywheel.files.cells import BadCell

# how exports write that there is nothing
MISSING = frozenset({"", "null", "(null)", "nan", "<na>", "n/a", "\\n", "nil", "undefined"})
# nobody is called that, though an arm may be: the one without a treatment
_NOBODY = MISSING | {"none", "na", "-"}
_DAY = 86_400.0
# seconds since 1970 are below the first and above the second (1973) for any log of searches
_MILLISECONDS, _EARLIEST = 1e11, 1e8


def named(value: Any) -> str | None:
    """A name without blanks around it and with single ones in it; None where it says that there is none.

    Raises:
        BadCell: a list, bytes, or text of which a part is lost.
    """
    if value is None:
        return None
    words = " ".join(_plain(value).split())
    return None if words.casefold() in MISSING else words


def identity(value: Any) -> str | None:
    """A person's id; None where it says that there is none. Capitals tell people apart.

    Raises:
        BadCell: as for `named`.
    """
    if value is None:
        return None
    text = _plain(value).strip()
    return None if text.casefold() in _NOBODY else text


def _plain(value: Any) -> str:
    """As text; arms may be called true and false."""
    return str(value) if isinstance(value, bool) else cells.text(value) or ""


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
    try:
        return cells.number(value)
    except BadCell:
        return None
