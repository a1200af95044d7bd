"""A process that ingests is killed, again and again: nothing is lost and nothing is doubled."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consumers.batch import Topics
from flywheel.broker.admin import ensure_topics, lag
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka
from flywheel.store import Store
from tests.consumers.ingest_process import POINTS

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]
EVENTS, QUERIES, BROKEN = 4_000, 400, 40


@pytest.fixture
def kafka(kafka_settings: Kafka) -> Kafka:
    small = kafka_settings.model_copy(update={"max_poll_records": 60})
    ensure_topics(small, [*Topics.of(small).names, small.topic_dead_letters], partitions=2)
    with Producer(small) as producer:
        for number in range(EVENTS):
            producer.send(small.topic_events, str(number).encode(), _click(number))
        for number in range(QUERIES):
            value = {"query_id": f"q{number}", "user_query": "x", "timestamp": 1_760_000_000_000 + number}
            producer.send(small.topic_queries, None, json.dumps(value).encode())
        for number in range(BROKEN):
            producer.send(small.topic_events, None, f"broken {number}".encode())
        assert producer.flush(60)
    return small


def _click(number: int) -> bytes:
    event = {"action_name": "click", "query_id": f"q{number % QUERIES}", "timestamp": 1_760_000_000_000 + number}
    return json.dumps(event | {"event_attributes": {"event_id": f"e{number}"}}).encode()


def _start(kafka: Kafka, store: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.consumers.ingest_process", "--settings", kafka.model_dump_json()]
    return subprocess.Popen([*command, "--store", str(store), *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _finish(kafka: Kafka, path: Path) -> None:
    """Let a last process read to the end, and stop it as an operator would."""
    process = _start(kafka, path)
    assert process.stdout is not None
    try:
        # an operator's signal before it can be heard would only end it, and there may be nothing left to read
        assert process.stdout.readline()
        deadline = time.monotonic() + 400
        while _unread(kafka):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0


def _unread(kafka: Kafka) -> int:
    """By the offsets committed for lag's sake: the store itself is locked by the process that is watched."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    found = admin.list_group_offsets({kafka.group: None})[kafka.group]
    admin.close()
    return lag(kafka, Topics.of(kafka).names, {(p.topic, p.partition): o.offset for p, o in found.items()})


def _check(path: Path) -> None:
    with Store.open(path, memory_gb=1.0, threads=1) as store, store.database.read() as con:
        events, distinct = con.execute("SELECT count(*), count(DISTINCT event_id) FROM feedback").fetchall()[0]
        queries, pages = con.execute("SELECT count(*), count(DISTINCT query_id) FROM queries").fetchall()[0]
        broken = con.execute('SELECT count(*), count(DISTINCT (topic, "partition", "offset")) FROM dead_letters')
        assert (events, distinct) == (EVENTS, EVENTS)
        assert (queries, pages) == (QUERIES, QUERIES)
        assert broken.fetchall()[0] == (BROKEN, BROKEN)
        assert store.feedback.counts()["duplicates"] == 0


def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(kafka: Kafka, tmp_path: Path) -> None:
    """Killed after the poll, before the transaction, after it, and after the commit: each message is stored once."""
    path = tmp_path / "flywheel.duckdb"
    for point in POINTS:
        process = _start(kafka, path, "--die", point)
        assert process.wait(30) == -9, point
    _finish(kafka, path)
    _check(path)


def _kill_at_random(kafka: Kafka, path: Path, seed: int) -> None:
    """Six processes in turn, each killed at a moment that nobody chose; then a last one, and what is stored."""
    moments = random.Random(seed)
    for _ in range(6):
        process = _start(kafka, path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.05, 0.9))
        process.kill()
        process.wait()
    _finish(kafka, path)
    _check(path)


def test_kills_at_random_moments_lose_and_double_nothing(kafka: Kafka, tmp_path: Path) -> None:
    """SIGKILL at moments that nobody chose: each message is stored once."""
    _kill_at_random(kafka, tmp_path / "flywheel.duckdb", seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
def test_hundreds_of_kills_lose_and_double_nothing(kafka: Kafka, tmp_path: Path, seed: int) -> None:
    """SIGKILL at 300 moments that nobody chose: each message is stored once, whatever step the kill fell into."""
    _kill_at_random(kafka, tmp_path / "flywheel.duckdb", seed)
