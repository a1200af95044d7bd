"""The shapes of UBI messages as they arrive (schemas 1.0 to 1.3 as one), and how each odd value is read.

Every field may be absent or null, ids may be numbers, and what is not listed is skipped. Only `consumers.decode`
uses these shapes: wire formats end there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

Id = str | int | None
Number = int | float | str | None

MAX_ID = 512
EARLIEST_MS = 631_152_000_000  # 1990-01-01: anything earlier is seconds taken for milliseconds, or a broken clock
LATEST_MS = 4_102_444_800_000  # 2100-01-01


class Undecodable(ValueError):  # noqa: N818 - it reads as what it says about the message
    """A message that cannot be read; `str()` of it is the reason that goes beside its bytes."""


class NestedOrdinal(Struct):
    """Schemas 1.1 and 1.2 nest the position's number once more."""

    index: Number = None


class Position(Struct):
    ordinal: int | float | str | NestedOrdinal | None = None


class Target(Struct):
    object_id: int | float | str | None = None
    internal_id: int | float | str | None = None


class Attributes(Struct):
    object: Target | None = None
    position: Position | None = None
    dwell_ms: Number = None
    event_id: Id = None
    client_id: Id = None
    user_id: Id = None
    session_id: Id = None


class WireEvent(Struct):
    action_name: str | None = None
    timestamp: Number = None
    event_id: Id = None
    query_id: Id = None
    client_id: Id = None
    user_id: Id = None
    session_id: Id = None
    event_attributes: Attributes | None = None


class LooseEvent(Struct):
    """An event whose attributes have an unknown shape; enough for kinds that are stored but not used."""

    action_name: str | None = None
    timestamp: Number = None
    event_id: Id = None
    query_id: Id = None
    client_id: Id = None
    user_id: Id = None
    session_id: Id = None


class PageAttributes(Struct):
    client_id: Id = None
    user_id: Id = None
    session_id: Id = None
    model_version: Id = None
    experiment_id: Id = None
    arm: Id = None
    propensities: list[float] | None = None
    teams: list[str] | None = None
    explored: list[int] | None = None
    latency_ms: int | float | None = None
    sort: Any = None
    filters: Any = None
    sponsored: Any = None
    layout: Any = None


class WireQuery(Struct):
    query_id: Id = None
    user_query: str | None = None
    timestamp: Number = None
    client_id: Id = None
    user_id: Id = None
    session_id: Id = None
    query_response_hit_ids: list[str | int] | None = None
    query_attributes: PageAttributes | None = None
    ext: Any = None
    params: Any = None


class WireDocument(Struct):
    doc_id: Id = None
    title: str | None = None
    text: str | None = None
    deleted: bool | int | str | None = None
    updated_at: Number = None


def read_id(value: int | float | str | None, field: str, limit: int = MAX_ID) -> str | None:
    """An id as text; empty means none. Never cut short: two ids that share a beginning are two ids."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        raise Undecodable(f"{field} has {len(text)} characters; at most {limit} are read")
    if "\0" in text:
        raise Undecodable(f"{field} contains a NUL character")
    return text


def read_text(value: str | None, limit: int | None) -> str:
    """Free text, cut to `limit` characters, without the NUL characters that databases refuse."""
    if not value:
        return ""
    return (value[:limit] if limit is not None else value).replace("\0", " ")


def read_timestamp(value: int | float | str | None, field: str) -> int:
    """Epoch milliseconds from ISO 8601 (no offset: UTC) or from epoch milliseconds, as number or digits."""
    if value is None or value == "":
        raise Undecodable(f"{field} is missing")
    if isinstance(value, str):
        moment = int(value) if value.isascii() and value.isdigit() and len(value) > 8 else _from_iso(value, field)
    else:
        moment = int(value)
    if EARLIEST_MS <= moment <= LATEST_MS:
        return moment
    if EARLIEST_MS <= moment * 1_000 <= LATEST_MS:
        raise Undecodable(f"{field} {value} looks like seconds; epoch milliseconds are expected")
    raise Undecodable(f"{field} {str(value)[:40]} is outside 1990 to 2100")


def _from_iso(value: str, field: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000)
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"{field} {value[:40]!r} is neither ISO 8601 nor epoch milliseconds") from error


def read_whole(value: int | float | str | None, field: str, highest: int) -> int | None:
    """A whole number from 0 to `highest`, from a number or its digits; a fraction is rounded."""
    if value is None or value == "":
        return None
    try:
        number = round(float(value))
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"{field} {str(value)[:40]!r} is not a number") from error
    if not 0 <= number <= highest:
        raise Undecodable(f"{field} {str(value)[:40]} is not between 0 and {highest}")
    return number


def read_flag(value: bool | int | str | None, field: str) -> bool:
    """Yes or no, in the spellings that exports use."""
    if value is None or isinstance(value, bool):
        return bool(value)
    match str(value).strip().lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no" | "":
            return False
        case other:
            raise Undecodable(f"{field} {other[:40]!r} is neither true nor false")
