"""How each odd value of a message is read: ids, texts, times, numbers and flags as they are really sent.

It knows values, not records. `consumers.decode` says which field is which.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from flywheel.events import Ignored

MAX_ID = 512
MAX_SAMPLE = 120
EARLIEST_MS = 631_152_000_000  # 1990-01-01: anything earlier is seconds taken for milliseconds, or a broken clock
LATEST_MS = 4_102_444_800_000  # 2100-01-01
_MOST_DIGITS = 19  # of epoch milliseconds; Python itself refuses to read thousands
_PEOPLE = frozenset({"client_id", "user_id", "session_id"})  # no value of theirs is ever shown


class Undecodable(ValueError):  # noqa: N818 - it reads as what it says about the message
    """A message that cannot be read; `str()` of it is the reason that goes beside its bytes, `field` what it is of."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.field = field


class Unreadable(ValueError):  # noqa: N818 - as above
    """A value that is not what its field holds; `str()` of it goes on from the field's name."""


class Notes:
    """What was left out of one record."""

    __slots__ = ("ignored",)

    def __init__(self) -> None:
        self.ignored: list[Ignored] = []

    def leave_out(self, field: str, reason: object, value: object) -> None:
        """Note a value that is not used. `reason` goes on from the field's name and is the same for all such values."""
        shown = "" if field.rpartition(".")[2] in _PEOPLE else sample(value)
        self.ignored.append(Ignored(field, str(reason), shown))

    def read_id(self, value: Any, field: str, limit: int = MAX_ID) -> str | None:
        """The id, or None where it is missing or cannot be read."""
        if value is None:
            return None
        if type(value) is str and 0 < len(value) <= limit and value.isascii() and "\0" not in value:
            return value  # nearly all of them
        try:
            return read_id(value, limit)
        except Unreadable as problem:
            self.leave_out(field, problem, value)
            return None

    def read_text(self, value: Any, field: str, limit: int | None) -> str:
        """Free text, "" where it is missing or cannot be read."""
        try:
            text = read_text(value, limit)
        except Unreadable as problem:
            self.leave_out(field, problem, value)
            return ""
        if isinstance(value, str) and "\ufffd" in text and "\ufffd" not in value:
            self.leave_out(field, "holds half a character, which was replaced", value)
        return text

    def read_whole(self, value: Any, field: str, highest: int) -> int | None:
        """A whole number, or None where it is missing or cannot be read."""
        try:
            return read_whole(value, highest)
        except Unreadable as problem:
            self.leave_out(field, problem, value)
            return None

    def read_map(self, value: Any, field: str) -> dict[str, Any]:
        """An object, {} where it is missing or cannot be read. PHP writes an empty one as []."""
        if isinstance(value, dict):
            return value
        if value not in (None, "", []):
            self.leave_out(field, "is no object", value)
        return {}


def sample(value: object) -> str:
    """The beginning of a value, to be looked at."""
    try:
        text = value[: MAX_SAMPLE + 1] if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a nest without end
        text = f"a {type(value).__name__}"
    text = clean(text)
    return text if len(text) <= MAX_SAMPLE else text[: MAX_SAMPLE - 1] + "…"


def clean(text: str) -> str:
    """The text without what databases refuse: NUL, and half a character, which no encoding writes."""
    if "\0" in text:
        text = text.replace("\0", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def read_id(value: Any, limit: int = MAX_ID) -> str | None:
    """An id as text; empty means none. Never cut short: two ids that share a beginning are two ids.

    Raises:
        Unreadable: no text or number, or one that cannot be an id.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12345.0 is what a table with gaps makes of 12345
    if not isinstance(value, str):
        if not _is_number(value):
            raise Unreadable("is neither text nor a number")
        if abs(value) >= 10**_MOST_DIGITS:
            raise Unreadable(f"is a number of more than {_MOST_DIGITS} digits")
        value = str(value)
    if len(value) > limit:
        raise Unreadable(f"has more than {limit} characters")
    if "\0" in value:
        raise Unreadable("contains a NUL character")
    if not value.isascii() and clean(value) != value:
        raise Unreadable("holds half a character")
    return str(value)


def read_text(value: Any, limit: int | None) -> str:
    """Free text, cut to `limit` characters, without the characters that databases refuse.

    Raises:
        Unreadable: neither text nor a number.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        if not _is_number(value):
            raise Unreadable("is no text")
        return read_id(value) or ""
    return clean(value[:limit] if limit is not None else value)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # of an integer of hundreds of digits it cannot be asked
    return isinstance(value, int) and not isinstance(value, bool)


def read_timestamp(value: Any) -> int:
    """Epoch milliseconds from ISO 8601 (no offset: UTC) or from epoch milliseconds, as number or digits.

    Raises:
        Unreadable: missing, no time, or one that no click of today can have.
    """
    if value is None or value == "":
        raise Unreadable("is missing")
    if isinstance(value, str):
        moment = _from_text(value.strip())
    elif value == math.inf:  # what a number of thousands of digits was read as
        moment = LATEST_MS + 1
    elif _is_number(value):
        moment = int(value)
    else:
        raise Unreadable("is neither ISO 8601 nor epoch milliseconds")
    if EARLIEST_MS <= moment <= LATEST_MS:
        return moment
    if EARLIEST_MS <= moment * 1_000 <= LATEST_MS:
        raise Unreadable("looks like seconds; epoch milliseconds are expected")
    raise Unreadable("is outside 1990 to 2100")


def _from_text(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) > 8:
        return int(value) if len(value) <= _MOST_DIGITS else LATEST_MS + 1
    try:
        # upper: RFC 3339 allows a lower-case t and z
        moment = datetime.fromisoformat(value[:64].upper())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000)
    except (ValueError, OverflowError) as error:
        try:
            return int(float(value[:64]))
        except (ValueError, OverflowError):
            raise Unreadable("is neither ISO 8601 nor epoch milliseconds") from error


def read_number(value: Any, lowest: float, highest: float) -> float:
    """A number from `lowest` to `highest`, from a number or its digits.

    Raises:
        Unreadable
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Unreadable("is not a number")
    try:
        number = float(value[:64] if isinstance(value, str) else value)
    except (ValueError, OverflowError) as error:
        raise Unreadable("is not a number") from error
    if not lowest <= number <= highest:  # so is NaN
        raise Unreadable(f"is not between {lowest:g} and {highest:g}")
    return number


def read_whole(value: Any, highest: int) -> int | None:
    """A whole number from 0 to `highest`, from a number or its digits; a fraction is rounded.

    Raises:
        Unreadable
    """
    if value is None or value == "":
        return None
    return round(read_number(value, 0, highest))


def read_flag(value: Any) -> bool:
    """Yes or no, in the spellings that exports use.

    Raises:
        Unreadable: any other.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, int | float | str):
        match sample(value).strip().lower():
            case "true" | "1" | "1.0" | "yes":
                return True
            case "false" | "0" | "0.0" | "no" | "":
                return False
    raise Unreadable("is neither true nor false")
