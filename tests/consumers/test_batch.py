"""One poll -> one batch: records by topic, dead letters with their bytes, and where to go on."""

from __future__ import annotations

from typing import NamedTuple

from consumers.batch import Topics, build
from consumers.decode import Decoder
from flywheel.events import Batch, Coordinates
from flywheel.settings.load import Kafka, Signals

DECODER = Decoder(Signals(), str, 100)
TOPICS = Topics.of(Kafka())
SENT_MS = 1_760_000_000_000


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = SENT_MS


def batch(*records: Record) -> Batch:
    places: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        places.setdefault((record.topic, record.partition), []).append(record)
    return build(places, DECODER, TOPICS, now_ms=7)


def test_each_topic_has_its_kind_of_record() -> None:
    """Queries, events and documents are told apart by their topic, and keep their coordinates."""
    made = batch(
        Record("ubi.queries", 0, 4, b'{"query_id": "q", "user_query": "x"}'),
        Record("ubi.events", 1, 9, b'{"action_name": "click", "query_id": "q", "timestamp": 1760000000000}'),
        Record("flywheel.documents", 0, 2, b'{"doc_id": "d", "text": "x"}'),
    )
    assert [(at, query.query_id) for at, query in made.queries] == [(Coordinates("ubi.queries", 0, 4), "q")]
    assert made.queries[0][1].timestamp_ms == made.documents[0][1].updated_at_ms == SENT_MS
    assert len(made.events) == 1
    assert made.next_offsets == {("ubi.queries", 0): 5, ("ubi.events", 1): 10, ("flywheel.documents", 0): 3}


def test_what_cannot_be_read_keeps_its_bytes_and_is_passed_over() -> None:
    """A dead letter holds the bytes as they came, cut where they are too many; the next offset lies behind it."""
    made = batch(Record("ubi.events", 0, 0, b"x" * 150), Record("ubi.events", 0, 1, None))
    (first, large), (second, empty) = made.dead_letters
    assert (first.offset, large.payload, large.received_at_ms) == (0, b"x" * 100, 7)
    assert "150 bytes" in large.reason
    assert (second.offset, empty.payload, empty.reason) == (1, b"", "the message has no value")
    assert made.next_offsets == {("ubi.events", 0): 2}


def test_a_tombstone_deletes_a_document() -> None:
    """In a compacted topic a key without a value says that the document is gone."""
    made = batch(Record("flywheel.documents", 0, 0, None, key=b"d1"), Record("flywheel.documents", 0, 1, None))
    assert [(d.doc_id, d.deleted, d.updated_at_ms) for _, d in made.documents] == [("d1", True, SENT_MS)]
    assert len(made.dead_letters) == 1
