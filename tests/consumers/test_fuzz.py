"""A tenth of the fuzzer of benchmarks/fuzz.py: no mutated message stops anything, and each is counted somewhere."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from consumers.batch import Topics, build
from consumers.decode import Decoder
from flywheel.settings.load import Kafka, Signals
from flywheel.store import Store
from tests.consumers.test_batch import Record
from tests.serving.house import serve

DECODER = Decoder(Signals(), str, 1_048_576)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 2**64 - 1))
def test_a_hundred_thousand_mutated_messages_are_read_or_refused(seed: int) -> None:
    """The decoder gives a sound record or a reason, for whichever kind a message is taken."""
    seen: Counter[str] = Counter()
    fuzz.decode_block(seed, 500, DECODER, seen)
    assert seen["refused"]
    assert seen["queries"] + seen["events"] + seen["documents"] > 100


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(0, 2**64 - 1))
def test_what_comes_in_is_stored_repeated_or_set_aside(seed: int) -> None:
    """Of 400 mutated messages none is lost in the store, and the next offsets are those behind the last."""
    topics = Topics.of(Kafka())
    names = {"queries": topics.queries, "events": topics.events, "documents": topics.documents}
    places: dict[tuple[str, int], list[Record]] = {}
    for kind, key, value in fuzz.messages(seed, 400):
        records = places.setdefault((names[kind], 0), [])
        records.append(Record(names[kind], 0, len(records), value, key))
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(Path(folder) / "fuzz.duckdb", memory_gb=0.5, threads=1) as store,
    ):
        store.feedback.ingest(build(places, DECODER, topics, fuzz.NOW_MS), "c", fuzz.NOW_MS)
        assert fuzz._sum(store.feedback.counts()) == 400
        assert store.feedback.offsets("c") == {place: len(records) for place, records in places.items()}


@pytest.mark.kafka
def test_a_thousand_mutated_messages_through_kafka_are_all_counted(apache_kafka: Kafka, tmp_path: Path) -> None:
    """Ingestion reaches the end of the logs, and what was sent is stored, repeated or set aside."""
    counts = fuzz.through_kafka(apache_kafka, 1_000, tmp_path, seed=1)
    assert counts["dead_letters"] > 50
    assert counts["events"] > 100


def test_a_thousand_mutated_requests_are_answered(tmp_path: Path) -> None:
    """Each gets 202 or a refusal with its reason, and the broker holds every record that was told of."""
    with serve() as house:
        told = fuzz.post(house.http, 7, 1_000)
        held = [value for values in house.broker.held.values() for value in values]
    assert set(told) <= {"202", "400", "413", "accepted", "sent"}
    assert told["202"] > 300
    assert len(held) == told["sent"] >= told["accepted"]
