"""Reads the exports of web analytics as UBI records: finds the search that each list, click and purchase belongs to.

Such tools know a session and a time, and no page of results. So a file is read twice: first the searches of all
sessions, then every event with the search before it. The same file gives the same ids, so it can be imported again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from flywheel.files.cells import BadCell, mended
from flywheel.files.skipped import ImportCount

Record = dict[str, Any]
What = Literal["search", "list", "click", "add_to_cart", "purchase", "other"]
PAGE_MS = 30 * 60_000
"""How long after a search an event of the same session still belongs to it: the length of a session, as these tools
have it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Item:
    """A product and its place, as the tool counts places; None where it does not say."""

    doc_id: str
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """What one row of an export says.

    Attributes:
        name: what the tool calls it.
        parts: what tells it from every other happening, beside name, session and time.
        query_id: an id of the search that the product itself gave, where it gave one.
        searching: whether a list may be one of search results.
        properties: all that the row says of it, for `[mapping]`.
    """

    what: What
    name: str
    ms: int
    client_id: str | None = None
    user_id: str | None = None
    session: str | None = None
    parts: tuple[str, ...] = ()
    term: str | None = None
    query_id: str | None = None
    items: tuple[Item, ...] = ()
    searching: bool = True
    application: str | None = None
    properties: Record = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Whose searches it may follow."""
        return self.session or self.client_id or self.user_id or ""


Dialect = Callable[[Record], Happening]
"""Raises `BadCell` where a row cannot be read."""
Rows = Callable[[Path, ImportCount], Iterator[Record]]


@dataclass(slots=True)
class _Session:
    """The searches of one session in the order of time, and the search that each clicked item was found by."""

    searches: list[tuple[int, str, str]] = field(default_factory=list)
    clicked: dict[str, list[tuple[int, str | None]]] = field(default_factory=dict)

    def settle(self) -> None:
        """Put them in order. A search that repeats the one before it, as each further page of results does, is the
        same page."""
        kept: list[tuple[int, str, str]] = []
        for ms, term, query_id in sorted(self.searches):
            again = bool(kept) and kept[-1][1] == term and ms - kept[-1][0] <= PAGE_MS
            kept.append((ms, term, kept[-1][2] if again else query_id))
        self.searches = kept
        for clicks in self.clicked.values():
            clicks.sort(key=lambda click: click[0])

    def current(self, ms: int) -> tuple[str, str] | None:
        """Words and id of the search that an event of this time follows; None where the latest is too long ago."""
        number = bisect_right(self.searches, ms, key=lambda search: search[0])
        if not number or ms - self.searches[number - 1][0] > PAGE_MS:
            return None
        return self.searches[number - 1][1:]

    def found_by(self, doc_id: str, ms: int) -> str | None:
        """The search whose page led to the item: that of its latest click."""
        clicks = self.clicked.get(doc_id, [])
        number = bisect_right(clicks, ms, key=lambda click: click[0])
        if not number:
            return None
        clicked_ms, query_id = clicks[number - 1]
        current = self.current(clicked_ms)
        return query_id or (current[1] if current else None)


class Sessions:
    """What a file tells of each session, gathered before any event is read."""

    def __init__(self) -> None:
        self._sessions: defaultdict[str, _Session] = defaultdict(_Session)

    def add(self, happening: Happening) -> None:
        """Note a search or a click; anything else says nothing of those after it."""
        if happening.what == "search" and happening.term:
            query_id = happening.query_id or _hash(happening.key, str(happening.ms), happening.term)
            self._sessions[happening.key].searches.append((happening.ms, happening.term, query_id))
        elif happening.what == "click":
            for item in happening.items:
                clicks = self._sessions[happening.key].clicked.setdefault(item.doc_id, [])
                clicks.append((happening.ms, happening.query_id))

    def settle(self) -> None:
        """Call once, when all is gathered."""
        for session in self._sessions.values():
            session.settle()

    def query_of(self, happening: Happening, item: Item | None = None) -> str | None:
        """The id of the page that it belongs to. What is put in a cart or bought belongs to the page of its click."""
        if happening.query_id is not None:
            return happening.query_id
        session = self._sessions.get(happening.key)
        if session is None:
            return None
        if item is not None and happening.what in ("add_to_cart", "purchase"):
            return session.found_by(item.doc_id, happening.ms)
        current = session.current(happening.ms)
        return current[1] if current else None

    def term_of(self, happening: Happening) -> str | None:
        """The words of the search that it follows."""
        session = self._sessions.get(happening.key)
        current = session.current(happening.ms) if session else None
        return current[0] if current else None


def read(path: Path, tally: ImportCount, rows: Rows, dialect: Dialect) -> Iterator[Record]:
    """UBI queries and events of an export. What says nothing of a search or a product is counted with its name.

    Raises:
        ImportFailed: the file cannot be read.
    """
    sessions = Sessions()
    for row in rows(path, ImportCount()):
        happening = _happening(row, dialect)
        if isinstance(happening, Happening):
            sessions.add(happening)
    sessions.settle()
    for row in rows(path, tally):
        happening = _happening(row, dialect)
        if isinstance(happening, BadCell):
            tally.skip(str(happening))
            continue
        records, reason = _records(happening, sessions)
        if reason is not None:
            tally.skip(reason)
        for record in records:
            yield mended(record)


def _happening(row: Record, dialect: Dialect) -> Happening | BadCell:
    try:
        return dialect(row)
    except BadCell as problem:
        return problem


def _records(happening: Happening, sessions: Sessions) -> tuple[list[Record], str | None]:
    """The records of a happening, or the reason why there is none."""
    name = happening.name[:64]
    if happening.what == "search":
        if not happening.term:
            return [], f"{name} without a search term"
        return [_page(happening, sessions, happening.term)], None
    if happening.what == "list":
        if not happening.searching:
            return [], f"{name} of another list than search results"
        term = sessions.term_of(happening)
        return (
            ([], f"{name} that follows no search of its session")
            if term is None
            else ([_page(happening, sessions, term)], None)
        )
    if not happening.items:
        return [], f"{name} names no product" if happening.what != "other" else f"{name} is about no search or product"
    return [_event(happening, number, item, sessions) for number, item in enumerate(happening.items)], None


def _page(happening: Happening, sessions: Sessions, term: str) -> Record:
    """A page of results: what was asked, or what was shown. Records of one page are put together by their id."""
    ordered = sorted(happening.items, key=lambda item: 0 if item.place is None else item.place)
    page = _shared(happening, sessions.query_of(happening)) | {"user_query": term}
    if ordered:
        page["query_response_hit_ids"] = list(dict.fromkeys(item.doc_id for item in ordered))
    return page


def _event(happening: Happening, number: int, item: Item, sessions: Sessions) -> Record:
    parts = (happening.key, str(happening.ms), happening.name, *happening.parts, str(number), item.doc_id)
    attributes: Record = {"object": {"object_id": item.doc_id}}
    if item.place is not None:
        attributes["position"] = {"ordinal": item.place}
    event = _shared(happening, sessions.query_of(happening, item))
    action = happening.name if happening.what == "other" else happening.what
    return event | {"action_name": action, "event_id": _hash(*parts), "event_attributes": attributes}


def _shared(happening: Happening, query_id: str | None) -> Record:
    found = {
        "query_id": query_id,
        "timestamp": (_EPOCH + timedelta(milliseconds=happening.ms)).isoformat(timespec="milliseconds"),
        "client_id": happening.client_id,
        "user_id": happening.user_id,
        "session_id": happening.session,
        "application": happening.application,
        "properties": happening.properties or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _hash(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
