"""Ingestion's pulse: how long it stands still, for whatever reason, and how fresh what it stores is."""

from __future__ import annotations

from consumers.ingest import IngestState
from flywheel.daemon.pulse import HANGS_SECONDS, Pulse, TimedSink, described
from flywheel.events import Batch, Coordinates, Query
from tests.consumers.memory import MemorySink


class _Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def ms(self) -> int:
        return int(self.seconds * 1_000)


def test_it_stands_still_for_whatever_reason() -> None:
    """Retrying for a broker or a disk, and a step that hangs, are a standstill with its length and its reason."""
    clock = _Clock()
    pulse = Pulse(clock.ms, lambda: clock.seconds)
    connected = IngestState(phase="connected", lag=7)
    assert pulse.stalled(connected) == (0.0, None)
    waiting = IngestState(phase="retrying", error="3 MB are free", since_ms=clock.ms())
    clock.seconds += 20
    pulse.beat()
    assert pulse.stalled(waiting) == (20.0, "3 MB are free")
    clock.seconds += HANGS_SECONDS + 1
    still, why = pulse.stalled(connected)
    assert still == HANGS_SECONDS + 1
    assert "has not ended" in str(why)
    assert pulse.beat() == clock.ms()
    assert pulse.stalled(connected) == (0.0, None)


def test_without_a_broker_nobody_knows_the_lag() -> None:
    """The last lag is told while the broker answers, by partition too, and is unknown afterwards."""
    clock = _Clock()
    pulse, lags = Pulse(clock.ms, lambda: clock.seconds), {("ubi.events", 1): 3, ("ubi.events", 0): 4}
    there = described(IngestState(phase="connected", lag=7), pulse, lags)
    assert (there["lag"], [place["lag"] for place in there["partitions"]]) == (7, [4, 3])
    gone = described(IngestState(phase="retrying", lag=7, error="away", since_ms=1), pulse, lags)
    assert (gone["lag"], gone["partitions"], gone["stalled_because"]) == (None, [], "away")


def test_freshness_is_the_age_of_the_newest_event() -> None:
    """A batch is as old as its newest record when it is stored; one from the future is 0 old."""
    ages: list[float] = []

    class Ages:
        def observe(self, amount: float) -> None:
            ages.append(amount)

    sink = TimedSink(MemorySink(), Ages())
    batch = Batch()
    for offset, at in enumerate((5_000, 9_000)):
        batch.queries.append((Coordinates("t", 0, offset), Query(f"q{offset}", "x", timestamp_ms=at)))
    sink.ingest(batch, "c", 12_000)
    sink.ingest(batch, "c", 1_000)
    sink.ingest(Batch(), "c", 1_000)
    assert ages == [3.0, 0.0]
