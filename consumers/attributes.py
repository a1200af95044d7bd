"""What a page and an event say beyond who, when and what: hits, chances, positions, and all the rest as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from consumers.envelope import Record
from consumers.values import Notes, Unreadable, clean, read_id, read_number

MAX_HITS = 10_000
MAX_LATENCY_MS = 7 * 24 * 3_600 * 1_000
MAX_ATTRIBUTES = 16_384  # bytes of JSON
_TEAMS = frozenset({"champion", "challenger", "both"})
_OBJECT_IDS = ("object_id", "internal_id")
_DOC_IDS = ("object_id", "doc_id", "_id", "id")
_PEOPLE = frozenset({"client_id", "user_id", "session_id"})
# what has a column of its own, and who somebody is, is not kept once more
_KNOWN = {
    "query_attributes": _PEOPLE
    | {"model_version", "experiment_id", "arm", "propensities", "teams", "explored", "latency_ms"}
    | {"sort", "filters", "sponsored", "layout", "fair_pair"},
    "event_attributes": _PEOPLE | {"event_id", "dwell_ms", "object", "position"},
}
_OBJECT_KNOWN = frozenset(_OBJECT_IDS)
_WHOLE_64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Hits:
    """The ids that could be read, and which of the entries these were; None: all."""

    ids: tuple[str, ...]
    kept: tuple[int, ...] | None
    sent: int


@dataclass(frozen=True, slots=True)
class PageDetails:
    """The hits of a page, and what was logged of how they came there."""

    hit_ids: tuple[str, ...]
    propensities: tuple[float, ...] | None
    teams: tuple[str, ...] | None
    explored: tuple[int, ...]
    latency_ms: float | None
    fair_pair: int | None

    @classmethod
    def read(cls, hits: Hits, extra: Record, notes: Notes) -> PageDetails:
        """From the attributes of a query. A list that does not fit the hits is left out whole."""
        propensities = _by_hit("propensities", extra, hits, notes)
        teams = _by_hit("teams", extra, hits, notes)
        if teams is not None and not all(isinstance(team, str) and team in _TEAMS for team in teams):
            notes.leave_out("query_attributes.teams", "is not champion, challenger or both", teams)
            teams = None
        return cls(
            hit_ids=hits.ids,
            propensities=_chances(propensities, notes),
            teams=None if teams is None else tuple(teams),
            explored=_explored(extra.get("explored"), notes),
            latency_ms=_latency(extra.get("latency_ms"), notes),
            fair_pair=_fair_pair(extra.get("fair_pair"), hits, notes),
        )


def hits_of(value: Any, notes: Notes) -> Hits:
    """The hits in the order shown. One that cannot be read is left out, and the others move up."""
    field = "query_response_hit_ids"
    if value is None:
        return Hits((), None, 0)
    if not isinstance(value, list):
        notes.leave_out(field, "is no list", value)
        return Hits((), None, 0)
    if len(value) > MAX_HITS:
        notes.leave_out(field, f"has more than {MAX_HITS} entries", len(value))
    ids: list[str] = []
    kept: list[int] = []
    for place, hit in enumerate(value[:MAX_HITS]):
        found = _hit(hit, notes)
        if found is not None:
            ids.append(found)
            kept.append(place)
    return Hits(tuple(ids), None if len(kept) == len(value) else tuple(kept), len(value))


def _hit(value: Any, notes: Notes) -> str | None:
    if isinstance(value, dict):
        value = next((value[name] for name in _DOC_IDS if value.get(name) is not None), value)
    try:
        found = read_id(value)
    except Unreadable as problem:
        notes.leave_out("query_response_hit_ids", f"has an entry that {problem}", value)
        return None
    if found is None:
        notes.leave_out("query_response_hit_ids", "has an empty entry", value)
    return found


def object_of(extra: Record, notes: Notes) -> str | None:
    """The document that an event is about."""
    target = extra.get("object")
    if target is None or isinstance(target, str | int | float):
        return notes.read_id(target, "event_attributes.object")
    target = notes.read_map(target, "event_attributes.object")
    for name in _OBJECT_IDS:
        found = notes.read_id(target.get(name), f"event_attributes.object.{name}")
        if found is not None:
            return found
    return None


def ordinal_of(extra: Record, notes: Notes) -> Any:
    """The position as it was sent; schemas 1.1 and 1.2 nest it once more."""
    position = extra.get("position")
    if isinstance(position, str | int | float):
        return position
    ordinal = notes.read_map(position, "event_attributes.position").get("ordinal")
    return ordinal.get("index") if isinstance(ordinal, dict) else ordinal


def further(field: str, extra: Record, notes: Notes) -> str | None:
    """The attributes that have no column of their own, as JSON; None where there are none."""
    known = _KNOWN[field]
    if extra.keys() <= known and not isinstance(extra.get("object"), dict):
        return None
    rest = {name: value for name, value in extra.items() if name not in known}
    target = extra.get("object")
    if isinstance(target, dict) and (more := {k: v for k, v in target.items() if k not in _OBJECT_KNOWN}):
        rest["object"] = more
    if not rest:
        return None
    try:
        text = _json(rest)
    except (RecursionError, ValueError, TypeError, OverflowError):
        notes.leave_out(field, "cannot be kept", "")
        return None
    if len(text) > MAX_ATTRIBUTES:
        notes.leave_out(field, f"has more than {MAX_ATTRIBUTES} bytes, which are not kept", text)
        return None
    return text


def _json(value: Record) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeError, OverflowError):
        return msgspec.json.encode(_cleaned(value)).decode()


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case int() if not -_WHOLE_64 <= value < _WHOLE_64:
            return float(value)
        case dict():
            return {clean(name): _cleaned(inner) for name, inner in value.items()}
        case list():
            return [_cleaned(inner) for inner in value]
        case _:
            return value


def _by_hit(name: str, extra: Record, hits: Hits, notes: Notes) -> list[Any] | None:
    value = extra.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != hits.sent:
        notes.leave_out(f"query_attributes.{name}", "is not one for each of query_response_hit_ids", value)
        return None
    return value if hits.kept is None else [value[place] for place in hits.kept]


def _chances(values: list[Any] | None, notes: Notes) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        chances = tuple(read_number(value, 0.0, 1.0) for value in values)
    except Unreadable as problem:
        notes.leave_out("query_attributes.propensities", f"has an entry that {problem}", values)
        return None
    if not all(chances):
        notes.leave_out("query_attributes.propensities", "has an entry that is 0", values)
        return None
    return chances


def _explored(value: Any, notes: Notes) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        notes.leave_out("query_attributes.explored", "is no list", value)
        return ()
    found = []
    for entry in value[:MAX_HITS]:
        try:
            found.append(round(read_number(entry, 0, MAX_HITS)))
        except Unreadable as problem:
            notes.leave_out("query_attributes.explored", f"has an entry that {problem}", entry)
    return tuple(found)


def _fair_pair(value: Any, hits: Hits, notes: Notes) -> int | None:
    """The upper rank of two neighbours; nothing where hits were left out, because others are neighbours then."""
    upper = notes.read_whole(value, "query_attributes.fair_pair", MAX_HITS)
    if upper is None:
        return None
    if hits.kept is not None or not 1 <= upper < hits.sent:
        notes.leave_out("query_attributes.fair_pair", "is not the upper rank of two neighbours", value)
        return None
    return upper


def _latency(value: Any, notes: Notes) -> float | None:
    if value is None or value == "":
        return None
    try:
        return read_number(value, 0, MAX_LATENCY_MS)
    except Unreadable as problem:
        notes.leave_out("query_attributes.latency_ms", problem, value)
        return None
