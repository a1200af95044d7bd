"""Whether ingestion moves: how long it has stood still and why, how old what it stores is, what each partition owes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from consumers.ingest import Ingested, IngestState, Sink
from flywheel.events import Batch
from flywheel.operations import Json

if TYPE_CHECKING:
    from consumers.ingest import Place

# a step that takes longer than this hangs: a poll ends within a second, and a transaction within a few
HANGS_SECONDS = 60.0


class Ages(Protocol):
    """Where ages are observed, in seconds; a histogram of `prometheus_client` fulfils it."""

    def observe(self, amount: float) -> None: ...


class TimedSink:
    """The store, with the age of each newest record of a batch observed: how fresh what was stored is."""

    def __init__(self, sink: Sink, ages: Ages) -> None:
        self._sink, self._ages = sink, ages

    def ingest(self, batch: Batch, cluster_id: str, now_ms: int) -> Ingested:
        done = self._sink.ingest(batch, cluster_id, now_ms)
        times = [record.timestamp_ms for records in (batch.queries, batch.events) for _, record in records]
        if times:
            self._ages.observe(max(0.0, (now_ms - max(times)) / 1_000))
        return done

    def offsets(self, cluster_id: str) -> Mapping[Place, int]:
        return self._sink.offsets(cluster_id)


class Pulse:
    """Takes ingestion's pulse. `beat` is called before each of its steps, and gives the step its time."""

    def __init__(self, now_ms: Callable[[], int], seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_ms, self._seconds = now_ms, seconds
        self._last = seconds()
        self._began_ms = now_ms()

    def beat(self) -> int:
        """Now, in epoch milliseconds; noted as the beginning of a step."""
        self._last = self._seconds()
        return self._now_ms()

    def stalled(self, state: IngestState) -> tuple[float, str | None]:
        """For how many seconds ingestion has stood still, and why; (0, None) while it moves."""
        silent = self._seconds() - self._last
        if silent > HANGS_SECONDS:
            return silent, f"its last step began {silent:.0f} s ago and has not ended"
        if state.phase == "connected":
            return 0.0, None
        since_ms = state.since_ms or self._began_ms
        return max(0.0, (self._now_ms() - since_ms) / 1_000), state.error or state.phase


def described(state: IngestState, pulse: Pulse, lags: Mapping[Place, int]) -> Json:
    """Ingestion for `status`. Without a broker nobody knows the lag: it is null, not the last one known."""
    still, why = pulse.stalled(state)
    connected = state.phase == "connected"
    partitions = [{"topic": topic, "partition": number, "lag": lag} for (topic, number), lag in sorted(lags.items())]
    return {
        "lag": state.lag if connected else None,
        "rate": state.rate,
        "phase": state.phase,
        "error": state.error,
        "blocked": len(state.blocked),
        "set_aside": state.set_aside,
        "unsent_dead_letters": state.unsent_dead_letters,
        "warnings": list(state.warnings),
        "stalled_seconds": round(still, 1),
        "stalled_because": why,
        "partitions": partitions if connected else [],
    }
