"""A sink in memory that keeps the promise of a store: a batch with its offsets, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from flywheel.events import Batch


@dataclass(frozen=True)
class Taken:
    queries: int = 0
    events: int = 0
    documents: int = 0
    dead_letters: int = 0
    duplicates: int = 0


@dataclass
class MemorySink:
    """Keeps ids only; `refuse` makes the next batches fail that many times, `poison` each batch with such an event."""

    queries: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    next_offsets: dict[str, dict[tuple[str, int], int]] = field(default_factory=dict)
    refuse: int = 0
    poison: frozenset[str] = frozenset()
    asked: int = 0

    def offsets(self, cluster_id: str) -> dict[tuple[str, int], int]:
        return dict(self.next_offsets.get(cluster_id, {}))

    def ingest(self, batch: Batch, cluster_id: str, now_ms: int) -> Taken:
        if self.refuse:
            self.refuse -= 1
            raise OSError(28, "No space left on device")
        self.asked += 1
        if self.poison & {event.event_id for _, event in batch.events}:
            raise ValueError("no such value")
        known = self.offsets(cluster_id)
        seen = set(self.events)
        queries = [q.query_id for at, q in batch.queries if at.offset >= known.get((at.topic, at.partition), 0)]
        events = [e.event_id for at, e in batch.events if at.offset >= known.get((at.topic, at.partition), 0)]
        events = [event for event in dict.fromkeys(events) if event not in seen]
        self.queries += queries
        self.events += events
        self.documents += [d.doc_id for _, d in batch.documents]
        self.reasons += [letter.reason for _, letter in batch.dead_letters]
        self.next_offsets[cluster_id] = known | batch.next_offsets
        stored = Taken(len(queries), len(events), len(batch.documents), len(batch.dead_letters))
        return Taken(
            stored.queries, stored.events, stored.documents, stored.dead_letters, len(batch.events) - len(events)
        )
