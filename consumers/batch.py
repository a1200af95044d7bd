"""The messages of one poll -> one `Batch`: records, dead letters, and where to go on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from consumers.decode import Decoder, Undecodable, attempt
from consumers.values import clean
from flywheel.events import Batch, Coordinates, DeadLetter, Document, Event, Query
from flywheel.settings.load import Kafka

MAX_REASON = 500


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
            add(batch, message, decoder, topics, now_ms)
            batch.next_offsets[place[0], place[1]] = message.offset + 1
    return batch


def add(batch: Batch, message: Message, decoder: Decoder, topics: Topics, now_ms: int) -> None:
    """Put the message's record into the batch, or a dead letter in its place, whatever the decoder does."""
    at = Coordinates(message.topic, message.partition, message.offset)
    record = attempt(lambda: _decode(at.topic, message, decoder, topics))
    match record:
        case Event():
            batch.events.append((at, record))
        case Query():
            batch.queries.append((at, record))
        case Document():
            batch.documents.append((at, record))
        case Undecodable():
            batch.dead_letters.append((at, letter(message, str(record), decoder.max_bytes, now_ms, record.field)))


def letter(message: Message, reason: str, max_bytes: int, now_ms: int, field: str | None = None) -> DeadLetter:
    """The message as it is set aside: its bytes, cut where they are too many, and all that reading it again needs."""
    return DeadLetter(
        payload=(message.value or b"")[:max_bytes],
        reason=clean(reason)[:MAX_REASON],
        received_at_ms=now_ms,
        field=field,
        key=message.key,
        sent_ms=_sent(message),
    )


def _decode(topic: str, message: Message, decoder: Decoder, topics: Topics) -> Query | Event | Document:
    sent_ms, value = _sent(message), message.value
    if value is None:
        if topic != topics.documents:
            raise Undecodable("the message has no value")
        return decoder.deletion(message.key, sent_ms)
    if topic == topics.events:
        return decoder.event(value)
    if topic == topics.queries:
        return decoder.query(value, sent_ms)
    return decoder.document(value, sent_ms, message.key)


def _sent(message: Message) -> int | None:
    return message.timestamp if message.timestamp > 0 else None
