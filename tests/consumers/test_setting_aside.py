"""One record never stops the rest: not a broken decoder, nor a database that cannot hold it, nor a topic of letters."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.batch import Topics
from consumers.decode import Decoder
from consumers.halving import coordinates, halve
from consumers.ingest import REFUSALS, Ingest
from consumers.outbox import MOST_BYTES, Outbox
from flywheel.events import Batch, Coordinates, DeadLetter, Event
from flywheel.settings.load import Kafka, Signals
from tests.consumers.memory import MemorySink
from tests.consumers.test_ingest import EVENTS, ScriptedSource, make
from tests.consumers.test_ingest_kafka import click


class BrokenDecoder(Decoder):
    """Fails in a way of its own at each event whose number is in `bad`."""

    bad: tuple[int, ...] = ()
    error: type[Exception] = ZeroDivisionError

    def event(self, value: bytes, sent_ms: int | None = None) -> Event:
        event = super().event(value, sent_ms)
        if int(event.event_id.removeprefix("e")) in self.bad:
            raise self.error("broken on purpose")
        return event


def run(ingest: Ingest, steps: int) -> None:
    for now_ms in range(steps):
        ingest.step(now_ms)


@pytest.mark.parametrize("error", [ZeroDivisionError, RecursionError, MemoryError, KeyError, UnicodeError])
def test_a_decoder_that_is_broken_stops_nothing(error: type[Exception]) -> None:
    """Whatever it raises, that message becomes a dead letter with the reason, and all others are stored."""
    decoder = BrokenDecoder(Signals(), str, 10_000)
    decoder.bad, decoder.error = (0, 3, 9), error
    sink = MemorySink()
    ingest = Ingest(ScriptedSource([click(n) for n in range(10)]), sink, decoder, Topics.of(Kafka()))
    run(ingest, 6)
    assert sink.events == [f"e{n}" for n in range(10) if n not in decoder.bad]
    assert len(sink.reasons) == 3
    assert all(error.__name__ in reason for reason in sink.reasons)
    assert (ingest.state.phase, sink.next_offsets["c"]) == ("connected", {EVENTS: 10})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4))
def test_a_batch_that_is_refused_is_halved_until_the_bad_records_are_alone(count: int, bad: set[int]) -> None:
    """Each record that the database cannot hold becomes a dead letter with the database's reason; each other is stored
    once, in its order, and the offsets end behind the last."""
    bad = {number for number in bad if number < count}
    source = ScriptedSource([click(n) for n in range(count)])
    source.at_once = count
    sink = MemorySink(poison=frozenset(f"e{n}" for n in bad))
    ingest = make(source, sink)
    run(ingest, REFUSALS + 2 * count * (len(bad) + 1) + 2)
    assert sink.events == [f"e{n}" for n in range(count) if n not in bad]
    assert len(sink.reasons) == ingest.state.set_aside == len(bad)
    assert all("no such value" in reason for reason in sink.reasons)
    assert sink.next_offsets["c"] == {EVENTS: count}
    assert ingest.state.phase == "connected"


def test_a_store_that_refuses_everything_sets_nothing_aside() -> None:
    """A full disk, or a database that is gone, is about no record: ingestion waits, and then everything is stored."""
    sink = MemorySink(refuse=40)
    ingest = make(ScriptedSource([click(n) for n in range(4)]), sink)
    run(ingest, 40)
    assert (sink.events, sink.reasons, ingest.state.phase) == ([], [], "retrying")
    run(ingest, 4)
    assert (sink.events, sink.reasons) == (["e0", "e1", "e2", "e3"], [])

    class Gone(MemorySink):
        gone = True

        def ingest(self, batch: Batch, cluster_id: str, now_ms: int) -> Any:
            if self.gone:
                raise RuntimeError("the database is closed")
            return super().ingest(batch, cluster_id, now_ms)

    closed = Gone()
    ingest = make(ScriptedSource([click(n) for n in range(4)]), closed)
    run(ingest, 40)
    assert (closed.reasons, ingest.state.phase) == ([], "retrying")
    closed.gone = False
    run(ingest, 8)
    assert (closed.events, closed.reasons) == (["e0", "e1", "e2", "e3"], [])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), min_size=2, max_size=30, unique=True))
def test_two_halves_are_the_whole(places: list[tuple[int, int]]) -> None:
    """No record is in both or in none, the first half's offsets never pass a record of the second, and the second ends
    where the whole does."""
    batch = Batch()
    for partition, offset in places:
        batch.dead_letters.append((Coordinates("t", partition, offset), DeadLetter(b"", "x", 0)))
        batch.next_offsets["t", partition] = max(batch.next_offsets.get(("t", partition), 0), offset + 3)
    first, second = halve(batch)
    assert sorted(map(repr, coordinates(first) + coordinates(second))) == sorted(map(repr, coordinates(batch)))
    assert len(coordinates(first)) == len(places) // 2
    for at in coordinates(second):
        assert first.next_offsets.get((at.topic, at.partition), 0) <= at.offset
    for at in coordinates(first):
        assert first.next_offsets[at.topic, at.partition] > at.offset
    assert second.next_offsets == batch.next_offsets


class PickyTopic:
    """Takes messages of `most` bytes."""

    def __init__(self, most: int) -> None:
        self.most, self.held, self.headers = most, [], []  # type: ignore[var-annotated]

    def send(
        self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]] | None = None
    ) -> Future[Any]:
        future: Future[Any] = Future()
        if len(value) > self.most:
            error = ConnectionError("too large")
            error.too_large = True  # type: ignore[attr-defined]
            future.set_exception(error)
        else:
            self.held.append(value)
            self.headers.append(dict(headers or []))
            future.set_result(None)
        return future


@pytest.mark.parametrize("most", [2_000_000, 900_000, 3_000])
def test_a_dead_letter_is_cut_until_its_topic_takes_it(most: int) -> None:
    """What is cut says how long it was; what never fits is counted, with the reason."""
    topic, payload = PickyTopic(most), b"x" * 1_048_576
    outbox = Outbox(topic, "dead")
    outbox.send(Batch(dead_letters=[(Coordinates("t", 0, 0), DeadLetter(payload, "why", 0))]))
    assert outbox.settle() == (0, "")
    (held,), (headers,) = topic.held, topic.headers
    assert min(most, MOST_BYTES) // 2 <= len(held) <= min(most, MOST_BYTES)
    assert (headers["cut"], headers["reason"]) == (b"1048576", b"why")
    none = Outbox(PickyTopic(10), "dead")
    none.send(Batch(dead_letters=[(Coordinates("t", 0, 0), DeadLetter(payload, "why", 0))]))
    assert none.settle() == (1, "too large")
