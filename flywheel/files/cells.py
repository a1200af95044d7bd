"""One reading of a cell for every file that people bring, whether from Arrow's types, from JSON or from CSV.

A cell that cannot be read stays in its row as `UnreadableCell` until somebody needs it, so that a column which nobody
uses voids no row. Nothing becomes text by accident: a list, bytes or a missing number is no name of anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_YES = frozenset({"true", "1", "1.0", "yes", "y", "t"})
_NO = frozenset({"false", "0", "0.0", "no", "n", "f", ""})
_KINDS = {bool: "true or false", list: "a list", dict: "an object", tuple: "a list"}
_LARGEST_EXACT = 2**53  # a larger float stands for several whole numbers


class BadCell(ValueError):  # noqa: N818 - reads as what was found
    """A cell that does not hold what is needed; the message says what it holds."""


@dataclass(frozen=True, slots=True)
class UnreadableCell:
    """A cell whose value has no form that we know."""

    reason: str


def text(value: Any) -> str | None:
    """A name, an id or words; None where there are none (null, NaN, an empty text). 12345 and 12345.0 are one id.

    Raises:
        BadCell: a list, an object, true or false, an infinity, or text of which a part is lost.
    """
    match value:
        case None | "":
            return None
        case str():
            return _whole(value)
        case bool():
            pass
        case int():
            return _digits(value)
        case float() if math.isnan(value):
            return None
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_EXACT else repr(value)
        case Decimal() if value.is_finite():
            return format(value.to_integral_value() if value == value.to_integral_value() else value, "f")
        case datetime() | date() | time():
            return value.isoformat()
    raise BadCell(f"{shown(value)} where text is expected")


def number(value: Any) -> float | None:
    """A finite number, also written with a decimal comma or as true and false; None where there is none.

    Raises:
        BadCell: anything else.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        word = value.strip()
        if word.casefold() in {"true", "false"}:
            return float(word.casefold() == "true")
        if not word:
            return None
        value = word.replace(",", ".") if _DECIMAL_COMMA.fullmatch(word) else word
    try:
        found = float(value) if isinstance(value, (str, int, float, Decimal)) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise BadCell(f"{shown(value)} where a number is expected")
    return found


def flag(value: Any) -> bool:
    """Yes or no, in the spellings that exports use; no where there is nothing.

    Raises:
        BadCell: another word.
    """
    if isinstance(value, bool):
        return value
    word = (text(value) or "").strip().casefold()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise BadCell(f"{shown(value)} where true or false is expected")


def shown(value: Any) -> str:
    """What a cell holds, in a few words that can be written anywhere."""
    if isinstance(value, UnreadableCell):
        return value.reason
    kind = _KINDS.get(type(value))
    return kind or mended(str(value))[:40]


def mended(value: Any) -> Any:
    """The value as JSON can carry it, at any depth: U+FFFD for each half of a character, nothing for what is
    unreadable."""
    match value:
        case UnreadableCell():
            return None
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case list():
            return [mended(inner) for inner in value]
        case Mapping():
            return {mended(name): mended(inner) for name, inner in value.items()}
        case _:
            return value


def _whole(value: str) -> str:
    lost = _SURROGATE.search(value)
    if lost is None:
        return value
    if "\udc80" <= lost[0] <= "\udcff":  # how `flywheel.files.texts` marks bytes that it could not decode
        raise BadCell(f"byte 0x{ord(lost[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8")
    raise BadCell(f"half a character (\\u{ord(lost[0]):x}) where text is expected")


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python refuses to write more than 4,300 digits
        raise BadCell("a number of thousands of digits") from error
