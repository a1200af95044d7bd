"""Events a second from Kafka into the store, beside the same client's raw polling of the same messages in the same run.

    python -m benchmarks.ingest --events 200000

Starts an Apache Kafka of its own unless --bootstrap names one. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import print_result
from consumers.batch import Topics
from consumers.decode import Decoder
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.admin import ensure_topics
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka, Signals
from flywheel.store import Store

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kafka"
START_MS = 1_760_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--bootstrap", help="a broker to use; without it one is started")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-ingest-") as folder, _broker(arguments.bootstrap) as bootstrap:
        kafka = _settings(bootstrap)
        ensure_topics(kafka, Topics.of(kafka).names, arguments.partitions)
        sent, size = _fill(kafka, arguments.events)
        _say(f"sent {sent:,.0f} events/s of {size} bytes")
        raw = _poll_all(kafka, arguments.events)
        _say(f"raw polling {raw:,.0f} events/s")
        stored = _ingest_all(kafka, arguments.events, Path(folder) / "flywheel.duckdb")
        _say(f"ingested {stored:,.0f} events/s, {stored / raw:.0%} of raw polling")
        again = _poll_all(kafka, arguments.events)
    figures = {"events": arguments.events, "bytes": size, "sent_per_second": round(sent)}
    figures |= {"raw_per_second": round((raw + again) / 2), "ingested_per_second": round(stored)}
    print_result(figures | {"ratio": round(2 * stored / (raw + again), 3)}, seeds=[])


def _settings(bootstrap: str) -> Kafka:
    mark = uuid.uuid4().hex[:8]
    return Kafka(
        bootstrap=bootstrap,
        group=f"bench-{mark}",
        topic_queries=f"bench-queries-{mark}",
        topic_events=f"bench-events-{mark}",
        topic_documents=f"bench-documents-{mark}",
        max_poll_records=10_000,
    )


@contextmanager
def _broker(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="flywheel-kafka-") as folder:
        command = [sys.executable, str(SCRIPT)]
        started = subprocess.run(
            [*command, "start", "--dir", folder, "--port", "0"], stdout=subprocess.PIPE, text=True, check=True
        )
        try:
            yield started.stdout.splitlines()[-1]
        finally:
            subprocess.run([*command, "stop", "--dir", folder], check=False)


def _fill(kafka: Kafka, count: int) -> tuple[float, int]:
    started, value = time.perf_counter(), b""
    with Producer(kafka) as producer:
        for number in range(count):
            value = _event(number)
            producer.send(kafka.topic_events, str(number % 997).encode(), value)
            if number % 20_000 == 0:
                producer.flush(60)
        if not producer.flush(120):
            raise SystemExit(f"the broker did not take the events: {producer.error}")
    return count / (time.perf_counter() - started), len(value)


def _event(number: int) -> bytes:
    attributes = {
        "event_id": f"event-{number}",
        "object": {"object_id": f"document-{number % 5_000}", "object_id_field": "_id"},
        "position": {"ordinal": number % 10 + 1},
    }
    event = {
        "action_name": "click",
        "application": "bench",
        "query_id": f"query-{number // 3}",
        "client_id": f"client-{number % 2_000}",
        "session_id": f"session-{number // 12}",
        "timestamp": START_MS + number,
        "message_type": "CLICK_THROUGH",
        "event_attributes": attributes,
    }
    return json.dumps(event).encode()


def _poll_all(kafka: Kafka, count: int) -> float:
    source = KafkaSource(kafka, [kafka.topic_events], poll_ms=200)
    source.connect()
    source.assign({})
    seen = first = 0
    started = 0.0
    while seen < count:
        seen += sum(len(messages) for messages in source.poll().values())
        if not first:
            started, first = time.perf_counter(), seen
    rate = (count - first) / (time.perf_counter() - started)
    source.close()
    return rate


def _ingest_all(kafka: Kafka, count: int, path: Path) -> float:
    topics = Topics.of(kafka)
    decoder = Decoder(Signals(), lambda person: person[::-1], 1_048_576)
    with Store.open(path) as store:
        ingest = Ingest(KafkaSource(kafka, topics.names, poll_ms=200), store.feedback, decoder, topics)
        started, first = 0.0, 0
        while ingest.state.events < count:
            ingest.step(START_MS + count)
            if ingest.state.error:
                raise SystemExit(ingest.state.error)
            if not first:  # connecting and the first batch, which loads libraries, are not what is measured
                started, first = time.perf_counter(), ingest.state.events
        return (count - first) / (time.perf_counter() - started)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
