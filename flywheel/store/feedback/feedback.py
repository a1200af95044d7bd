"""Stores what people did, and the broker offsets up to which it was read.

A batch and its next offsets are stored together or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.events import Batch, Coordinates, Document, Query
from flywheel.store.feedback import rows
from flywheel.store.feedback.merging import fill_stored, merge, once
from flywheel.store.feedback.recent import RecentIds
from flywheel.store.schema.database import Database

DAY_MS = 86_400_000
TOTALS = ("queries", "events", "documents", "dead_letters", "duplicates", "merged", "superseded", "ignored")
_KEPT = (*TOTALS, "batch", "max_ts_ms", "closing_ms")
# the latest hundredth of a large batch closes no window: a few clocks that run ahead must not close it for everybody
_TRUSTED_SHARE = 0.99
_CHUNK = 10_000

# a version that changes nothing keeps its number, so that no index encodes it again
_UPSERT_DOCUMENTS = """
    INSERT INTO documents BY NAME SELECT *, nextval('document_changes') AS change_seq FROM incoming
    ON CONFLICT (doc_id) DO UPDATE SET
        title = excluded.title, text = excluded.text, content_hash = excluded.content_hash,
        deleted = excluded.deleted, updated_at = excluded.updated_at, ingested_at = excluded.ingested_at,
        change_seq = CASE WHEN documents.content_hash = excluded.content_hash AND documents.deleted = excluded.deleted
                               AND documents.title = excluded.title
                          THEN documents.change_seq ELSE excluded.change_seq END
    WHERE excluded.updated_at >= documents.updated_at
"""
_COUNT_IGNORED = """
    INSERT INTO ignored_fields SELECT * FROM incoming ON CONFLICT DO UPDATE SET
        records = ignored_fields.records + excluded.records, sample = excluded.sample, last_at = excluded.last_at
"""
_UPSERT_OFFSETS = """
    INSERT INTO ingest_offsets
    SELECT $cluster, unnest($topics::VARCHAR[]), unnest($partitions::INTEGER[]), unnest($offsets::BIGINT[]),
           epoch_ms($now_ms::BIGINT)
    ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset, updated_at = excluded.updated_at
"""
_UPSERT_TOTALS = """
    INSERT INTO ingest_totals SELECT unnest($names::VARCHAR[]), unnest($totals::BIGINT[])
    ON CONFLICT DO UPDATE SET value = excluded.value
"""
# the ids of the newest batches, oldest first; it reads three columns only: about a second a million
_RECENT = """
    SELECT id, ms FROM (
        SELECT {id} AS id, epoch_ms(ts) AS ms, batch FROM {table} WHERE ts >= epoch_ms(?::BIGINT)
        ORDER BY batch DESC LIMIT ?
    ) ORDER BY batch
