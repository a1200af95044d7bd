"""Looks up which records of an import are stored already, however long ago they happened.

Ingestion remembers the ids of the last hours (`flywheel.store.feedback.recent`), and history is older.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flywheel.events import Batch, Coordinates, Query
from flywheel.store.feedback.rows import clamp_ms
from flywheel.store.schema.database import Database

# {table} and {id} are of the two pairs below; the bounds let whole row groups be skipped
_STORED = """
    SELECT DISTINCT wanted.place FROM wanted JOIN {table} known
    ON known.{id} = wanted.id AND abs(epoch_ms(known.ts) - wanted.ms) <= $window
    WHERE known.ts BETWEEN epoch_ms($first::BIGINT) AND epoch_ms($last::BIGINT)
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What of a batch is stored: how many records, and of those the pages that bring hits, which may be news."""

    records: int
    pages: list[tuple[Coordinates, Query]]


class StoredRecords:
    """`dedupe_hours` is the window of event time in which one id is one record, as in ingestion."""

    def __init__(self, database: Database, *, dedupe_hours: float) -> None:
        self._database = database
        self._window_ms = int(dedupe_hours * 3_600_000)

    def without(self, batch: Batch) -> tuple[Batch, Known]:
        """The batch without the queries and events that are stored, and those."""
        pages = self._places("queries", "query_id", [(q.query_id, q.timestamp_ms) for _, q in batch.queries])
        events = self._places("feedback", "event_id", [(e.event_id, e.timestamp_ms) for _, e in batch.events])
        fresh = Batch(
            queries=[record for place, record in enumerate(batch.queries) if place not in pages],
            events=[record for place, record in enumerate(batch.events) if place not in events],
        )
        again = [batch.queries[place] for place in sorted(pages) if batch.queries[place][1].hit_ids]
        return fresh, Known(len(pages) + len(events), again)

    def _places(self, table: str, identity: str, records: Sequence[tuple[str, int]]) -> set[int]:
        if not records:
            return set()
        times = [clamp_ms(ms) for _, ms in records]
        wanted = pa.table(
            {
                "place": pa.array(range(len(records)), pa.int64()),
                "id": pa.array([key for key, _ in records], pa.string()),
                "ms": pa.array(times, pa.int64()),
            }
        )
        bounds = {"first": max(0, min(times) - self._window_ms), "last": clamp_ms(max(times) + self._window_ms)}
        with self._database.read() as con:
            con.register("wanted", wanted)
            found = con.execute(_STORED.format(table=table, id=identity), {**bounds, "window": self._window_ms})
            places = {place for (place,) in found.fetchall()}
            con.unregister("wanted")
        return places
