"""Records for tests, and a look into tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flywheel.events import Batch, Coordinates, DeadLetter, Document, Event, Kind, Query
from flywheel.store import Store

NOW = 1_700_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR


def query(query_id: str, ts_ms: int = NOW, **fields: Any) -> Query:
    """A page of three hits."""
    values: dict[str, Any] = {"text": "How do I copy a list?", "client_key": "client", "hit_ids": ("d1", "d2", "d3")}
    return Query(query_id, timestamp_ms=ts_ms, **{**values, **fields})


def event(event_id: str, ts_ms: int = NOW, kind: Kind = Kind.CLICK, **fields: Any) -> Event:
    """A click on d1, at rank 1."""
    values: dict[str, Any] = {"query_id": "q1", "doc_id": "d1", "rank": 1, "client_key": "client"}
    return Event(event_id, kind, kind.value, ts_ms, **{**values, **fields})


def batch(
    *,
    queries: Iterable[Query] = (),
    events: Iterable[Event] = (),
    documents: Iterable[Document] = (),
    letters: Iterable[bytes] = (),
    start: int = 0,
) -> Batch:
    """What one poll would have brought; offsets of each topic count from `start`."""
    made = Batch()
    parts = (
        ("ubi.queries", made.queries, queries),
        ("ubi.events", made.events, events),
        ("flywheel.documents", made.documents, documents),
        ("broken", made.dead_letters, (DeadLetter(payload, "not JSON", NOW) for payload in letters)),
    )
    for topic, target, records in parts:
        for record in records:
            target.append((Coordinates(topic, 0, start + len(target)), record))  # type: ignore[arg-type]
        if target:
            made.next_offsets[topic, 0] = start + len(target)
    return made


def rows(store: Store, statement: str) -> list[tuple[Any, ...]]:
    """What a statement finds."""
    with store.database.read() as con:
        return con.execute(statement).fetchall()


def recomputed(store: Store) -> list[dict[str, Any]]:
    """Figures of `ab_outcomes` from its sums, by the statement in the docs for analysts."""
    docs = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text("utf-8")
    (statement,) = re.findall(r"^```sql recompute\n(.*?)^```", docs, re.MULTILINE | re.DOTALL)
    return list(store.sql.query(statement).to_pylist())
