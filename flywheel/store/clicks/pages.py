"""Pages as they were, and sessions: what tells if people agree, and what they looked for next.

It reads the temporary tables that `flywheel.store.clicks.evidence` has made, in the same snapshot of the database.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np

from flywheel.clicks.pages import ClickLog, ShownPage
from flywheel.clicks.sessions import Chains

MOST_PAGES = 60_000
MOST_CHAINS = 200_000
SESSION_MINUTES = 30
_MOST_SEARCHES = 50  # around one search: nobody looks for one thing so often

# Whole queries by lot, those first that two pages or more show. One query alone may be more than all: then its pages.
_SAMPLE = """
WITH by_query AS (
    SELECT query_key, count(*) AS pages, md5(query_key) AS lot FROM ev_kept GROUP BY query_key
), drawn AS (
    SELECT query_key FROM by_query
    QUALIFY sum(pages) OVER (ORDER BY pages < 2, lot, query_key) - pages < $most
), clicks AS (
    SELECT page, list(DISTINCT doc_id) AS clicked FROM ev_acts WHERE clicked AND place IS NOT NULL GROUP BY page
)
SELECT p.query_key, coalesce(p.person, p.query_id) AS person, epoch_ms(p.ts) AS ts_ms, p.hit_ids[:50] AS documents,
       p.ranks[:50] AS ranks, coalesce(c.clicked, []) AS clicked, p.grid
FROM ev_kept k JOIN ev_pages p USING (page) LEFT JOIN clicks c USING (page)
WHERE p.query_key IN (SELECT query_key FROM drawn)
ORDER BY p.ts, p.query_id LIMIT 2 * $most
"""

_CHAINS = """
WITH visits AS (
    SELECT coalesce(p.session_id, p.person) AS session, p.page, p.query_key, p.ts, k.weight
    FROM ev_kept k JOIN ev_pages p USING (page)
    WHERE coalesce(p.session_id, p.person) IS NOT NULL
    QUALIFY count(*) OVER (
        PARTITION BY session ORDER BY p.ts
        RANGE BETWEEN to_minutes($minutes) PRECEDING AND to_minutes($minutes) FOLLOWING
    ) <= $searches
), clicked AS (
    SELECT v.session, v.query_key, v.ts, v.weight, a.doc_id
    FROM visits v JOIN ev_acts a USING (page) WHERE a.clicked AND a.place IS NOT NULL
)
SELECT v.query_key, c.doc_id, round(sum(c.weight), 6) AS weight, min(epoch_ms(c.ts)) AS first_ms,
       max(epoch_ms(c.ts)) AS last_ms
FROM visits v JOIN clicked c ON c.session = v.session AND c.query_key <> v.query_key
     AND c.ts BETWEEN v.ts - to_minutes($minutes) AND v.ts + to_minutes($minutes)
GROUP BY v.query_key, c.doc_id
ORDER BY md5(v.query_key || '|' || c.doc_id), v.query_key, c.doc_id LIMIT $most
"""


def sampled_pages(con: duckdb.DuckDBPyConnection) -> ClickLog:
    """About 60,000 pages of the evidence: whole queries by lot, those first whose people can be compared."""
    rows: Any = con.sql(_SAMPLE, params={"most": MOST_PAGES}).to_arrow_table().to_pylist()
    return ClickLog.of(
        [
            ShownPage(
                row["query_key"], row["person"], row["ts_ms"], row["documents"], frozenset(row["clicked"]),
                row["ranks"], bool(row["grid"]),
            )
            for row in rows
        ]
    )  # fmt: skip


def session_chains(con: duckdb.DuckDBPyConnection) -> Chains:
    """Documents that people clicked for another query within half an hour of the same session, ordered by lot."""
    values = {"searches": _MOST_SEARCHES, "minutes": SESSION_MINUTES, "most": MOST_CHAINS}
    rows: Any = con.sql(_CHAINS, params=values).to_arrow_table()
    numbers = {name: rows[name].to_numpy().astype(np.float64) for name in ("weight", "first_ms", "last_ms")}
    return Chains(tuple(rows["query_key"].to_pylist()), tuple(rows["doc_id"].to_pylist()), **numbers)
