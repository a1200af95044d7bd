"""Decodes the bytes of one message to one record, or raises `Undecodable` with the reason.

It does no I/O. It is lenient: what can be read of a record is read, and what cannot is left out and noted on it. It
hashes the ids of people and of their sessions and takes personal data out of query texts, so that no later part ever
sees them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar

from consumers import marks
from consumers.attributes import MAX_HITS, PageDetails, further, hits_of, object_of, ordinal_of
from consumers.envelope import Record, parse, read_key, read_object
from consumers.mapping import FIELDS, FieldMap
from consumers.redact import redacted
from consumers.values import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_ID,
    Notes,
    Undecodable,
    Unreadable,
    read_flag,
    read_id,
    read_timestamp,
    read_whole,
    sample,
)
from flywheel.events import Document, Event, Kind, Query
from flywheel.settings.load import Mapping, Signals

__all__ = ["MAX_HITS", "Decoder", "Undecodable", "attempt"]

# beyond these a field is cut or left out, so that no message can bloat the store
MAX_QUERY = 4_096
MAX_NAME = 128
MAX_TITLE = 4_096
MAX_RANK = 100_000
MAX_DWELL_MS = 7 * 24 * 3_600 * 1_000
_PEOPLE_CACHED = 65_536  # ids whose keyed hash is remembered: one person sends many events
_DOC_IDS = ("doc_id", "_id", "id")
_TEXTS = ("text", "body", "content")
_HITS = ("query_response_hit_ids", "query_response_object_ids")  # the second is the plugin's own former name
_UNITS = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
T = TypeVar("T")
log = logging.getLogger(__name__)


class Decoder:
    """Reads queries, events and documents.

    `hash_id` turns the id of a person into the key under which it is stored. A query or document without a time of its
    own takes `sent_ms`, the broker's time of the message.
    """

    def __init__(
        self, signals: Signals, hash_id: Callable[[str], str], max_bytes: int, mapping: Mapping | None = None
    ) -> None:
        self._kinds: dict[str, Kind] = {kind.value: kind for kind in Kind if kind is not Kind.OTHER}
        try:
            self._kinds |= {name: Kind(kind) for name, kind in signals.action_names.items()}
        except ValueError as error:
            raise ValueError(f"signals.action_names: {error}; choose from {', '.join(Kind)}") from error
        mapping = mapping or Mapping()
        self._maps = {kind: FieldMap(kind, mapping) for kind in FIELDS}
        self._unit = _UNITS[mapping.time_unit]
        self._ordinal_base = signals.ordinal_base
        self._hash_id = lru_cache(_PEOPLE_CACHED)(hash_id)
        self._redact: Callable[[str], str] = redacted if signals.redact else str
        self.max_bytes = max_bytes

    def query(self, value: bytes, sent_ms: int | None = None) -> Query:
        """One page of results.

        Raises:
            Undecodable: no query can be read from `value`.
        """
        return self._query(self._record("queries", value), sent_ms)

    def event(self, value: bytes, sent_ms: int | None = None) -> Event:
        """One thing that a person did. `sent_ms` is not used: an event without its own time is refused.

        Raises:
            Undecodable: no event can be read from `value`.
        """
        del sent_ms
        return self._event(self._record("events", value), value)

    def document(self, value: bytes, sent_ms: int | None = None, key: bytes | None = None) -> Document:
        """One version of a document; without an id of its own it takes the message's key.

        Raises:
            Undecodable: no document can be read from `value`.
        """
        return self._document(self._record("documents", value), sent_ms, key)

    def feedback(self, value: bytes, sent_ms: int | None = None) -> Query | Event:
        """A query or an event, whichever it is.

        Raises:
            Undecodable: it is neither.
        """
        raw = self._sized(value)
        event = self._mapped("events", raw)
        if event.get("action_name") not in (None, ""):
            return self._event(event, value)
        query = self._mapped("queries", raw)
        if "user_query" not in query and _first(query, _HITS) is None:
            raise Undecodable("neither a UBI query (user_query) nor an event (action_name)")
        return self._query(query, sent_ms)

    def deletion(self, key: bytes | None, sent_ms: int | None) -> Document:
        """The deletion of a document, as a compacted topic tells it: the document's id as key, and no value.

        Raises:
            Undecodable: the key names no document.
        """
        doc_id = read_key(key)
        if doc_id is None or sent_ms is None:
            raise Undecodable("a deletion (no value) without a document id as key and a time", "key")
        return Document(doc_id=doc_id, title="", text="", updated_at_ms=sent_ms, deleted=True)

    def _query(self, raw: Record, sent_ms: int | None) -> Query:
        notes = Notes()
        query_id = _required(raw.get("query_id"), "query_id", "no event could refer to this page", raw)
        if raw.get("user_query") is None:
            raise Undecodable("user_query is missing", "user_query")
        extra = notes.read_map(_unpacked(raw.get("query_attributes")), "query_attributes")
        page = PageDetails.read(hits_of(_first(raw, _HITS), notes), extra, notes)
        return Query(
            query_id=query_id,
            text=self._redact(notes.read_text(raw["user_query"], "user_query", MAX_QUERY)),
            timestamp_ms=self._time(raw.get("timestamp"), "timestamp", sent_ms, notes),
            client_key=self._person("client_id", raw, extra, notes),
            user_key=self._person("user_id", raw, extra, notes),
            session_id=self._person("session_id", raw, extra, notes),
            hit_ids=page.hit_ids,
            model_version=notes.read_id(extra.get("model_version"), "query_attributes.model_version"),
            experiment_id=notes.read_id(extra.get("experiment_id"), "query_attributes.experiment_id"),
            arm=notes.read_id(extra.get("arm"), "query_attributes.arm", MAX_NAME),
            propensities=page.propensities,
            teams=page.teams,
            explored=page.explored,
            latency_ms=page.latency_ms,
            sorted_by=marks.sorted_by(extra.get("sort")),
            filtered=marks.filtered(extra.get("filters")),
            sponsored=marks.sponsored(extra.get("sponsored"), page.hit_ids, notes),
            layout=marks.layout(extra.get("layout")),
            fair_pair=page.fair_pair,
            application=notes.read_id(raw.get("application"), "application", MAX_NAME),
            attributes=further("query_attributes", extra, notes),
            ignored=tuple(notes.ignored),
        )

    def _event(self, raw: Record, value: bytes) -> Event:
        notes = Notes()
        name = _required(raw.get("action_name"), "action_name", "nothing says what was done", raw, limit=self.max_bytes)
        kind = self._kinds.get(name, Kind.OTHER)
        extra = notes.read_map(_unpacked(raw.get("event_attributes")), "event_attributes")
        query_id = notes.read_id(raw.get("query_id"), "query_id")
        doc_id = object_of(extra, notes)
        timestamp_ms = self._time(raw.get("timestamp"), "timestamp", None, notes)
        dwell_ms = _dwell(extra) if kind is Kind.DWELL else None
        if query_id is None and doc_id is None:
            raise Undecodable("names neither a query (query_id) nor a document (event_attributes.object.object_id)")
        return Event(
            event_id=_either("event_id", extra, raw, notes) or content_hash(value),
            kind=kind,
            action_name=name[:MAX_NAME].replace("\0", " "),
            timestamp_ms=timestamp_ms,
            query_id=query_id,
            doc_id=doc_id,
            rank=None if kind is Kind.OTHER else self._rank(extra, notes),
            dwell_ms=dwell_ms,
            client_key=self._person("client_id", raw, extra, notes),
            user_key=self._person("user_id", raw, extra, notes),
            session_id=self._person("session_id", raw, extra, notes),
            application=notes.read_id(raw.get("application"), "application", MAX_NAME),
            attributes=further("event_attributes", extra, notes),
            ignored=tuple(notes.ignored),
        )

    def _document(self, raw: Record, sent_ms: int | None, key: bytes | None) -> Document:
        notes = Notes()
        given = _first(raw, _DOC_IDS)
        doc_id = read_key(key) if given is None else _required(given, "doc_id", "", raw)
        if doc_id is None:
            raise Undecodable("doc_id is missing", "doc_id")
        try:
            deleted = read_flag(raw.get("deleted", raw.get("__deleted")))
        except Unreadable as problem:  # a deletion that was taken for something else would stay to be found
            raise Undecodable(f"deleted {problem}", "deleted") from problem
        document = Document(
            doc_id=doc_id,
            title=notes.read_text(raw.get("title"), "title", MAX_TITLE),
            text=notes.read_text(_first(raw, _TEXTS), "text", None),
            updated_at_ms=self._time(raw.get("updated_at"), "updated_at", sent_ms, notes),
            deleted=deleted,
            ignored=tuple(notes.ignored),
        )
        if not deleted and not document.content:
            raise Undecodable("neither title nor text; to remove a document, send deleted: true", "text")
        return document

    def _record(self, kind: str, value: bytes) -> Record:
        return self._mapped(kind, self._sized(value))

    def _sized(self, value: bytes) -> Record:
        if len(value) > self.max_bytes:
            raise Undecodable(f"{len(value)} bytes; limits.message_bytes allows {self.max_bytes}")
        return read_object(value)

    def _mapped(self, kind: str, raw: Record) -> Record:
        mapping = self._maps[kind]
        return mapping.apply(raw) if mapping else raw

    def _time(self, value: Any, field: str, sent_ms: int | None, notes: Notes) -> int:
        """The record's own time. Where it has none that can be read, the broker's."""
        try:
            if self._unit != 1.0 and not isinstance(value, bool):
                value = _scaled(value, self._unit)
            return read_timestamp(value)
        except Unreadable as problem:
            if sent_ms is None:
                raise Undecodable(f"{field} {problem}", field) from problem
            if value not in (None, ""):
                notes.leave_out(field, f"{problem}; the broker's time was taken", value)
        return min(max(sent_ms, EARLIEST_MS), LATEST_MS)

    def _rank(self, extra: Record, notes: Notes) -> int | None:
        number = notes.read_whole(ordinal_of(extra, notes), "event_attributes.position.ordinal", MAX_RANK)
        if number is not None and number < self._ordinal_base:
            notes.leave_out("event_attributes.position.ordinal", "is below signals.ordinal_base", number)
            return None  # the event still counts: its rank follows from the page's hit ids
        return None if number is None else number - self._ordinal_base + 1

    def _person(self, field: str, outer: Record, inner: Record, notes: Notes) -> str | None:
        person_id = _either(field, outer, inner, notes)
        return None if person_id is None else self._hash_id(person_id)


def attempt(read: Callable[[], T]) -> T | Undecodable:
    """What `read` returns, or why it could not: whatever a decoder raises is about that one message."""
    try:
        return read()
    except Undecodable as problem:
        return problem
    except Exception as error:
        log.exception("a decoder failed; that message alone is set aside")
        return Undecodable(f"the decoder failed: {type(error).__name__}: {sample(str(error))}")


def content_hash(value: bytes) -> str:
    """The id of an event that brings none: the same bytes are the same event."""
    return blake2b(value, digest_size=16).hexdigest()


def _first(raw: Record, names: Sequence[str]) -> Any:
    """The first of a field's names that has something."""
    return next((raw[name] for name in names if raw.get(name) not in (None, "", [])), None)


