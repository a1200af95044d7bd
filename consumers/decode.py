"""Decodes the bytes of one message to one record, or raises `Undecodable` with the reason.

It does no I/O. It is lenient, because the samples of UBI break its published schemas. It hashes the ids of people and
of their sessions and takes personal data out of query texts, so that no later part ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

import msgspec

from consumers.redact import redacted
from consumers.wire import (
    Attributes,
    Id,
    LooseEvent,
    NestedOrdinal,
    PageAttributes,
    Undecodable,
    WireDocument,
    WireEvent,
    WireQuery,
    read_flag,
    read_id,
    read_text,
    read_timestamp,
    read_whole,
)
from flywheel.events import Document, Event, Kind, Query
from flywheel.settings.load import Signals

__all__ = ["Decoder", "Undecodable"]

# beyond these a field is cut, or the message refused, so that no message can bloat the store
MAX_QUERY = 4_096
MAX_NAME = 128
MAX_TITLE = 4_096
MAX_HITS = 10_000
MAX_RANK = 100_000
MAX_DWELL_MS = 7 * 24 * 3_600 * 1_000
_TEAMS = frozenset({"champion", "challenger", "both"})
_PEOPLE_CACHED = 65_536  # ids whose keyed hash is remembered: one person sends many events
_NO_ATTRIBUTES = Attributes()
_NO_PAGE = PageAttributes()
T = TypeVar("T")


class Decoder:
    """Reads queries, events and documents.

    `hash_id` turns the id of a person into the key under which it is stored. A query or document without a time of its
    own takes `sent_ms`, the broker's time of the message.
    """

    def __init__(self, signals: Signals, hash_id: Callable[[str], str], max_bytes: int) -> None:
        self._kinds: dict[str, Kind] = {kind.value: kind for kind in Kind if kind is not Kind.OTHER}
        try:
            self._kinds |= {name: Kind(kind) for name, kind in signals.action_names.items()}
        except ValueError as error:
            raise ValueError(f"signals.action_names: {error}; choose from {', '.join(Kind)}") from error
        self._ordinal_base = signals.ordinal_base
        self._hash_id = lru_cache(_PEOPLE_CACHED)(hash_id)
        self._redact: Callable[[str], str] = redacted if signals.redact else str
        self.max_bytes = max_bytes
        self._query = msgspec.json.Decoder(WireQuery)
        self._event = msgspec.json.Decoder(WireEvent)
        self._loose_event = msgspec.json.Decoder(LooseEvent)
        self._document = msgspec.json.Decoder(WireDocument)

    def query(self, value: bytes, sent_ms: int | None = None) -> Query:
        """One page of results.

        Raises:
            Undecodable: no query can be read from `value`.
        """
        wire = self._read(self._query, self._text(value))
        query_id = read_id(wire.query_id, "query_id")
        if query_id is None:
            if wire.ext is not None or wire.params is not None:
                raise Undecodable("this is a search request, not the UBI record of one: query_id is not at top level")
            raise Undecodable("query_id is missing: no event could refer to this page")
        if wire.user_query is None:
            raise Undecodable("user_query is missing")
        hits = wire.query_response_hit_ids or ()
        if len(hits) > MAX_HITS:
            raise Undecodable(f"query_response_hit_ids has {len(hits)} entries; at most {MAX_HITS} are read")
        hit_ids = tuple(_required(hit, "query_response_hit_ids") for hit in hits)
        extra = wire.query_attributes or _NO_PAGE
        return Query(
            query_id=query_id,
            text=self._redact(read_text(wire.user_query, MAX_QUERY)),
            timestamp_ms=read_timestamp(sent_ms if wire.timestamp in (None, "") else wire.timestamp, "timestamp"),
            client_key=self._person(wire.client_id, extra.client_id, "client_id"),
            user_key=self._person(wire.user_id, extra.user_id, "user_id"),
            session_id=self._person(wire.session_id, extra.session_id, "session_id"),
            hit_ids=hit_ids,
            model_version=read_id(extra.model_version, "model_version"),
            experiment_id=read_id(extra.experiment_id, "experiment_id"),
            arm=read_id(extra.arm, "arm", MAX_NAME),
            propensities=_propensities(extra, len(hit_ids)),
            teams=_teams(extra, len(hit_ids)),
            explored=_explored(extra),
            latency_ms=_latency(extra),
        )

    def event(self, value: bytes, sent_ms: int | None = None) -> Event:
        """One thing that a person did. `sent_ms` is not used: an event without its own time is refused.

        Raises:
            Undecodable: no event can be read from `value`.
        """
        del sent_ms
        text = self._text(value)
        wire = self._read_event(text)
        name = wire.action_name
        if not name:
            raise Undecodable("action_name is missing")
        attributes = (wire.event_attributes if isinstance(wire, WireEvent) else None) or _NO_ATTRIBUTES
        kind = self._kinds.get(name, Kind.OTHER)
        dwell_ms = None
        if kind is Kind.DWELL:
            dwell_ms = read_whole(attributes.dwell_ms, "event_attributes.dwell_ms", MAX_DWELL_MS)
            if dwell_ms is None:
                raise Undecodable("a dwell without event_attributes.dwell_ms")
        target = attributes.object
        doc_id = None
        if target is not None:
            doc_id = read_id(target.object_id, "object_id") or read_id(target.internal_id, "internal_id")
        return Event(
            event_id=_first(attributes.event_id, wire.event_id, "event_id") or content_hash(value),
            kind=kind,
            action_name=name[:MAX_NAME].replace("\0", " "),
            timestamp_ms=read_timestamp(wire.timestamp, "timestamp"),
            query_id=read_id(wire.query_id, "query_id"),
            doc_id=doc_id,
            rank=self._rank(attributes, kind),
            dwell_ms=dwell_ms,
            client_key=self._person(wire.client_id, attributes.client_id, "client_id"),
            user_key=self._person(wire.user_id, attributes.user_id, "user_id"),
            session_id=self._person(wire.session_id, attributes.session_id, "session_id"),
        )

    def document(self, value: bytes, sent_ms: int | None = None) -> Document:
        """One version of a document.

        Raises:
            Undecodable: no document can be read from `value`.
        """
        wire = self._read(self._document, self._text(value))
        deleted = read_flag(wire.deleted, "deleted")
        document = Document(
            doc_id=_required(wire.doc_id, "doc_id"),
            title=read_text(wire.title, MAX_TITLE),
            text=read_text(wire.text, None),
            updated_at_ms=read_timestamp(sent_ms if wire.updated_at in (None, "") else wire.updated_at, "updated_at"),
            deleted=deleted,
        )
        if not deleted and not document.content:
            raise Undecodable("neither title nor text; to remove a document, send deleted: true")
        return document

    def _text(self, value: bytes) -> str:
        if len(value) > self.max_bytes:
            raise Undecodable(f"{len(value)} bytes; limits.message_bytes allows {self.max_bytes}")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Undecodable(f"not UTF-8: {error.reason} at byte {error.start}") from error

    @staticmethod
    def _read(decoder: msgspec.json.Decoder[T], text: str) -> T:
        try:
            return decoder.decode(text)
        except RecursionError as error:
            raise Undecodable("nested too deeply") from error
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise Undecodable(str(error)[:300]) from error

    def _read_event(self, text: str) -> WireEvent | LooseEvent:
        try:
            return self._read(self._event, text)
        except Undecodable as problem:
            if not isinstance(problem.__cause__, msgspec.ValidationError):
                raise
            # a kind that is not used is stored whatever the shape of its attributes
            loose = self._read(self._loose_event, text)
            if self._kinds.get(loose.action_name or "", Kind.OTHER) is not Kind.OTHER:
                raise
            return loose

    def _rank(self, attributes: Attributes, kind: Kind) -> int | None:
        ordinal = attributes.position.ordinal if attributes.position is not None else None
        if isinstance(ordinal, NestedOrdinal):
            ordinal = ordinal.index
        if kind is Kind.OTHER:
            return None
        number = read_whole(ordinal, "event_attributes.position.ordinal", MAX_RANK)
        if number is None or number < self._ordinal_base:
            return None  # the event still counts: its rank follows from the page's hit ids
        return number - self._ordinal_base + 1

    def _person(self, outer: Id, inner: Id, field: str) -> str | None:
        person_id = _first(outer, inner, field)
        return None if person_id is None else self._hash_id(person_id)


def content_hash(value: bytes) -> str:
    """The id of an event that brings none: the same bytes are the same event."""
    return blake2b(value, digest_size=16).hexdigest()


def _first(outer: Id, inner: Id, field: str) -> str | None:
    return read_id(outer, field) or read_id(inner, field)


def _required(value: Id, field: str) -> str:
    text = read_id(value, field)
    if text is None:
        raise Undecodable(f"{field} is missing or empty")
    return text


def _propensities(extra: PageAttributes, hits: int) -> tuple[float, ...] | None:
    if extra.propensities is None:
        return None
    if len(extra.propensities) != hits or not all(0.0 < p <= 1.0 for p in extra.propensities):
        raise Undecodable("propensities must be one number in (0, 1] for each of query_response_hit_ids")
    return tuple(extra.propensities)


def _teams(extra: PageAttributes, hits: int) -> tuple[str, ...] | None:
    if extra.teams is None:
        return None
    if len(extra.teams) != hits or not _TEAMS.issuperset(extra.teams):
        raise Undecodable("teams must name champion, challenger or both for each of query_response_hit_ids")
    return tuple(extra.teams)


def _explored(extra: PageAttributes) -> tuple[int, ...]:
    explored = extra.explored or ()
    if len(explored) > MAX_HITS or not all(0 <= entry <= MAX_HITS for entry in explored):
        raise Undecodable("explored must be ranks on this page")
    return tuple(explored)


def _latency(extra: PageAttributes) -> float | None:
    if extra.latency_ms is None:
        return None
    if not 0 <= extra.latency_ms <= MAX_DWELL_MS:
        raise Undecodable("latency_ms is negative or longer than a week")
    return float(extra.latency_ms)
