"""Reads how a page was made: sorted, filtered, with paid places, as a grid. Products say it in their own shapes.

It is lenient where a shape can mean one thing only. Where paid places cannot be told from the others, all of the page
counts as paid, because a page that is read wrongly would teach what somebody paid for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from consumers.values import Notes

MAX_MARK = 128
_RELEVANCE = frozenset({"relevance", "relevancy", "score", "_score", "best", "best_match", "default", "none", "false"})
_NAMES = ("field", "by", "key", "name", "sort", "sort_by")
_FIRST_WORD = re.compile(r"[\w.]+(?: match)?")


def sorted_by(sort: Any) -> str | None:
    """The first field that the page is sorted by; None where relevance comes first, or nothing is said.

    Text, true, a list (the first counts), `{"field": "price", …}` or `{"price": "asc"}`.
    """
    if isinstance(sort, Mapping):
        named = [sort[name] for name in _NAMES if sort.get(name)]
        return sorted_by(named[0] if named else next(iter(sort), None))
    if isinstance(sort, list):
        return sorted_by(sort[0]) if sort else None
    if sort is None or sort is False or sort == "":
        return None
    text = str(sort).replace("\0", " ").strip()
    word = _FIRST_WORD.search(text.casefold())
    if word is None or word[0].replace(" ", "_") in _RELEVANCE:
        return None
    return text[:MAX_MARK]


def filtered(filters: Any) -> bool:
    """Whether any filter is set. Empty ones are none: `{"brand": [], "in_stock": false}`."""
    if isinstance(filters, Mapping):
        return any(map(filtered, filters.values()))
    if isinstance(filters, list):
        return any(map(filtered, filters))
    if isinstance(filters, str):
        return filters.strip().casefold() not in {"", "false", "none", "no", "0"}
    return filters is not None and filters is not False


def sponsored(places: Any, hit_ids: Sequence[str], notes: Notes) -> tuple[str, ...]:
    """The documents with a paid place: from ranks (whole numbers from 1), ids (text), a flag for each hit, or true.

    Anything else is noted, and all hits count as paid.
    """
    if places is None or places is False or places == []:
        return ()
    if places is True and hit_ids:
        return tuple(dict.fromkeys(hit_ids))
    if isinstance(places, list):
        if all(isinstance(place, str) for place in places):
            return tuple(dict.fromkeys(place for place in places if place and "\0" not in place))
        if all(isinstance(place, bool) for place in places) and len(places) == len(hit_ids):
            return tuple(dict.fromkeys(hit for hit, paid in zip(hit_ids, places, strict=True) if paid))
        if all(type(place) is int and 1 <= place <= len(hit_ids) for place in places):
            return tuple(dict.fromkeys(hit_ids[place - 1] for place in places))
    notes.leave_out(
        "query_attributes.sponsored", "is neither ranks (from 1) nor document ids: all count as paid", places
    )
    return tuple(dict.fromkeys(hit_ids))


def layout(value: Any) -> str | None:
    """The layout's name in lower case; None where nothing is said, or no name."""
    if not isinstance(value, str) or not value.strip():
        return None
    return value.replace("\0", " ").strip().casefold()[:MAX_MARK]
