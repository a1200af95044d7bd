"""Mutated records through the decoder, through Kafka and against HTTP: nothing crashes or stalls, and all is counted.

    python -m benchmarks.fuzz --decoder 1000000 --kafka 10000 --http 10000

Hypothesis draws the seeds; each gives a block of messages of the formats that we read, with values, fields or bytes
replaced. A failure is told with the seed of its block. Starts an Apache Kafka of its own unless FLYWHEEL_TEST_BOOTSTRAP
names one. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.harness import Daemon, print_result
from benchmarks.harness import Kafka as Broker
from consumers.batch import Topics
from consumers.decode import Decoder, Undecodable
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.admin import ensure_topics
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka, Signals
from flywheel.store import Store

BLOCK = 500
STALL_SECONDS = 60.0
NOW_MS = 1_760_000_000_000
COUNTED = ("queries", "events", "documents", "dead_letters", "duplicates", "merged", "superseded")
Message = tuple[str, bytes | None, bytes | None]  # queries, events or documents; its key; its value

_QUERY = {
    "application": "shop", "query_id": "q1", "client_id": "c1", "user_id": "u1", "user_query": "a bag",
    "timestamp": "2026-03-01T09:30:00.000Z", "query_response_hit_ids": ["d1", "d2", "d3"],
    "query_attributes": {
        "model_version": "v1", "experiment_id": "e1", "arm": "champion", "propensities": [1.0, 0.5, 0.25],
        "teams": ["both", "champion", "challenger"], "explored": [2], "latency_ms": 12.5, "segment": "new",
    },
}  # fmt: skip
_EVENT = {
    "application": "shop", "action_name": "click", "query_id": "q1", "client_id": "c1", "session_id": "s1",
    "timestamp": 1_772_357_404_000, "message": "x", "message_type": "INFO",
    "event_attributes": {
        "event_id": "e1", "object": {"object_id": "d1", "internal_id": "7", "price": 9.5},
        "position": {"ordinal": 2, "xy": {"x": 1, "y": 2}}, "dwell_ms": 31_000, "page": {"n": 1},
    },
}  # fmt: skip
_DOCUMENT = {"doc_id": "d1", "title": "A bag", "text": "Leather.", "updated_at": 1_772_357_404_000, "deleted": False}
_TEMPLATES: dict[str, dict[str, Any]] = {"queries": _QUERY, "events": _EVENT, "documents": _DOCUMENT}
_NAMES = (
    "action_name", "query_id", "user_query", "client_id", "timestamp", "event_attributes", "query_attributes", "object",
    "position", "ordinal", "dwell_ms", "query_response_hit_ids", "query_response_object_ids", "doc_id", "_id", "id",
    "text", "body", "title", "deleted", "updated_at", "_source", "payload", "schema", "specversion", "data", "op",
    "after", "before", "propensities", "teams", "explored", "latency_ms", "event_id", "", "\0", "\ud83d", "a.b",
)  # fmt: skip
_CHARACTERS = (0, 9, 10, 65, 0x1F600, 0xD83D, 0xDE00, 0x202E, 0xFFFF)
_ODD: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: r.choice([None, True, False, "", [], {}, 0, -1, "N/A", "null", "NaN", "12345.0", 12345.0, "1e5", " "]),
    lambda r: r.choice([float("nan"), float("inf"), 10**30, -(10**400), 2**63, 1e308, -0.0, 4.9e-324]),
    lambda r: r.choice(["click", "dwell", "thumbs_up", "item_click", "CLICK", "purchase", "d1", "q2", "soon"]),
    lambda r: r.choice(["2026-03-01t09:30:04z", "2026-03-01", "0001-01-01T00:00:00Z", "1" * 4_301, 1_772_357_404]),
    lambda r: "".join(chr(r.choice(_CHARACTERS)) for _ in range(r.randint(1, 9))),
    lambda r: "x" * r.choice([127, 128, 129, 512, 513, 5_000]),
    lambda r: [r.choice([None, 1, 1.0, "d1", {}, [], True, {"object_id": "d2"}]) for _ in range(r.randint(0, 6))],
    lambda r: {r.choice(_NAMES): r.choice([None, 1, "x", [], {}]) for _ in range(r.randint(0, 4))},
    lambda r: _nested(r.choice([3, 60, 3_000])),
    lambda r: r.choice([3, "3", 3.0, {"index": 2}, "d1", ["d1"], {"object_id": "d1"}]),
)  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def messages(seed: int, count: int) -> Iterator[Message]:
    """`count` messages: most of them records with a few things wrong, some of them good, some of them rubbish."""
    r = random.Random(seed)
    for _ in range(count):
        kind = r.choice(("queries", "events", "events", "documents"))
        record = json.loads(json.dumps(_TEMPLATES[kind]))
        _vary(record, r)
        for _ in range(r.choice((0, 1, 1, 1, 2, 3, 8))):
            _damage(record, r)
        value: bytes | None = _bytes(_wrapped(record, r), r)
        if r.random() < 0.15:
            value = _cut(value or b"", r)
        key = r.choice((None, b"d1", b'"d1"', b'{"doc_id": "d2"}', b'{"id": 3.0}', b"{", b"\xff", b"\0\0\0\0\1d1"))
        yield kind, key, None if r.random() < 0.01 else value


def _vary(record: dict[str, Any], r: random.Random) -> None:
    """Other ids and times, few enough that some repeat."""
    for name in ("query_id", "doc_id"):
        if name in record:
            record[name] = f"{name[0]}{r.randint(0, 3_000)}"
    if "event_attributes" in record:
        record["event_attributes"]["event_id"] = f"e{r.randint(0, 20_000)}"
    if "updated_at" in record:
        record["updated_at"] += r.randint(-5, 5)


def _damage(value: Any, r: random.Random) -> None:
    """One field, at any depth, gets another value, another name, or goes."""
    names = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not names:
        return
    name = r.choice(names)
    inner = value[name]
    if isinstance(inner, dict | list) and inner and r.random() < 0.6:
        _damage(inner, r)
    elif isinstance(value, dict) and r.random() < 0.25:
        del value[name]
        if r.random() < 0.5:
            value[r.choice(_NAMES)] = inner
    else:
        value[name] = r.choice(_ODD)(r)


def _wrapped(record: Any, r: random.Random) -> Any:
    if r.random() > 0.15:
        return record
    return r.choice(
        [
            {"schema": {"type": "struct"}, "payload": record},
            {"before": record, "after": None, "op": "d", "ts_ms": NOW_MS},
            {"before": None, "after": record, "op": "c"},
            {"specversion": "1.0", "type": "x", "data": record},
            {"specversion": "1.0", "data_base64": b64encode(b'{"action_name": "click"}').decode()},
            {"_index": "ubi", "_id": "d9", "_source": record},
            [record],
            {"payload": {"payload": {"payload": record}}},
            {"event_attributes": record},
        ]
    )


def _bytes(value: Any, r: random.Random) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=r.random() < 0.7)
    except RecursionError:
        return b"[" * 100_000
    prefix = b"\0\0\0\0\7" if r.random() < 0.03 else b"\xef\xbb\xbf" if r.random() < 0.02 else b""
    encoding = r.choice((*("utf-8",) * 20, "utf-16", "latin-1"))
    return prefix + text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


def _cut(value: bytes, r: random.Random) -> bytes:
    start = r.randint(0, len(value))
    stop = min(len(value), start + r.choice((0, 1, 1, 3, 20, len(value))))
    return value[:start] + bytes(r.randrange(256) for _ in range(r.choice((0, 1, 1, 4)))) + value[stop:]


def decode_block(seed: int, count: int, decoder: Decoder, seen: Counter[str]) -> None:
    """Each message is a record that a store can hold, or is refused with a reason; whichever kind it is taken for."""
    for kind, key, value in messages(seed, count):
        for read in _reads(decoder, key, value):
            try:
                record = read()
            except Undecodable as problem:
                seen["refused"] += bool(str(problem))
            else:
                msgspec.json.encode(record)  # neither half a character nor a number beyond all bounds
                seen[kind if not record.ignored else f"{kind}, less a field"] += 1


def _reads(decoder: Decoder, key: bytes | None, value: bytes | None) -> tuple[Callable[[], Any], ...]:
    if value is None:
        return (lambda: decoder.deletion(key, NOW_MS),)
    return (
        lambda: decoder.query(value, NOW_MS),
        lambda: decoder.event(value),
        lambda: decoder.document(value, NOW_MS, key),
        lambda: decoder.feedback(value, NOW_MS),
    )


def through_decoder(count: int) -> dict[str, int]:
    """Blocks of messages from seeds that Hypothesis draws."""
    decoder, seen = Decoder(Signals(), str, 1_048_576), Counter[str]()

    @settings(
        max_examples=max(1, count // BLOCK), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**64 - 1))
    def run(seed: int) -> None:
        decode_block(seed, BLOCK, decoder, seen)
        seen["messages"] += BLOCK

    run()
    return dict(seen)


def through_kafka(kafka: Kafka, count: int, folder: Path, seed: int) -> dict[str, int]:
    """What is sent is stored, repeated or set aside, and ingestion ends at the log's end."""
    topics = Topics.of(kafka)
    ensure_topics(kafka, [*topics.names, kafka.topic_dead_letters], 2)
    names = {"queries": topics.queries, "events": topics.events, "documents": topics.documents}
    with Producer(kafka) as producer, Store.open(folder / "fuzz.duckdb", memory_gb=1) as store:
        futures = [producer.send(names[kind], key, value) for kind, key, value in sendable(seed, count)]
        for future in futures:
            future.result(60)
        ingest = Ingest(
            KafkaSource(kafka, topics.names, poll_ms=100),
            store.feedback,
            Decoder(Signals(), str, 1_048_576),
            topics,
            outbox=producer,
            dead_letter_topic=kafka.topic_dead_letters,
        )
        deadline = time.monotonic() + STALL_SECONDS
        while _sum(store.feedback.counts()) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"it stalls: {ingest.state} {store.feedback.counts()}")
            if ingest.step(int(time.time() * 1_000)) is not None:
                deadline = time.monotonic() + STALL_SECONDS
            if ingest.state.error:
                raise RuntimeError(ingest.state.error)
        ingest.step(int(time.time() * 1_000))
        counts, state = store.feedback.counts(), ingest.state
        ingest._disconnect()
    if _sum(counts) != count or state.lag or state.unsent_dead_letters:
        raise RuntimeError(f"{count} sent, {counts}, {state}")
    return counts


