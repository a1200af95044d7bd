"""The messages of one poll -> one `Batch`: records, dead letters, and where to go on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from consumers.decode import Decoder, Undecodable
from consumers.wire import read_id
from flywheel.events import Batch, Coordinates, DeadLetter, Document
from flywheel.settings.load import Kafka


class Message(Protocol):
    """The parts of a broker's record that are read; `timestamp` in epoch milliseconds, negative where there is none."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topic carries what, all of them read."""

    queries: str
    events: str
    documents: str

    @classmethod
    def of(cls, kafka: Kafka) -> Topics:
        """The names as configured."""
        return cls(kafka.topic_queries, kafka.topic_events, kafka.topic_documents)

    @property
    def names(self) -> tuple[str, ...]:
        """All topics, each once."""
        return tuple(dict.fromkeys((self.queries, self.events, self.documents)))


def build(
    messages: Mapping[tuple[str, int], Iterable[Message]], decoder: Decoder, topics: Topics, now_ms: int
) -> Batch:
    """Decode what one poll brought, by (topic, partition); an unreadable message becomes a dead letter."""
    batch = Batch()
    for place, records in messages.items():
        for message in records:
            coordinates = Coordinates(message.topic, message.partition, message.offset)
            try:
                _decode_into(batch, coordinates, message, decoder, topics)
            except Undecodable as problem:
                payload = (message.value or b"")[: decoder.max_bytes]
                batch.dead_letters.append((coordinates, DeadLetter(payload, str(problem), now_ms)))
            batch.next_offsets[place[0], place[1]] = message.offset + 1
    return batch


def _decode_into(batch: Batch, at: Coordinates, message: Message, decoder: Decoder, topics: Topics) -> None:
    sent_ms = message.timestamp if message.timestamp > 0 else None
    value = message.value
    if value is None:
        if at.topic != topics.documents:
            raise Undecodable("the message has no value")
        batch.documents.append((at, _tombstone(message.key, sent_ms)))
    elif at.topic == topics.events:
        batch.events.append((at, decoder.event(value)))
    elif at.topic == topics.queries:
        batch.queries.append((at, decoder.query(value, sent_ms)))
    else:
        batch.documents.append((at, decoder.document(value, sent_ms)))


def _tombstone(key: bytes | None, sent_ms: int | None) -> Document:
    """The deletion of a document, as a compacted topic tells it: the document's id as key, and no value."""
    doc_id = read_id((key or b"").decode("utf-8", "replace"), "the message's key")
    if doc_id is None or sent_ms is None:
        raise Undecodable("a deletion (no value) without a document id as key and a time")
    return Document(doc_id=doc_id, title="", text="", updated_at_ms=sent_ms, deleted=True)
