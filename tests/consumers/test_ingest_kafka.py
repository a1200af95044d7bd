"""Ingestion on a real broker: what is sent is stored once, whatever happens on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from consumers.batch import Topics
from consumers.decode import Decoder
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.admin import ensure_topics
from flywheel.broker.producer import Producer
from flywheel.events import Coordinates
from flywheel.settings.load import Kafka, Signals
from tests.consumers.memory import MemorySink

pytestmark = pytest.mark.kafka
NOW_MS = 1_760_000_000_000


def inputs(kafka: Kafka) -> tuple[str, ...]:
    return Topics.of(kafka).names


@pytest.fixture
def kafka(kafka_settings: Kafka) -> Kafka:
    ensure_topics(kafka_settings, [*inputs(kafka_settings), kafka_settings.topic_dead_letters])
    return kafka_settings


@pytest.fixture
def producer(kafka: Kafka) -> Iterator[Producer]:
    with Producer(kafka) as producer:
        yield producer


def make(kafka: Kafka, sink: MemorySink, outbox: Producer | None = None) -> Ingest:
    source = KafkaSource(kafka, inputs(kafka), poll_ms=100)
    decoder = Decoder(Signals(), lambda person: f"key-{person}", 1_048_576)
    return Ingest(source, sink, decoder, Topics.of(kafka), outbox=outbox, dead_letter_topic=kafka.topic_dead_letters)


def click(number: int) -> bytes:
    return json.dumps(
        {
            "action_name": "click",
            "query_id": f"q{number}",
            "client_id": "c",
            "timestamp": NOW_MS + number,
            "event_attributes": {"event_id": f"e{number}", "object": {"object_id": "d1"}},
        }
    ).encode()


def delete_topic(kafka: Kafka, name: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(**kafka.client_settings())
    admin.delete_topics([name], timeout_ms=5_000)
    admin.close()


def send(producer: Producer, topic: str, values: list[bytes]) -> list[Coordinates]:
    futures = [producer.send(topic, None, value) for value in values]
    return [future.result(30) for future in futures]


def until(ingest: Ingest, done: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, ingest.state
        ingest.step(NOW_MS)


def ids(count: int, start: int = 0) -> list[str]:
    return [f"e{number}" for number in range(start, start + count)]


def test_everything_sent_is_stored_once_and_in_order(kafka: Kafka, producer: Producer) -> None:
    """Every kind of record arrives, once, and the state counts it."""
    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(1_000)])
    send(producer, kafka.topic_queries, [b'{"query_id": "q1", "user_query": "x", "timestamp": 1760000000000}'])
    send(producer, kafka.topic_documents, [b'{"doc_id": "d1", "text": "x", "updated_at": 1760000000000}'])
    ingest = make(kafka, sink)
    until(ingest, lambda: bool(len(sink.events) == 1_000 and sink.queries and sink.documents))
    assert sink.events == ids(1_000)
    assert (ingest.state.phase, ingest.state.events, ingest.state.lag) == ("connected", 1_000, 0)
    ingest._disconnect()


def test_a_second_process_goes_on_where_the_store_says(kafka: Kafka, producer: Producer) -> None:
    """Offsets come from the store, not from Kafka: nothing is read twice and nothing is left out."""
    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(10)])
    first = make(kafka, sink)
    until(first, lambda: len(sink.events) == 10)
    first._disconnect()
    send(producer, kafka.topic_events, [click(n) for n in range(10, 20)])
    second = make(kafka, sink)
    until(second, lambda: len(sink.events) == 20)
    assert second.state.events == 10
    assert second.state.duplicates == 0
    second._disconnect()


def test_a_dead_letter_goes_to_its_topic_with_where_and_why(kafka: Kafka, producer: Producer) -> None:
    """What cannot be read is stored with its reason and sent on with its coordinates; reading goes on."""
    from kafka import KafkaConsumer

    sink = MemorySink()
    at = send(producer, kafka.topic_events, [b"no json", click(1)])
    ingest = make(kafka, sink, producer)
    until(ingest, lambda: sink.events == ["e1"])
    assert len(sink.reasons) == 1
    consumer = KafkaConsumer(
        kafka.topic_dead_letters, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=None
    )
    polled = [record for records in consumer.poll(timeout_ms=10_000).values() for record in records]
    consumer.close()
    headers = dict(polled[0].headers)
    assert polled[0].value == b"no json"
    assert headers["topic"].decode() == kafka.topic_events
    assert headers["offset"].decode() == str(at[0].offset)
    assert "malformed" in headers["reason"].decode()
    ingest._disconnect()


def test_a_store_that_refuses_gets_the_same_batch_again(kafka: Kafka, producer: Producer) -> None:
    """A full disk pauses ingestion with its reason in sight, and loses nothing."""
    sink = MemorySink(refuse=3)
    send(producer, kafka.topic_events, [click(n) for n in range(5)])
    ingest = make(kafka, sink)
    until(ingest, lambda: ingest.state.failures == 3)
    assert ingest.state.phase == "retrying"
    assert "No space left" in str(ingest.state.error)
    assert ingest.backoff_seconds > 0.2
    until(ingest, lambda: sink.events == ids(5))
    assert (ingest.state.phase, ingest.state.failures) == ("connected", 0)
    ingest._disconnect()


@pytest.mark.usefixtures("apache_kafka")
def test_a_topic_made_anew_is_read_from_its_start_and_said_so(kafka: Kafka, producer: Producer) -> None:
    """Offsets of a deleted topic are not applied to its namesake, not even after a restart."""
    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(10)])
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 10)
    ingest._disconnect()
    delete_topic(kafka, kafka.topic_events)
    ensure_topics(kafka, [kafka.topic_events])
    with Producer(kafka) as fresh:
        send(fresh, kafka.topic_events, [click(n) for n in range(10, 14)])
        again = make(kafka, sink)
        until(again, lambda: len(sink.events) == 14)
        assert any("from its start" in warning for warning in again.state.warnings)
        again._disconnect()
        send(fresh, kafka.topic_events, [click(14)])
        third = make(kafka, sink)
        until(third, lambda: len(sink.events) == 15)
        assert third.state.warnings == ()
        third._disconnect()


@pytest.mark.usefixtures("apache_kafka")
def test_a_topic_made_anew_while_reading_is_noticed(kafka: Kafka, producer: Producer) -> None:
    """A running reader sees that the log under the same name is another one, even if it has grown as long."""
    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(3)])
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 3)
    delete_topic(kafka, kafka.topic_events)
    ensure_topics(kafka, [kafka.topic_events])
    with Producer(kafka) as fresh:
        send(fresh, kafka.topic_events, [click(n) for n in range(100, 120)])
    until(ingest, lambda: len(sink.events) == 23)
    assert any("made again" in warning for warning in ingest.state.warnings)
    ingest._disconnect()


@pytest.mark.usefixtures("apache_kafka")
def test_messages_deleted_before_they_were_read_are_reported(kafka: Kafka, producer: Producer) -> None:
    """Where retention was faster than we were, reading goes on with what is left, and says what is lost."""
    from kafka import KafkaAdminClient, TopicPartition

    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(5)])
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 5)
    ingest._disconnect()
    send(producer, kafka.topic_events, [click(n) for n in range(5, 20)])
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_records({TopicPartition(kafka.topic_events, 0): 15})
    admin.close()
    until(ingest, lambda: len(sink.events) == 10)
    assert sink.events == ids(5) + ids(5, start=15)
    assert any("are lost" in warning and "wanted 5, begins at 15" in warning for warning in ingest.state.warnings)
    ingest._disconnect()


@pytest.mark.usefixtures("apache_kafka")
def test_a_first_reading_begins_where_the_log_does(kafka: Kafka, producer: Producer) -> None:
    """Messages that were gone before Flywheel was there are no trouble: it reads what there is."""
    from kafka import KafkaAdminClient, TopicPartition

    sink = MemorySink()
    send(producer, kafka.topic_events, [click(n) for n in range(10)])
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_records({TopicPartition(kafka.topic_events, 0): 4})
    admin.close()
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 6)
    assert (sink.events, ingest.state.warnings, ingest.state.failures) == (ids(6, start=4), (), 0)
    ingest._disconnect()


@pytest.mark.usefixtures("apache_kafka")
def test_partitions_added_later_are_read(kafka: Kafka, producer: Producer) -> None:
    """A topic that grows is read in full, without a restart."""
    from kafka import KafkaAdminClient

    sink = MemorySink()
    send(producer, kafka.topic_events, [click(0)])
    ingest = make(kafka, sink)
    until(ingest, lambda: len(sink.events) == 1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_partitions({kafka.topic_events: 3})
    admin.close()
    with Producer(kafka) as fresh:
        futures = [fresh.send(kafka.topic_events, f"{n}".encode(), click(n)) for n in range(1, 60)]
        assert len({future.result(30).partition for future in futures}) > 1
    until(ingest, lambda: len(sink.events) == 60)
    assert sorted(sink.events) == sorted(ids(60))
    ingest._disconnect()


def test_who_was_killed_before_telling_the_broker_tells_it_at_the_next_start(kafka: Kafka, producer: Producer) -> None:
    """The store has read to the end and nothing more comes: the broker's own figure of lag falls to nothing all the
    same."""
    from kafka import KafkaAdminClient, TopicPartition

    at = send(producer, kafka.topic_events, [click(n) for n in range(3)])[-1]
    source = KafkaSource(kafka, inputs(kafka), poll_ms=100)
    source.connect()
    source.assign({(kafka.topic_events, at.partition): at.offset + 1})
    admin = KafkaAdminClient(**kafka.client_settings())
    try:
        deadline, told = time.monotonic() + 30, None
        while told != at.offset + 1:
            assert time.monotonic() < deadline
            assert not source.poll()
            found = admin.list_group_offsets({kafka.group: None})[kafka.group]
            told = getattr(found.get(TopicPartition(kafka.topic_events, at.partition)), "offset", None)
    finally:
        source.close()
        admin.close()