def sendable(seed: int, count: int) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Messages with a value, since our own producer sends no other."""
    for kind, key, value in messages(seed, count):
        yield kind, key, value or b""


def _sum(counts: dict[str, int]) -> int:
    return sum(counts[name] for name in COUNTED)


def bodies(seed: int, count: int) -> Iterator[tuple[str, str, bytes, int]]:
    """Requests: path, content type, body, and how many records it should hold where it can be told apart."""
    r = random.Random(seed)
    found = (message for message in messages(seed, 8 * count) if message[0] != "documents" and message[2] is not None)
    for _ in range(count):
        records = [(kind, value or b"") for kind, _, value in (next(found) for _ in range(r.choice((1, 1, 2, 4))))]
        kind = records[0][0]
        lines = [b" ".join(value.splitlines()) for _, value in records]
        match r.randrange(3):
            case 0:
                yield kind, "application/json", records[0][1], 1
            case 1:
                yield kind, "application/json", b"[" + b",".join(lines) + b"]", len(lines)
            case _:
                yield kind, "application/x-ndjson", b"\n".join(lines), sum(bool(line.strip()) for line in lines)


def post(http: httpx.Client, seed: int, count: int) -> Counter[str]:
    """Send requests, and check each answer: nothing but 202 and refusals with a reason, and every record told of."""
    told: Counter[str] = Counter()
    for kind, media_type, body, _ in bodies(seed, count):
        answer = http.post(f"/v1/ubi/{kind}", content=body, headers={"content-type": media_type})
        told[str(answer.status_code)] += 1
        if answer.status_code == 202:
            said = answer.json()
            refused = {item["record"] for item in said["ignored"] if item["field"] is None}
            told["accepted"] += said["accepted"]
            told["sent"] += said["accepted"] + len(refused)
        elif answer.status_code not in {400, 413} or not answer.json()["error"]["message"]:
            raise RuntimeError(f"{answer.status_code} {answer.text} for {body!r} (seed {seed})")
    return told


def against_http(bootstrap: str, count: int, folder: Path, seed: int) -> dict[str, int]:
    """A running daemon: what it said that it took is what it stored."""
    mark = uuid.uuid4().hex[:8]
    names = ("topic_queries", "topic_events", "topic_documents", "topic_models", "topic_dead_letters")
    keys = {"kafka.bootstrap": bootstrap, "serving.port": "0", **{f"kafka.{name}": f"{name}-{mark}" for name in names}}
    daemon = Daemon(folder / "home", keys)
    daemon.flywheel("init", check=False)
    daemon.start()
    try:
        with httpx.Client(base_url=daemon.url, timeout=60, trust_env=False) as http:
            told = post(http, seed, count)
            deadline = time.monotonic() + STALL_SECONDS
            while _sum(daemon.flywheel("status")["ingest"]) < told["sent"]:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"it stalls: {told}, {daemon.flywheel('status')['ingest']}")
                time.sleep(0.5)
        status = daemon.flywheel("status")
        if _sum(status["ingest"]) != told["sent"] or status["problems"]:
            raise RuntimeError(f"{told}, {status['ingest']}, {status['problems']}")
    finally:
        daemon.stop()
    return dict(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decoder", type=int, default=1_000_000, help="messages through the decoder")
    parser.add_argument("--kafka", type=int, default=10_000, help="messages through Kafka into the store")
    parser.add_argument("--http", type=int, default=10_000, help="requests against a running daemon")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"decoder": through_decoder(arguments.decoder) if arguments.decoder else {}}
    with tempfile.TemporaryDirectory(prefix="flywheel-fuzz-") as name:
        folder, broker = Path(name), Broker(Path(name) / "kafka")
        broker.start()
        try:
            mark = uuid.uuid4().hex[:8]
            topics = {
                f"topic_{kind}": f"fuzz-{kind}-{mark}" for kind in ("queries", "events", "documents", "dead_letters")
            }
            kafka = Kafka(bootstrap=broker.bootstrap, group=f"fuzz-{mark}", **topics)
            if arguments.kafka:
                figures["kafka"] = through_kafka(kafka, arguments.kafka, folder, arguments.seed)
            if arguments.http:
                figures["http"] = against_http(broker.bootstrap, arguments.http, folder, arguments.seed)
        finally:
            broker.stop()
    print_result(figures, seeds=[arguments.seed])


if __name__ == "__main__":
    main()
