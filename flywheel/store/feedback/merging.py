"""Several records under one query_id are one page: what each of them knows is put together, and hits win over none.

OpenSearch's plugin records the sub-queries of a page (facets, suggestions) under the page's own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import duckdb
import pyarrow as pa

from flywheel.events import Coordinates, Query

_OWN = frozenset({"query_id", "text", "timestamp_ms", "hit_ids", "propensities", "teams", "explored", "ignored"})
_GAPS = tuple(field.name for field in fields(Query) if field.name not in _OWN)
_WANTING = """
    SELECT DISTINCT q.batch FROM queries q JOIN incoming i USING (query_id)
    WHERE len(q.hit_ids) = 0 AND q.ts BETWEEN i.ts - to_milliseconds(?) AND i.ts + to_milliseconds(?)
      AND q.ts BETWEEN (SELECT min(ts) FROM incoming) - to_milliseconds(?)
                   AND (SELECT max(ts) FROM incoming) + to_milliseconds(?)
"""
_FILL = """
    UPDATE queries SET
        query_key = i.query_key, text = i.text, hit_ids = i.hit_ids, propensities = i.propensities, teams = i.teams,
        explored = i.explored, latency_ms = coalesce(i.latency_ms, queries.latency_ms),
        client_key = coalesce(queries.client_key, i.client_key), user_key = coalesce(queries.user_key, i.user_key),
        session_id = coalesce(queries.session_id, i.session_id),
        model_version = coalesce(i.model_version, queries.model_version),
        experiment_id = coalesce(i.experiment_id, queries.experiment_id), arm = coalesce(i.arm, queries.arm),
        application = coalesce(queries.application, i.application),
        attributes = coalesce(i.attributes, queries.attributes)
    FROM incoming i
    WHERE queries.query_id = i.query_id AND len(queries.hit_ids) = 0 AND queries.batch IN (SELECT unnest(?::BIGINT[]))
      AND queries.ts BETWEEN i.ts - to_milliseconds(?) AND i.ts + to_milliseconds(?)
"""
_STALE = """
    UPDATE exports SET stale = true WHERE source = 'queries'
       AND len(list_filter(?::BIGINT[], lambda written: written BETWEEN first_seq AND last_seq)) > 0
"""


def merge(first: Query, second: Query) -> Query:
    """One page of two records of it. The first stays, but for hits, which it may lack."""
    if second.hit_ids and not first.hit_ids:
        first, second = second, first
    known = {name: getattr(second, name) for name in _GAPS if getattr(first, name) is None}
    return replace(first, **known) if any(value is not None for value in known.values()) else first


def once(records: Sequence[tuple[Coordinates, Query]]) -> list[tuple[Coordinates, Query]]:
    """One record for each page that has hits, of those that repeat a stored page."""
    pages: dict[str, tuple[Coordinates, Query]] = {}
    for at, query in records:
        if query.hit_ids:
            known = pages.get(query.query_id)
            pages[query.query_id] = (at, query if known is None else merge(known[1], query))
    return list(pages.values())


def fill_stored(con: duckdb.DuckDBPyConnection, incoming: pa.Table, window_ms: int) -> int:
    """Give stored pages without hits those of later records of them. Returns how many pages changed.

    Published files that hold one of them are marked to be written anew.
    """
    con.register("incoming", incoming)
    try:
        batches = [batch for (batch,) in con.execute(_WANTING, [window_ms] * 4).fetchall()]
        if not batches:
            return 0
        changed = int(con.execute(_FILL, [batches, window_ms, window_ms]).fetchall()[0][0])
        con.execute(_STALE, [batches])
        # an export that runs meanwhile sees by this count that its rows are not the latest
        con.execute("INSERT INTO ingest_totals VALUES ('erasures', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        return changed
    finally:
        con.unregister("incoming")
