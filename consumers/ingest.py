"""Carries messages from the broker into the store, each exactly once: one step, and a runner that repeats it.

Offsets live in the store, written in the same transaction as the rows. Commits to Kafka serve lag monitoring only. So
a crash between any two steps loses nothing and doubles nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from consumers.batch import Message, Topics, build, letter
from consumers.decode import Decoder
from consumers.halving import coordinates, halve, set_aside
from consumers.outbox import DeadLetterSender, Outbox
from flywheel.events import Batch

log = logging.getLogger(__name__)

Place = tuple[str, int]
BACKOFF_SECONDS = (0.2, 10.0)  # the first wait, and the longest
RATE_WINDOW_MS = 10_000
WARNINGS_KEPT = 10
REFUSALS = 3  # a store that refuses one batch so often is asked about its halves


class SourceUnavailable(ConnectionError):  # noqa: N818 - it reads as what it says
    """The broker does not answer; the connection is given up and made anew."""


class LogReset(Exception):  # noqa: N818
    """The stored offsets of these places are no longer valid. `places` maps each to where reading can go on.

    `rewound`: the log begins anew below what was read. Otherwise only its beginning is gone.
    """

    def __init__(self, reason: str, places: Mapping[Place, int], *, rewound: bool) -> None:
        super().__init__(reason)
        self.places = dict(places)
        self.rewound = rewound


class Ingested(Protocol):
    """What a store did with a batch: how many of each it stored, and how many it had already."""

    @property
    def queries(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def documents(self) -> int: ...
    @property
    def dead_letters(self) -> int: ...
    @property
    def duplicates(self) -> int: ...


class Sink(Protocol):
    """Where batches go: rows and next offsets in one transaction, or nothing and an error.

    An `OSError`, or an error whose `passing` is true (a full disk, say), is about no record: the same batch is given
    again.
    """

    def ingest(self, batch: Batch, cluster_id: str, now_ms: int) -> Ingested: ...
    def offsets(self, cluster_id: str) -> Mapping[Place, int]: ...


class Source(Protocol):
    """Where messages come from. Every method may raise `SourceUnavailable`; `poll` also raises `LogReset`."""

    def connect(self) -> str:
        """Reach the broker; returns the id of its cluster."""

    def assign(self, offsets: Mapping[Place, int]) -> None:
        """Read every partition, each from its offset here or else from its beginning."""

    def poll(self) -> Mapping[Place, Sequence[Message]]: ...
    def commit(self, offsets: Mapping[Place, int]) -> None: ...
    def lag(self) -> int | None: ...

    def blocked(self) -> Mapping[Place, str]:
        """Partitions that stand still while the others go on, and why."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class IngestState:
    """The state of ingestion, for `flywheel status`; counts are since the start of this process."""

    phase: Literal["starting", "connected", "retrying", "stopped"] = "starting"
    error: str | None = None
    since_ms: int = 0
    failures: int = 0
    cluster_id: str | None = None
    lag: int | None = None
    rate: float = 0.0
    queries: int = 0
    events: int = 0
    documents: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    unsent_dead_letters: int = 0
    set_aside: int = 0
    blocked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Ingest:
    """Reads from `source` into `sink`. `room` returns the reason why nothing may be written now, or None."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        decoder: Decoder,
        topics: Topics,
        *,
        outbox: DeadLetterSender | None = None,
        dead_letter_topic: str = "",
        room: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._source, self._sink, self._decoder, self._topics = source, sink, decoder, topics
        self._outbox = Outbox(outbox, dead_letter_topic)
        self._room = room
        self._ledger: str | None = None
        self._pending: deque[Batch] = deque()
        self._polled: Mapping[Place, Sequence[Message]] = {}
        self._refusals = 0
        self._stored: deque[tuple[int, int]] = deque()
        self.state = IngestState()

    def step(self, now_ms: int) -> Ingested | None:
        """One pass; None when nothing was stored, for lack of messages or after a failure (see `state`).

        1. Connect, and go on where the store's offsets say, if not connected.
        2. Poll.
        3. Decode.
        4. Send dead letters to their topic: at least once. The store has them exactly once.
        5. Store rows and next offsets in one transaction. A refused batch stays and is tried again; one that is refused
           again and again is halved, until the record that the store cannot hold is alone and becomes a dead letter.
        6. Commit to Kafka, so that others can monitor lag.
        """
        try:
            if self._ledger is None:
                self._connect()  # 1
            if not self._pending:
                self._polled = self._poll(now_ms)  # 2
                if not self._polled:
                    self._count(None, now_ms)
                    return None
                batch = build(self._polled, self._decoder, self._topics, now_ms)  # 3
                self._pending.append(batch)
                self._outbox.send(batch)  # 4
            self._await_dead_letters()
            ingested = self._store(self._pending[0], now_ms)  # 5
            if ingested is None:
                return None
            self._source.commit(self._pending.popleft().next_offsets)  # 6
        except SourceUnavailable as error:
            self._disconnect()
            self._trouble(str(error), now_ms)
            return None
        self._count(ingested, now_ms)
        return ingested

    def run(self, stop: threading.Event, clock: Callable[[], int] = lambda: int(time.time() * 1_000)) -> None:
        """Repeat `step` until `stop` is set; after each failure in a row wait twice as long."""
        try:
            while not stop.is_set():
                try:
                    self.step(clock())
                except Exception as error:  # a thread that died here would be a silent stop
                    log.exception("ingestion failed; connecting anew")
                    self._disconnect()
                    self._trouble(f"unexpected {type(error).__name__}: {error}", clock())
                if self.state.failures:
                    stop.wait(self.backoff_seconds)
        finally:
            self._disconnect()
            self.state = replace(self.state, phase="stopped", since_ms=clock())

    @property
    def backoff_seconds(self) -> float:
        """How long to wait before the next step."""
        first, longest = BACKOFF_SECONDS
        return min(longest, first * 2.0 ** (self.state.failures - 1)) if self.state.failures else 0.0

    def _connect(self) -> None:
        cluster_id = self._source.connect()
        ledger, offsets = self._latest_ledger(cluster_id)
        self._source.assign(offsets)
        prior = self.state.cluster_id
        if prior is not None and prior != cluster_id:
            self._warn(
                f"the broker is another cluster now ({cluster_id}, was {prior}): its topics are read from the beginning"
                if not offsets
                else f"the broker is cluster {cluster_id} again"
            )
        self._ledger = ledger
        log.info("connected to cluster %s, offsets of %d partitions are known", cluster_id, len(offsets))
        # not "connected" yet: a connection that always fails at its first poll must go on backing off
        self.state = replace(self.state, cluster_id=cluster_id)

    def _latest_ledger(self, cluster_id: str) -> tuple[str, dict[Place, int]]:
        """The name under which this cluster's offsets are kept, and the offsets. Each rewound log began a new name."""
        number, name, offsets = 0, cluster_id, dict(self._sink.offsets(cluster_id))
        while later := dict(self._sink.offsets(f"{cluster_id}@{number + 1}")):
            number, name, offsets = number + 1, f"{cluster_id}@{number + 1}", later
        return name, offsets

    def _poll(self, now_ms: int) -> Mapping[Place, Sequence[Message]]:
        try:
            return self._source.poll()
        except LogReset as reset:
            self._start_over(reset, now_ms)
            return {}

    def _start_over(self, reset: LogReset, now_ms: int) -> None:
        """Go on where the log can still be read, and warn; never skip in silence."""
        self._warn(str(reset))
        cluster_id, ledger = self.state.cluster_id, str(self._ledger)
        offsets = dict(self._sink.offsets(ledger)) | reset.places
        if reset.rewound and cluster_id is not None:
            # a store ignores records below its offset, so a log that began anew needs a new name
            number = int(ledger.removeprefix(cluster_id).lstrip("@") or 0) + 1
            ledger = f"{cluster_id}@{number}"
            try:
                self._sink.ingest(Batch(next_offsets=offsets), ledger, now_ms)
            except Exception as error:
                raise SourceUnavailable(f"the database refused to note a restarted log: {error}") from error
            self._ledger = ledger
        self._source.assign(offsets)

    def _await_dead_letters(self) -> None:
        lost, reason = self._outbox.settle()
        if lost:
            self._warn(f"{lost} dead letters are in the database, but not on their topic: {reason}")
            self.state = replace(self.state, unsent_dead_letters=self.state.unsent_dead_letters + lost)

    def _store(self, batch: Batch, now_ms: int) -> Ingested | None:
        reason = self._room()
        if reason is None:
            try:
                ingested = self._sink.ingest(batch, str(self._ledger), now_ms)
            except Exception as error:
                log.log(logging.DEBUG if self._refusals else logging.ERROR, "a batch was refused", exc_info=error)
                reason = f"the database refused a batch of {len(batch)}: {type(error).__name__}: {error}"
                self._refusals += 1
                if self._refusals >= REFUSALS and not _is_passing(error):
                    return self._narrow(batch, reason, now_ms)
            else:
                if len(self._pending) == 1:
                    self._refusals = 0  # until then each refusal halves at once
                return ingested
        self._trouble(reason, now_ms)
        return None

    def _narrow(self, batch: Batch, reason: str, now_ms: int) -> Ingested | None:
        """Go on with the halves of a refused batch or, where it is one record, with a dead letter in its place.

        A store that refuses that dead letter too refuses everything. Then the record itself is tried again.
        """
        places = coordinates(batch)
        if len(places) > 1:
            self._pending.popleft()
            self._pending.extendleft(reversed(halve(batch)))
            return None
        if places and not batch.dead_letters:
            at = places[0]
            message = next(m for m in self._polled[at.topic, at.partition] if m.offset == at.offset)
            aside = set_aside(batch, letter(message, reason, self._decoder.max_bytes, now_ms))
            try:
                ingested = self._sink.ingest(aside, str(self._ledger), now_ms)
            except Exception as error:
                log.debug("nor a dead letter", exc_info=error)
            else:
                self._outbox.send(aside)
                self._warn(f"set aside {at.topic}/{at.partition}/{at.offset}: {reason}")
                self.state = replace(self.state, set_aside=self.state.set_aside + 1)
                return ingested
        self._refusals = 0
        self._trouble(reason, now_ms)
        return None

    def _disconnect(self) -> None:
        """Forget the connection and what was read but not stored: the store's offsets lead back to it."""
        self._ledger = None
        self._pending.clear()
        self._polled = {}
        self._refusals = 0
        self._outbox.forget()
        self._source.close()

    def _count(self, ingested: Ingested | None, now_ms: int) -> None:
        state = self.state
        if ingested is not None:
            stored = ingested.queries + ingested.events + ingested.documents + ingested.dead_letters
            self._stored.append((now_ms, stored + ingested.duplicates))
            state = replace(
                state,
                queries=state.queries + ingested.queries,
                events=state.events + ingested.events,
                documents=state.documents + ingested.documents,
                dead_letters=state.dead_letters + ingested.dead_letters,
                duplicates=state.duplicates + ingested.duplicates,
            )
        while self._stored and self._stored[0][0] <= now_ms - RATE_WINDOW_MS:
            self._stored.popleft()
        rate = sum(count for _, count in self._stored) * 1_000 / RATE_WINDOW_MS
        recovered = state.phase != "connected"
        self.state = replace(
            state,
            phase="connected",
            error=None,
            failures=0,
            since_ms=now_ms if recovered else state.since_ms,
            rate=rate,
            lag=self._source.lag(),
            blocked=tuple(self._source.blocked().values()),
        )

    def _trouble(self, error: str, now_ms: int) -> None:
        first = self.state.phase != "retrying"
        log.log(logging.WARNING if first else logging.DEBUG, "ingestion waits: %s", error)
        self.state = replace(
            self.state,
            phase="retrying",
            error=error,
            since_ms=now_ms if first else self.state.since_ms,
            failures=self.state.failures + 1,
            rate=0.0,
        )

    def _warn(self, message: str) -> None:
        log.warning("%s", message)
        self.state = replace(self.state, warnings=(*self.state.warnings, message)[-WARNINGS_KEPT:])


def _is_passing(error: Exception) -> bool:
    """Whether it is about the machine, and so about no record."""
    return isinstance(error, OSError) or bool(getattr(error, "passing", False))