"""


_Page = tuple[Coordinates, Query]


@dataclass(slots=True)
class _Repeats:
    """Further records of pages: how many of the same batch, and those of stored pages."""

    merged: int = 0
    stored: list[_Page] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ingested:
    """Rows that one batch added, and what became of the rest of its records.

    `duplicates` counts repeats and records below the stored offset, `merged` further records of a page, and
    `superseded` versions of documents that are no newer than the stored one. `ignored` counts fields, not records.
    """

    queries: int = 0
    events: int = 0
    documents: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    merged: int = 0
    superseded: int = 0
    ignored: int = 0


class Feedback:
    """Ingestion and its totals.

    Args:
        dedupe_hours: window of event time in which a repeated query_id or event_id is dropped.
        watermark_minutes: how late feedback may come before its window is closed.
        recent_ids: ids of queries, and of events, that are remembered at most; about 150 bytes each.
    """

    def __init__(self, database: Database, *, dedupe_hours: float, watermark_minutes: float, recent_ids: int) -> None:
        self._database = database
        self._lateness_ms = int(watermark_minutes * 60_000)
        self._window_ms = int(dedupe_hours * 3_600_000)
        self._query_ids = RecentIds(self._window_ms, recent_ids)
        self._event_ids = RecentIds(self._window_ms, recent_ids)
        with database.read() as con:
            stored = dict(con.execute("SELECT name, value FROM ingest_totals").fetchall())
            self._totals: dict[str, int] = {name: stored.get(name, 0) for name in _KEPT}
            # a database from before this total has none
            self._totals["closing_ms"] = stored.get("closing_ms", self._totals["max_ts_ms"])
            since = self._totals["max_ts_ms"] - self._window_ms
            for table, column, ids in (
                ("queries", "query_id", self._query_ids),
                ("feedback", "event_id", self._event_ids),
            ):
                result = con.execute(_RECENT.format(table=table, id=column), [since, recent_ids])
                while chunk := result.fetchmany(_CHUNK):  # a million rows at once would stay with the process
                    ids.load(chunk)

    def ingest(self, batch: Batch, cluster_id: str, now_ms: int) -> Ingested:
        """Write a batch and its next offsets in one transaction.

        Records below the stored offset and repeated ids are left out. These steps may be repeated after a crash:
        1. leave out what is stored already, 2. write rows, 3. write offsets and totals, 4. commit, 5. remember ids.

        Raises:
            StoreError: nothing was written and nothing is remembered. The same batch may be given again.
        """
        try:
            with self._database.write() as con:
                offsets = _offsets(con, cluster_id)
                fresh, again = self._fresh(batch, offsets)  # 1
                totals = dict(self._totals)
                totals["batch"] += 1
                changed = _write_rows(con, fresh, now_ms, totals["batch"])  # 2
                merged = again.merged + self._fill(con, again, now_ms)
                ingested = Ingested(
                    len(fresh.queries),
                    len(fresh.events),
                    changed,
                    len(fresh.dead_letters),
                    duplicates=len(batch) - len(fresh) - merged,
                    merged=merged,
                    superseded=len(fresh.documents) - changed,
                    ignored=_count_ignored(con, fresh, now_ms),
                )
                for name in TOTALS:
                    totals[name] += getattr(ingested, name)
                latest, closing = _latest(fresh, now_ms)
                totals["max_ts_ms"] = max(totals["max_ts_ms"], latest)
                totals["closing_ms"] = max(totals["closing_ms"], closing)
                _write_progress(con, cluster_id, _forward(offsets, batch.next_offsets), totals, now_ms)  # 3
            # 4: leaving the block commits
        except BaseException:
            self._query_ids.drop()
            self._event_ids.drop()
            raise
        self._query_ids.keep()  # 5
        self._event_ids.keep()
        self._totals = totals
        return ingested

    def complete(self, pages: list[_Page], now_ms: int) -> int:
        """Give stored pages that have no hits those of further records of them. Returns how many pages changed.

        Raises:
            StoreError: nothing was written.
        """
        if not pages:
            return 0
        with self._database.write() as con:
            return self._fill(con, _Repeats(stored=pages), now_ms)

    def offsets(self, cluster_id: str) -> dict[tuple[str, int], int]:
        """(topic, partition) -> the offset at which reading goes on."""
        with self._database.read() as con:
            return _offsets(con, cluster_id)

    def watermark_ms(self) -> int:
        """The event time up to which windows are closed: the latest event time less the lateness. 0 if there is none.

        One broken clock closes no window. Times more than a day ahead of the ingesting clock are left out. Other times
        ahead of it count as now. In a batch of a hundred or more the latest hundredth is left out.
        """
        return max(0, self._totals["closing_ms"] - self._lateness_ms)

    def latest_ms(self) -> int:
        """The latest event time that is at most a day ahead of the ingesting clock; 0 if there is none."""
        return self._totals["max_ts_ms"]

    def counts(self) -> dict[str, int]:
        """Rows ever stored: queries, events, documents (changes), dead_letters, and duplicates left out."""
        return {name: self._totals[name] for name in TOTALS}

    def last_batch(self) -> int:
        """Number of the last transaction that ingested."""
        return self._totals["batch"]

    def forget(self, *, query_ids: list[str], event_ids: list[str]) -> None:
        """After an erasure: treat these ids as new."""
        self._query_ids.forget(query_ids)
        self._event_ids.forget(event_ids)

    def _fresh(self, batch: Batch, offsets: Mapping[tuple[str, int], int]) -> tuple[Batch, _Repeats]:
        def is_new(at: Coordinates) -> bool:
            return at.offset >= offsets.get((at.topic, at.partition), 0)

        claim_event = self._event_ids.claim
        queries, again = self._pages([(at, query) for at, query in batch.queries if is_new(at)])
        fresh = Batch(
            queries=queries,
            events=[
                (at, e)
                for at, e in batch.events
                if is_new(at) and claim_event(e.event_id, rows.clamp_ms(e.timestamp_ms))
            ],
            documents=[(at, d) for at, d in batch.documents if is_new(at)],
            dead_letters=[(at, x) for at, x in batch.dead_letters if is_new(at)],
        )
        return fresh, again

    def _pages(self, records: list[_Page]) -> tuple[list[_Page], _Repeats]:
        """The pages that are new, each as one, and what else there is of them and of stored ones."""
        places: dict[str, int] = {}
        pages: list[_Page] = []
        again = _Repeats()
        for at, query in records:
            if self._query_ids.claim(query.query_id, rows.clamp_ms(query.timestamp_ms)):
                places[query.query_id] = len(pages)
                pages.append((at, query))
            elif (place := places.get(query.query_id)) is None:
                again.stored.append((at, query))
            else:
                first_at, first = pages[place]
                again.merged += query != first
                pages[place] = first_at, merge(first, query)
        return pages, again

    def _fill(self, con: duckdb.DuckDBPyConnection, again: _Repeats, now_ms: int) -> int:
        wanted = once(again.stored)
        return fill_stored(con, rows.queries(wanted, now_ms, 0), self._window_ms) if wanted else 0


def _write_rows(con: duckdb.DuckDBPyConnection, fresh: Batch, now_ms: int, number: int) -> int:
    if fresh.queries:
        _insert(con, "INSERT INTO queries SELECT * FROM incoming", rows.queries(fresh.queries, now_ms, number))
    if fresh.events:
        _insert(con, "INSERT INTO feedback SELECT * FROM incoming", rows.feedback(fresh.events, now_ms, number))
    if fresh.dead_letters:
        _insert(con, "INSERT INTO dead_letters BY NAME SELECT * FROM incoming", rows.dead_letters(fresh.dead_letters))
    return write_documents(con, [document for _, document in fresh.documents], now_ms)


def _count_ignored(con: duckdb.DuckDBPyConnection, fresh: Batch, now_ms: int) -> int:
    counted = rows.ignored(fresh, now_ms)
    if not counted.num_rows:
        return 0
    _insert(con, _COUNT_IGNORED, counted)
    return int(pc.sum(counted.column("records")).as_py())


def write_documents(con: duckdb.DuckDBPyConnection, documents: list[Document], now_ms: int) -> int:
    """Write documents inside a transaction. The latest version of each wins. Returns how many rows changed."""
    latest: dict[str, Document] = {}
    for document in documents:
        newest = latest.get(document.doc_id)
        if newest is None or document.updated_at_ms >= newest.updated_at_ms:
            latest[document.doc_id] = document
    if not latest:
        return 0
    return _insert(con, _UPSERT_DOCUMENTS, rows.documents(latest.values(), now_ms))


def _insert(con: duckdb.DuckDBPyConnection, statement: str, table: pa.Table) -> int:
    con.register("incoming", table)
    try:
        return int(con.execute(statement).fetchall()[0][0])
    finally:
        con.unregister("incoming")


def _write_progress(
    con: duckdb.DuckDBPyConnection,
    cluster_id: str,
    offsets: Mapping[tuple[str, int], int],
    totals: Mapping[str, int],
    now_ms: int,
) -> None:
    con.execute(
        _UPSERT_OFFSETS,
        {
            "cluster": cluster_id,
            "topics": [topic for topic, _ in offsets],
            "partitions": [partition for _, partition in offsets],
            "offsets": list(offsets.values()),
            "now_ms": now_ms,
        },
    )
    con.execute(_UPSERT_TOTALS, {"names": list(totals), "totals": list(totals.values())})


def _offsets(con: duckdb.DuckDBPyConnection, cluster_id: str) -> dict[tuple[str, int], int]:
    stored = con.execute(
        'SELECT topic, "partition", next_offset FROM ingest_offsets WHERE cluster_id = ?', [cluster_id]
    ).fetchall()
    return {(topic, partition): offset for topic, partition, offset in stored}


def _forward(
    stored: Mapping[tuple[str, int], int], upcoming: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    return {partition: offset for partition, offset in upcoming.items() if offset > stored.get(partition, -1)}


def _latest(fresh: Batch, now_ms: int) -> tuple[int, int]:
    """The latest event time of a batch, and the one that closes windows."""
    times = [q.timestamp_ms for _, q in fresh.queries] + [e.timestamp_ms for _, e in fresh.events]
    sane = sorted(ts for ts in times if 0 <= ts <= now_ms + DAY_MS)
    if not sane:
        return 0, 0
    return sane[-1], min(sane[math.ceil(_TRUSTED_SHARE * len(sane)) - 1], now_ms)
