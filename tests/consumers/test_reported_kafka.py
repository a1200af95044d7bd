"""What people reported of Kafka's users and clients, on a real broker: compressions, transactions, deletions, sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from kafka import KafkaProducer

from consumers.batch import Topics
from consumers.decode import Decoder
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.admin import ensure_topics
from flywheel.broker.codecs import missing_codecs
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka, Signals
from flywheel.store.store import Store
from tests.consumers.memory import MemorySink
from tests.consumers.test_ingest_kafka import click, inputs, make, until
from tests.store.make import rows

pytestmark = pytest.mark.kafka


@pytest.fixture
def kafka(apache_kafka: Kafka) -> Kafka:
    ensure_topics(apache_kafka, [*inputs(apache_kafka), apache_kafka.topic_dead_letters])
    return apache_kafka


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1) as opened:
        yield opened


def stored(kafka: Kafka, store: Store) -> Ingest:
    source = KafkaSource(kafka, inputs(kafka), poll_ms=100)
    return Ingest(source, store.feedback, Decoder(Signals(), str, 1_048_576), Topics.of(kafka))


def send(kafka: Kafka, topic: str, values: list[bytes], **options: Any) -> None:
    producer = KafkaProducer(**kafka.client_settings(), max_request_size=9_000_000, **options)
    for value in values:
        producer.send(topic, value)
    producer.flush(30)
    producer.close()


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_every_compression_of_kafka_is_read(kafka: Kafka, codec: str) -> None:
    """Twenty events packed by a producer are stored like any others."""
    sink = MemorySink()
    assert missing_codecs() == []
    send(kafka, kafka.topic_events, [click(n) for n in range(20)], compression_type=codec, linger_ms=50)
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 20)
    assert (ingest.state.lag, ingest.state.blocked) == (0, ())
    ingest._disconnect()


def test_a_compression_that_is_unknown_stops_its_partition_alone(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and the cure are told, its lag goes on growing, the other topics are read, and once the library is there
    nothing is missing."""
    send(kafka, kafka.topic_events, [click(n) for n in range(3)])
    send(kafka, kafka.topic_events, [click(n) for n in range(3, 9)], compression_type="zstd")
    library = sys.modules["zstandard"]
    monkeypatch.setattr("kafka.codec.zstd", None)
    monkeypatch.setattr("consumers.blocked.AGAIN_SECONDS", 2.0)
    monkeypatch.setattr("consumers.kafka.DISCOVER_SECONDS", 1.0)
    assert missing_codecs() == ["zstd"]
    sink = MemorySink()
    ingest = make(kafka, sink)
    until(ingest, lambda: bool(ingest.state.blocked))
    send(kafka, kafka.topic_queries, [b'{"query_id": "q1", "user_query": "x", "timestamp": 1760000000000}'])
    until(ingest, lambda: sink.queries == ["q1"])
    assert sink.events == ["e0", "e1", "e2"]
    assert "zstd" in ingest.state.blocked[0]
    assert "pip install" in ingest.state.blocked[0]
    assert ingest.state.phase == "connected"
    until(ingest, lambda: ingest.state.lag == 6)
    send(kafka, kafka.topic_events, [click(9)])
    until(ingest, lambda: ingest.state.lag == 7)
    monkeypatch.setattr("kafka.codec.zstd", library)
    until(ingest, lambda: len(sink.events) == 10)
    assert sink.events == [f"e{n}" for n in range(10)]
    until(ingest, lambda: ingest.state.lag == 0 and not ingest.state.blocked)
    ingest._disconnect()


def test_lag_ends_at_0_over_what_is_no_message(kafka: Kafka) -> None:
    """Markers of transactions, and what was aborted, are not waited for; now, and after a restart."""
    producer = KafkaProducer(**kafka.client_settings(), transactional_id=kafka.group)
    producer.init_transactions()
    for first, end in ((0, producer.commit_transaction), (100, producer.abort_transaction)):
        producer.begin_transaction()
        for number in range(first, first + 5):
            producer.send(kafka.topic_events, click(number))
        producer.flush()
        end()
    producer.close()
    sink = MemorySink()
    for ingest in (make(kafka, sink), make(kafka, sink)):
        until(ingest, partial(_caught_up, ingest))
        assert sink.events == [f"e{n}" for n in range(5)]
        ingest._disconnect()


def _caught_up(ingest: Ingest) -> bool:
    return ingest.state.lag == 0


def test_deletions_are_keyed_as_producers_write_keys(kafka: Kafka, store: Store) -> None:
    """As text, as JSON's text, as an object of one field, in Connect's envelope; another key is a dead letter."""
    producer = KafkaProducer(**kafka.client_settings())
    keys = {
        "j1": b'"j1"',
        "j2": b'{"doc_id":"j2"}',
        "j3": b"j3",
        "j4": b'{"schema": {"type": "string"}, "payload": "j4"}',
        "5": b'{"id": 5.0}',
    }
    for doc_id, key in keys.items():
        document = {"doc_id": doc_id, "title": doc_id, "text": "x", "updated_at": "2026-03-01T00:00:00Z"}
        producer.send(kafka.topic_documents, json.dumps(document).encode(), key)
    for key in (*keys.values(), b'{"a": 1, "b": 2}'):
        producer.send(kafka.topic_documents, None, key)
    producer.flush()
    producer.close()
    ingest = stored(kafka, store)
    until(ingest, lambda: store.feedback.counts()["dead_letters"] == 1)
    assert rows(store, "SELECT doc_id FROM documents WHERE deleted ORDER BY 1") == [(key,) for key in sorted(keys)]
    assert rows(store, "SELECT count(*) FROM documents WHERE NOT deleted") == [(0,)]
    assert rows(store, "SELECT field, reason FROM dead_letters") == [("key", "the message's key names no doc_id")]
    ingest._disconnect()


def test_a_document_over_the_limit_is_a_dead_letter_on_its_topic_too(kafka: Kafka, store: Store) -> None:
    """It is cut to what the topic takes, and publishing goes on without a restart."""
    text = "word " * 270_000
    document = {"doc_id": "long", "title": "A manual", "text": text, "updated_at": "2026-03-01T00:00:00Z"}
    send(kafka, kafka.topic_documents, [json.dumps(document).encode()], compression_type="gzip")
    with Producer(kafka) as outbox:
        source = KafkaSource(kafka, inputs(kafka), poll_ms=100)
        decoder = Decoder(Signals(), str, 1_048_576)
        options: dict[str, Any] = {"outbox": outbox, "dead_letter_topic": kafka.topic_dead_letters}
        ingest = Ingest(source, store.feedback, decoder, Topics.of(kafka), **options)
        until(ingest, lambda: store.feedback.counts()["dead_letters"] == 1)
        assert ingest.state.unsent_dead_letters == 0
        assert outbox.send(kafka.topic_events, None, click(1)).result(20).offset == 0
        ingest._disconnect()


def test_a_time_of_thousands_of_digits_stops_nothing(kafka: Kafka, store: Store) -> None:
    """The event becomes a dead letter with the field, and those behind it are stored."""
    digits = json.dumps({"action_name": "click", "query_id": "q", "timestamp": "1" * 4_301}).encode()
    send(kafka, kafka.topic_events, [digits, digits.replace(b'"' + b"1" * 4_301 + b'"', b"1" * 4_301), click(1)])
    ingest = stored(kafka, store)
    until(ingest, lambda: store.feedback.counts()["events"] == 1)
    assert (
        rows(store, "SELECT field, reason FROM dead_letters")
        == [("timestamp", "timestamp is outside 1990 to 2100")] * 2
    )
    ingest._disconnect()
