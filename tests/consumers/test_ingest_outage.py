"""A broker that goes away, comes back, or comes back as another: seen in the state, and nothing lost or doubled."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers import kafka as kafka_module
from consumers.batch import Topics
from consumers.ingest import Ingest
from flywheel.broker.admin import ensure_topics
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka
from tests.conftest import Served, kafka_script, unique_kafka
from tests.consumers.memory import MemorySink
from tests.consumers.test_ingest_kafka import click, ids, make

pytestmark = pytest.mark.kafka


@pytest.fixture
def node(broker: Served, tmp_path: Path) -> Iterator[tuple[Path, Kafka]]:
    """An Apache Kafka of this test's own, to be stopped and started."""
    if broker.fallback is not None:
        pytest.skip("needs an Apache Kafka of its own")
    started = kafka_script("start", tmp_path)
    if started.returncode:
        pytest.skip(f"needs an Apache Kafka of its own: {started.stderr.strip()}")
    try:
        yield tmp_path, unique_kafka(started.stdout.splitlines()[-1])
    finally:
        kafka_script("stop", tmp_path)


@contextmanager
def running(ingest: Ingest) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=ingest.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()
        assert ingest.state.phase == "stopped"


def wait_for(done: Callable[[], bool], ingest: Ingest, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, ingest.state
        time.sleep(0.05)


def restart(folder: Path, kafka: Kafka) -> None:
    started = kafka_script("start", folder, "--port", kafka.bootstrap.rpartition(":")[2])
    assert started.returncode == 0, started.stderr


def test_an_outage_is_visible_and_loses_nothing(node: tuple[Path, Kafka], monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is killed while messages are on their way: they wait, and arrive once when it is back."""
    monkeypatch.setattr(kafka_module, "SILENCE_SECONDS", 2.5)
    folder, kafka = node
    ensure_topics(kafka, Topics.of(kafka).names)
    sink = MemorySink()
    ingest = make(kafka, sink)
    with running(ingest), Producer(kafka) as producer:
        sent = [producer.send(kafka.topic_events, None, click(n)) for n in range(100)]
        wait_for(lambda: len(sink.events) == 100, ingest)
        os.kill(int((folder / "kafka.pid").read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
        sent += [producer.send(kafka.topic_events, None, click(n)) for n in range(100, 200)]
        wait_for(lambda: ingest.state.phase == "retrying", ingest)
        assert kafka.bootstrap in str(ingest.state.error)
        restart(folder, kafka)
        wait_for(lambda: len(sink.events) >= 200, ingest)
        assert ingest.state.phase == "connected"
        assert all(future.exception(30) is None for future in sent)
    assert sorted(sink.events) == sorted(ids(200))
    assert ingest.state.duplicates == 0


def test_another_cluster_at_the_same_address_is_read_from_its_start(node: tuple[Path, Kafka]) -> None:
    """Offsets of one cluster are never applied to another, even if the address is the same."""
    folder, kafka = node
    ensure_topics(kafka, Topics.of(kafka).names)
    sink = MemorySink()
    ingest = make(kafka, sink)
    with running(ingest):
        with Producer(kafka) as producer:
            for number in range(5):
                producer.send(kafka.topic_events, None, click(number))
        wait_for(lambda: len(sink.events) == 5, ingest)
        assert kafka_script("wipe", folder).returncode == 0
        restart(folder, kafka)
        ensure_topics(kafka, Topics.of(kafka).names)
        with Producer(kafka) as producer:
            for number in range(5, 25):
                producer.send(kafka.topic_events, None, click(number))
        wait_for(lambda: len(sink.events) == 25, ingest)
    assert sink.events == ids(25)
    assert any("another cluster" in warning for warning in ingest.state.warnings)
    assert len(sink.next_offsets) == 2
