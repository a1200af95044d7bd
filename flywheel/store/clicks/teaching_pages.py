"""SQL of what evidence begins with: the pages that teach, and what people did with each document on them."""

from __future__ import annotations

# A page is one row: the hits in the order shown. Ranks are given where the sender logs impressions as events, because
# there a rank may be missing. Ranks beyond 1000 come from broken clients. A page without words is no query. The view
# has no sorted pages and no paid places.
PAGES = """
CREATE TEMP TABLE ev_pages AS
SELECT row_number() OVER () AS page, * FROM (
    SELECT query_id, query_key, text, ts, coalesce(user_key, client_key, session_id) AS person, session_id,
           model_version, hit_ids, ranks, sponsored, grid
    FROM teaching_pages
    WHERE ts <= $until AND len(hit_ids) > 0 AND query_key <> ''
      AND query_key NOT IN (SELECT query_key FROM ev_excluded_keys)
    UNION ALL BY NAME
    SELECT q.query_id, q.query_key, q.text, q.ts, coalesce(q.user_key, q.client_key, q.session_id) AS person,
           q.session_id, q.model_version, list(f.doc_id ORDER BY f.rank, f.doc_id) AS hit_ids,
           list(f.rank ORDER BY f.rank, f.doc_id) AS ranks, q.sponsored, q.grid
    FROM (
        SELECT query_id, doc_id, min(rank) AS rank FROM feedback
        WHERE kind = 'impression' AND ts <= $until AND rank BETWEEN 1 AND 1000 AND doc_id IS NOT NULL
        GROUP BY query_id, doc_id
    ) f JOIN teaching_pages q ON q.query_id = f.query_id AND teaches(q.sponsored, f.doc_id)
    WHERE coalesce(len(q.hit_ids), 0) = 0 AND q.ts <= $until
      AND q.query_key <> '' AND q.query_key NOT IN (SELECT query_key FROM ev_excluded_keys)
    GROUP BY ALL
)
"""

# What happened to one document of one page. A dwell, a cart or a purchase implies a click, even if none was sent.
ACTS = """
CREATE TEMP TABLE ev_acts AS
SELECT p.page, any_value(p.person) AS person, f.doc_id,
       any_value(list_position(p.hit_ids, f.doc_id)) AS place,
       bool_or(f.kind IN ('click', 'dwell', 'add_to_cart', 'purchase')) AS clicked,
       max(f.dwell_ms) FILTER (f.kind = 'dwell') AS dwell_ms, max(f.ts) FILTER (f.kind = 'click') AS clicked_at,
       arg_max(f.kind = 'thumbs_up', f.ts) FILTER (f.kind IN ('thumbs_up', 'thumbs_down')) AS liked,
       max(f.ts) FILTER (f.kind IN ('thumbs_up', 'thumbs_down')) AS liked_at,
       bool_or(f.kind = 'add_to_cart') AS cart, bool_or(f.kind = 'purchase') AS purchase,
       max(f.ts) AS last_ts
FROM feedback f JOIN ev_pages p USING (query_id)
WHERE f.ts <= $until AND f.doc_id IS NOT NULL
  AND f.kind IN ('click', 'dwell', 'thumbs_up', 'thumbs_down', 'add_to_cart', 'purchase')
  AND teaches(p.sponsored, f.doc_id)
GROUP BY p.page, f.doc_id
"""

# Pages that name no version of `models` stay: the product ranked them.
ONLY = (
    "DELETE FROM ev_pages WHERE query_key NOT IN (SELECT query_key FROM ev_only_keys) "
    "OR model_version IN (SELECT version FROM models WHERE version <> $served_by::VARCHAR) "
    "OR ts <= $since::TIMESTAMP",
    "DELETE FROM ev_acts WHERE page NOT IN (SELECT page FROM ev_pages)",
)
