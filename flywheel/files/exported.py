"""Takes the wrapping of search engines off a record: OpenSearch's bulk form, and hits as elasticdump writes them.

It says which id the wrapping gave, and does not know what the record means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.files.skipped import ImportCount
from flywheel.files.texts import Placed

_ACTIONS = frozenset({"index", "create", "update", "delete"})


@dataclass(frozen=True, slots=True)
class Source:
    """A record without its wrapping. `deleted`: the bulk form says that the record of this id goes."""

    place: str
    record: Any
    outer_id: Any = None
    deleted: bool = False


def sources(values: Iterable[Placed], tally: ImportCount) -> Iterator[Source]:
    """Every record of a file; action lines give the id of the line after them and are no records themselves."""
    action: tuple[str, Mapping[str, Any]] | None = None
    for place, value in values:
        found = _action(value) if action is None else None
        if found is not None and found[0] == "delete":
            yield Source(place, {}, found[1].get("_id"), deleted=True)
        elif found is not None:
            action = found
        else:
            name, about = action or ("index", {})
            action = None
            if name == "update":
                tally.skip("an update of OpenSearch's bulk form holds only a part of a record; export it whole", place)
                yield Source(place, None)
            elif isinstance(value, dict) and isinstance(value.get("_source"), dict):
                yield Source(place, value["_source"], value.get("_id"))
            else:
                yield Source(place, value, about.get("_id"))


def _action(value: Any) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, about),) = value.items()
    return (name, about) if name in _ACTIONS and isinstance(about, dict) else None
