"""Who is not to be believed: people left out of the evidence, and documents clicked by those who click nothing else.

Reads the temporary tables that `flywheel.store.feedback.evidence` makes of pages and acts.
"""

from __future__ import annotations

import duckdb
import numpy as np

from flywheel.clicks.colluders import Company, idleness

# People do not see 240 pages in a minute, click 70 % of all they are shown, or one document whatever they ask. That
# nobody ever dwells tells only where dwell is measured for others, and for nearly all: an app that sends no dwell has
# many such users, and they are people.
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

# Who clicked a document, by what they did on their other pages: `pages` of them, `active` with a click. A document is
# clicked once a person; nobody's other pages count as more than the cap, in proportion.
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
    """For documents where they are above 0, the log odds that people click them who click nothing else: see
    `flywheel.clicks.colluders.idleness`."""
    found = con.sql(_COMPANY, params={"most": _MOST}).to_arrow_table()
    documents = found["doc_id"].combine_chunks().dictionary_encode()
    columns = (found[name].to_numpy().astype(np.int64) for name in ("pages", "active", "people"))
    odds = idleness(Company(documents.indices.to_numpy().astype(np.int64), *columns), len(documents.dictionary))
    return {doc_id: odd for doc_id, odd in zip(documents.dictionary.to_pylist(), odds.tolist(), strict=True) if odd > 0}
