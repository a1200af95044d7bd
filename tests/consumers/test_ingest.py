"""The step and its runner, over a scripted source: what is retried, what is said, and what is never given up."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from consumers.batch import Message, Topics
from consumers.decode import Decoder
from consumers.disk_space import room_on_disk
from consumers.ingest import Ingest, LogReset, Place, SourceUnavailable
from flywheel.settings.load import Kafka, Signals
from tests.consumers.memory import MemorySink
from tests.consumers.test_batch import Record
from tests.consumers.test_ingest_kafka import click

EVENTS = ("ubi.events", 0)


class ScriptedSource:
    """A log in memory that keeps its position; each of `trouble` is raised by one poll."""

    def __init__(self, values: Sequence[bytes], trouble: Sequence[Exception] = (), cluster: str = "c") -> None:
        self.records = [Record(*EVENTS, offset, value) for offset, value in enumerate(values)]
        self.trouble = list(trouble)
        self.cluster = cluster
        self.position = 0
        self.at_once = 2
        self.committed: dict[Place, int] = {}

    def connect(self) -> str:
        return self.cluster

    def assign(self, offsets: Mapping[Place, int]) -> None:
        self.position = offsets.get(EVENTS, 0)

    def poll(self) -> Mapping[Place, Sequence[Message]]:
        if self.trouble:
            raise self.trouble.pop(0)
        found = self.records[self.position : self.position + self.at_once]
        self.position += len(found)
        return {EVENTS: found} if found else {}

    def commit(self, offsets: Mapping[Place, int]) -> None:
        self.committed |= offsets

    def lag(self) -> int:
        return len(self.records) - self.position

    def blocked(self) -> Mapping[Place, str]:
        return {}

    def close(self) -> None:
        self.position = -1


class FailingOutbox:
    def send(
        self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]] | None = None
    ) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(ConnectionError("no broker"))
        return future


def make(source: ScriptedSource, sink: MemorySink, **options: Any) -> Ingest:
    decoder = Decoder(Signals(), str, 10_000)
    return Ingest(source, sink, decoder, Topics.of(Kafka()), **options)


def test_a_lost_connection_is_made_again_from_the_stores_offsets() -> None:
    """What was read and not stored is read again; what was stored is not."""
    sink, source = MemorySink(), ScriptedSource([click(n) for n in range(4)])
    ingest = make(source, sink)
    ingest.step(1)
    source.trouble = [SourceUnavailable("gone")]
    ingest.step(2)
    assert (ingest.state.phase, ingest.state.error, ingest.state.since_ms) == ("retrying", "gone", 2)
    ingest.step(3)
    assert (ingest.state.phase, ingest.state.error) == ("connected", None)
    assert sink.events == ["e0", "e1", "e2", "e3"]
    assert source.committed == {EVENTS: 4}


def test_failures_wait_longer_each_time_and_not_forever() -> None:
    """Backoff doubles up to its bound, and the state counts."""
    ingest = make(ScriptedSource([], trouble=[SourceUnavailable("gone")] * 12), MemorySink())
    waits = []
    for now_ms in range(12):
        ingest.step(now_ms)
        waits.append(ingest.backoff_seconds)
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert waits[-1] == 10.0
    assert ingest.state.failures == 12


def test_a_log_begun_anew_gets_a_ledger_of_its_own() -> None:
    """The old offset does not hide the new log's messages, now or after a restart; the old ledger stays."""
    sink = MemorySink(next_offsets={"c": {EVENTS: 7, ("ubi.queries", 0): 3}})
    source = ScriptedSource([click(n) for n in range(2)], [LogReset("made anew", {EVENTS: 0}, rewound=True)])
    ingest = make(source, sink)
    ingest.step(1)
    assert ingest.state.warnings == ("made anew",)
    assert sink.next_offsets["c@1"] == {EVENTS: 0, ("ubi.queries", 0): 3}
    ingest.step(2)
    assert sink.events == ["e0", "e1"]
    restarted = make(ScriptedSource([click(n) for n in range(3)]), sink)
    restarted.step(3)
    assert sink.events == ["e0", "e1", "e2"]
    assert sink.next_offsets["c"] == {EVENTS: 7, ("ubi.queries", 0): 3}


def test_dead_letters_that_cannot_be_sent_on_are_kept_and_said() -> None:
    """The topic's trouble does not stop ingestion; the store has the letter, the state the number."""
    sink = MemorySink()
    ingest = make(ScriptedSource([b"broken", click(1)]), sink, outbox=FailingOutbox(), dead_letter_topic="dead")
    ingest.step(1)
    assert (len(sink.reasons), sink.events) == (1, ["e1"])
    assert ingest.state.unsent_dead_letters == 1
    assert "no broker" in ingest.state.warnings[0]


def test_nothing_is_written_while_there_is_no_room(tmp_path: Path) -> None:
    """A nearly full disk pauses ingestion before the database fails, names the setting, and goes on by itself."""
    assert room_on_disk(tmp_path, 0)() is None
    full = room_on_disk(tmp_path, 10**9)
    assert "limits.min_free_mb" in str(full())
    reasons = [full(), full(), None]
    sink = MemorySink()
    ingest = make(ScriptedSource([click(0)]), sink, room=lambda: reasons.pop(0))
    ingest.step(1)
    ingest.step(2)
    assert (sink.events, ingest.state.phase) == ([], "retrying")
    ingest.step(3)
    assert (sink.events, ingest.state.phase) == (["e0"], "connected")


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    """Messages a second, falling to 0 once nothing comes."""
    ingest = make(ScriptedSource([click(n) for n in range(2)]), MemorySink())
    ingest.step(0)
    assert ingest.state.rate == 0.2
    ingest.step(9_000)
    assert ingest.state.rate == 0.2
    ingest.step(10_001)
    assert ingest.state.rate == 0.0


def test_an_error_nobody_foresaw_does_not_end_the_thread() -> None:
    """The runner says what happened, connects anew, and goes on."""
    sink, stop = MemorySink(), threading.Event()
    ingest = make(ScriptedSource([click(0)], trouble=[ZeroDivisionError("surprise")]), sink)
    seen: list[str | None] = []

    def clock() -> int:
        seen.append(ingest.state.error)
        if sink.events:
            stop.set()
        return len(seen)

    ingest.run(stop, clock)
    assert sink.events == ["e0"]
    assert any("surprise" in str(error) for error in seen)
    assert ingest.state.phase == "stopped"