def _either(field: str, outer: Record, inner: Record, notes: Notes) -> str | None:
    found = notes.read_id(outer.get(field), field)
    return found if found is not None else notes.read_id(inner.get(field), field)


def _required(value: Any, field: str, why: str, raw: Record, limit: int = MAX_ID) -> str:
    try:
        text = read_id(value, limit)
    except Unreadable as problem:
        raise Undecodable(f"{field} {problem}", field) from problem
    if text is None:
        if field == "query_id" and not {"ext", "params"}.isdisjoint(raw):
            raise Undecodable("this is a search request, not the UBI record of one: query_id is not at top level")
        raise Undecodable(f"{field} is missing{': ' if why else ''}{why}", field)
    return text


def _dwell(extra: Record) -> int:
    try:
        dwell_ms = read_whole(extra.get("dwell_ms"), MAX_DWELL_MS)
    except Unreadable as problem:
        raise Undecodable(f"event_attributes.dwell_ms {problem}", "event_attributes.dwell_ms") from problem
    if dwell_ms is None:
        raise Undecodable("a dwell without event_attributes.dwell_ms", "event_attributes.dwell_ms")
    return dwell_ms


def _scaled(value: Any, unit: float) -> Any:
    try:
        return float(value) * unit
    except (TypeError, ValueError, OverflowError):
        return value  # it is a text, or nothing that anybody can read


def _unpacked(value: Any) -> Any:
    """Attributes that came as a text of JSON."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            return parse(value.encode("utf-8", "surrogatepass"))
        except Undecodable:
            return value
    return value
