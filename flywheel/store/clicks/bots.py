"""Finds people to leave out of the evidence, and documents that are clicked by people who click nothing else.

It reads the temporary tables that `flywheel.store.clicks.evidence` makes of pages and acts.
"""

from __future__ import annotations

import duckdb
import numpy as np

from flywheel.clicks.colluders import Company, idleness

# No person sees 240 pages in a minute, clicks 70 % of what is shown, or clicks one document whatever the query. Missing
# dwells tell something only where nearly all others have them: an app that sends none has many such users, and they are
# people.
EXCLUDED = """
CREATE TEMP TABLE ev_excluded AS
WITH seen AS (
    SELECT person, count(*) AS pages, sum(len(hit_ids)) AS impressions,
           sum(len(hit_ids)) FILTER (len(hit_ids) >= 3) AS on_lists
    FROM ev_pages WHERE person IS NOT NULL GROUP BY person
), did AS (
    SELECT a.person, count(*) AS clicks, count(a.dwell_ms) AS dwells, count(*) FILTER (len(p.hit_ids) >= 3) AS on_lists
    FROM ev_acts a JOIN ev_pages p USING (page) WHERE a.clicked AND a.place IS NOT NULL GROUP BY a.person
), pace AS (
    SELECT person, max(pages) AS pages FROM (
        SELECT person, count(*) AS pages FROM ev_pages WHERE person IS NOT NULL
        GROUP BY person, date_trunc('minute', ts)
    ) GROUP BY person
), loyal AS (
    SELECT person, max(queries) AS queries, max(queries) / sum(queries) AS share FROM (
        SELECT a.person, a.doc_id, count(DISTINCT p.query_key) AS queries
        FROM ev_acts a JOIN ev_pages p USING (page) WHERE a.clicked AND a.place IS NOT NULL
        GROUP BY a.person, a.doc_id
    ) GROUP BY person
), measured AS (
    SELECT coalesce(sum(dwells) / nullif(sum(clicks), 0), 0) AS share,
           count(*) FILTER (clicks >= 20 AND dwells = 0) / greatest(1, count(*) FILTER (clicks >= 20)) AS mute
    FROM did
)
SELECT s.person AS user_key, s.impressions, coalesce(d.clicks, 0) AS clicks, coalesce(d.dwells, 0) AS dwells,
       CASE WHEN pace.pages > 240 THEN 'impossible rate: ' || pace.pages || ' pages in a minute'
            WHEN s.pages >= 3 AND s.on_lists >= 30 AND d.on_lists >= 0.7 * s.on_lists THEN 'clicks everything'
            WHEN loyal.queries >= 5 AND loyal.share >= 0.8
            THEN 'clicks one document under ' || loyal.queries || ' queries'
            WHEN d.clicks >= 20 AND d.dwells = 0 AND measured.share >= 0.5 AND measured.mute <= 0.2 THEN 'never dwells'
       END AS reason
FROM seen s CROSS JOIN measured LEFT JOIN did d USING (person) LEFT JOIN pace USING (person)
     LEFT JOIN loyal USING (person)
WHERE reason IS NOT NULL
"""

# The people who clicked a document, grouped by their other pages: `pages` of them, `active` with a click. A person
# counts once for each document. More than $most other pages are scaled down to $most.
_COMPANY = """
WITH kept AS (
    SELECT page, person FROM ev_pages
    WHERE person IS NOT NULL AND person NOT IN (SELECT user_key FROM ev_excluded)
), clicked AS (
    SELECT a.page, k.person, a.doc_id FROM ev_acts a JOIN kept k USING (page) WHERE a.clicked AND a.place IS NOT NULL
), seen AS (SELECT person, count(*) AS pages FROM kept GROUP BY person
), did AS (SELECT person, count(DISTINCT page) AS active FROM clicked GROUP BY person
), own AS (SELECT person, doc_id, count(*) AS pages FROM clicked GROUP BY person, doc_id
), others AS (
    SELECT o.doc_id, s.pages - o.pages AS pages, d.active - o.pages AS active
    FROM own o JOIN seen s USING (person) JOIN did d USING (person)
)
SELECT doc_id, least(pages, $most)::INTEGER AS pages,
       round(active * least(1, $most / pages))::INTEGER AS active, count(*)::INTEGER AS people
FROM others WHERE pages > 0 GROUP BY ALL ORDER BY ALL
"""
_MOST = 30


def idle_clickers(con: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """doc_id -> log odds that people who click nothing else click it, for documents where they are above 0.

    See `flywheel.clicks.colluders.idleness`.
    """
    company = con.sql(_COMPANY, params={"most": _MOST}).to_arrow_table()
    documents = company["doc_id"].combine_chunks().dictionary_encode()
    columns = (company[name].to_numpy().astype(np.int64) for name in ("pages", "active", "people"))
    odds = idleness(Company(documents.indices.to_numpy().astype(np.int64), *columns), len(documents.dictionary))
    return {doc_id: odd for doc_id, odd in zip(documents.dictionary.to_pylist(), odds.tolist(), strict=True) if odd > 0}
