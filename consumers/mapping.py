"""Puts foreign fields in the places of ours, as `[mapping]` in the settings says. Pure.

A path goes down by names and dots: `properties.search.id`. `[2]` takes one of a list, `[*]` all of it, and
`[key=term]` the object of a list whose `key` is `term`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Mapped
from difflib import get_close_matches
from typing import Any

from flywheel.settings.load import Mapping

_STEP = re.compile(r"\[(?:(\*)|(\d+)|([^\]=]+)=([^\]]*))\]|\.?([^.\[\]]+)")
_PEOPLE = ("client_id", "user_id", "session_id")
_SHARED = ("query_id", "timestamp", "application", *_PEOPLE)
FIELDS: dict[str, tuple[str, ...]] = {
    "queries": (
        *_SHARED,
        "user_query",
        "query_response_hit_ids",
        *(f"query_attributes.{name}" for name in ("model_version", "experiment_id", "arm", "latency_ms")),
    ),
    "events": (
        *_SHARED,
        "action_name",
        "event_id",
        "event_attributes.object.object_id",
        "event_attributes.position.ordinal",
        "event_attributes.dwell_ms",
    ),
    "documents": ("doc_id", "title", "text", "deleted", "updated_at"),
}
_NOTHING = object()
Record = dict[str, Any]
Step = str | int | tuple[str, str] | None  # a name, a place in a list, what an object holds, or all of a list


class FieldMap:
    """The mapping of one kind of record; empty, it changes nothing.

    Raises:
        ValueError: a field that is none of ours, or a path that cannot be read.
    """

    def __init__(self, kind: str, settings: Mapping) -> None:
        self._paths = {
            tuple(_ours(kind, ours).split(".")): _steps(theirs) for ours, theirs in getattr(settings, kind).items()
        }
        known = {field for fields in FIELDS.values() for field in fields}
        for field in settings.values.keys() - known:
            raise ValueError(f"mapping.values: {field!r} is no field of ours; {_nearest(field, sorted(known))}")
        self._values = [
            (tuple(field.split(".")), values) for field, values in settings.values.items() if field in FIELDS[kind]
        ]

    def __bool__(self) -> bool:
        return bool(self._paths or self._values)

    def apply(self, record: Record) -> Record:
        """A record with our fields, where the mapping found something for them; all else stays as it was."""
        mapped = record
        for ours, theirs in self._paths.items():
            value = _find(record, theirs)
            if value is not _NOTHING:
                mapped = _put(mapped, ours, value)
        for ours, values in self._values:
            value = _find(mapped, ours)
            if isinstance(value, str | int | float) and str(value) in values:
                mapped = _put(mapped, ours, values[str(value)])
        return mapped


def _ours(kind: str, field: str) -> str:
    if field not in FIELDS[kind]:
        raise ValueError(f"mapping.{kind}: {field!r} is no field of ours; {_nearest(field, FIELDS[kind])}")
    return field


def _nearest(field: str, fields: Mapped[str, Any] | tuple[str, ...] | list[str]) -> str:
    near = get_close_matches(field, fields, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(fields)}"


def _steps(path: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise ValueError(f"[mapping]: the path {path!r} cannot be read at {path[at:]!r}; write a.b, a[0], a[*]")
        every, number, key, wanted, name = found.groups()
        steps.append(None if every else int(number) if number else (key, wanted) if key else name)
        at = found.end()
    return tuple(steps)


def _find(value: Any, steps: tuple[Step, ...]) -> Any:
    for number, step in enumerate(steps):
        if step is None:
            if not isinstance(value, list):
                return _NOTHING
            found = (_find(item, steps[number + 1 :]) for item in value)
            return [item for item in found if item is not _NOTHING]
        value = _down(value, step)
        if value is _NOTHING or value is None:
            return _NOTHING
    return value


def _down(value: Any, step: str | int | tuple[str, str]) -> Any:
    match step:
        case str():
            return value.get(step, _NOTHING) if isinstance(value, dict) else _NOTHING
        case int():
            return value[step] if isinstance(value, list) and step < len(value) else _NOTHING
        case (key, wanted):
            items = value if isinstance(value, list) else ()
            return next((item for item in items if isinstance(item, dict) and str(item.get(key)) == wanted), _NOTHING)


def _put(record: Record, path: tuple[str, ...], value: Any) -> Record:
    """A copy with the value at the path; nothing that the copy shares with the original is changed."""
    name, *rest = path
    if not rest:
        return record | {name: value}
    inner = record.get(name)
    return record | {name: _put(inner if isinstance(inner, dict) else {}, tuple(rest), value)}
