"""The statements of a shadow: what a window of pages adds to its sums, and each user group's totals. No logic."""

from __future__ import annotations

STRENGTH = 1.0
"""Expected clicks that the click model weighs against those of the log, for each document of a query."""

# Click rates of a run by rank, with contexts weighted by how often they occurred. Examination is relative to the first
# rank.
CURVE = """
SELECT rank, relevant, irrelevant, relevant / first(relevant) OVER (ORDER BY rank) AS examination
FROM (
    SELECT rank::INTEGER AS rank, sum(relevant_rate * impressions) / sum(impressions) AS relevant,
           sum(irrelevant_rate * impressions) / sum(impressions) AS irrelevant
    FROM click_curves WHERE run_id = $run AND impressions > 0 AND layout = 'list' GROUP BY rank
) ORDER BY rank
"""

# How often a click on a relevant and on an irrelevant document ends satisfied. Both start as in the click model, at 6
# and 2 of 10 clicks.
ENDS = """
SELECT least(1, (6 + coalesce(sum(posterior * satisfied), 0)) / (10 + coalesce(sum(posterior * clicks), 0))),
       least(1, (2 + coalesce(sum((1 - posterior) * satisfied), 0)) / (10 + coalesce(sum((1 - posterior) * clicks), 0)))
FROM pairs WHERE run_id = $run AND label <> 'negative' AND posterior IS NOT NULL AND clicks > 0
"""

# Batches not read yet. Where a clock runs ahead, the time of ingestion counts, so that the page is not held back.
BATCHES = """
SELECT batch, count(*) AS pages, epoch_ms(max(least(ts, ingested_at))) AS last_ms FROM queries
WHERE batch > $batch AND ts > epoch_ms($since::BIGINT) GROUP BY batch ORDER BY batch
"""

UNRANKED = """
SELECT query_key, arg_max(text, (ts, query_id)) AS text FROM teaching_pages
WHERE batch > $first AND batch <= $last AND ts > epoch_ms($since::BIGINT)
  AND query_key NOT IN (SELECT query_key FROM shadow_rankings WHERE experiment_id = $id)
GROUP BY query_key ORDER BY min(batch), query_key LIMIT $limit
"""

ADD_RANKINGS = """
INSERT INTO shadow_rankings BY NAME
SELECT * REPLACE (query_no + (SELECT count(*) FROM shadow_rankings WHERE experiment_id = $id) AS query_no)
FROM incoming
"""
# A document that is not among the run's pairs was unseen or hardly relevant. It gets $unknown, the edge of that.
ADD_SLOTS = """
INSERT INTO shadow_slots BY NAME
WITH ours AS (
    SELECT query_no, query_key, unnest(champion) AS doc_id, generate_subscripts(champion, 1) AS champion_rank
    FROM shadow_rankings r SEMI JOIN incoming i USING (query_key) WHERE r.experiment_id = $id
), theirs AS (
    SELECT query_no, query_key, unnest(challenger) AS doc_id, generate_subscripts(challenger, 1) AS challenger_rank
    FROM shadow_rankings r SEMI JOIN incoming i USING (query_key) WHERE r.experiment_id = $id
), known AS (
    SELECT query_key, doc_id, any_value(posterior) AS posterior FROM pairs SEMI JOIN incoming USING (query_key)
    WHERE run_id = $run AND posterior IS NOT NULL GROUP BY query_key, doc_id
)
SELECT $id AS experiment_id, query_no, doc_id, champion_rank, challenger_rank,
       coalesce(posterior, $unknown) AS posterior, 0 AS impressions, 0 AS examined, 0 AS expected, 0 AS clicks
FROM ours FULL JOIN theirs USING (query_no, query_key, doc_id) LEFT JOIN known USING (query_key, doc_id)
"""

# The window's pages as they were shown, without those of excluded users, and without grids: the curve is that of lists.
# Where a page lists no hits, they come from impression events. At most $cap pages of a person count for a query in a
# window. Where a clock runs ahead, the time of ingestion counts, so that no day gets longer.
PAGES = """
CREATE OR REPLACE TEMP TABLE shadow_pages AS
WITH pages AS (
    SELECT q.query_id, r.query_no, coalesce(q.user_key, q.client_key, q.session_id, q.query_id) AS person,
           least(q.ts, q.ingested_at) AS ts, q.hit_ids, q.ranks, q.sponsored, q.propensities
    FROM teaching_pages q JOIN shadow_rankings r ON r.experiment_id = $id AND r.query_key = q.query_key
    WHERE q.batch > $first AND q.batch <= $last AND q.ts > epoch_ms($since::BIGINT) AND NOT q.grid
), listed AS (
    SELECT query_id, list(doc_id ORDER BY rank, doc_id) AS hit_ids, list(rank ORDER BY rank, doc_id) AS ranks FROM (
        SELECT query_id, doc_id, min(rank) AS rank FROM feedback JOIN pages USING (query_id)
        WHERE kind = 'impression' AND rank BETWEEN 1 AND 1000 AND doc_id IS NOT NULL AND teaches(sponsored, doc_id)
          AND coalesce(len(hit_ids), 0) = 0
        GROUP BY query_id, doc_id
    ) GROUP BY query_id
)
SELECT p.query_id, p.query_no, p.person, p.ts, (hash(p.person) % 64)::SMALLINT AS bucket, p.propensities,
       CASE WHEN len(p.hit_ids) > 0 THEN p.hit_ids ELSE l.hit_ids END AS hit_ids,
       coalesce(p.ranks, l.ranks) AS ranks
FROM pages p LEFT JOIN listed l USING (query_id)
WHERE len(coalesce(l.hit_ids, p.hit_ids)) > 0
  AND p.person NOT IN (SELECT user_key FROM excluded_users WHERE run_id = $run AND user_key IS NOT NULL)
QUALIFY row_number() OVER (PARTITION BY p.query_no, p.person ORDER BY p.ts, p.query_id) <= $cap
"""
# Documents that satisfied on their page, by the rule of the view `satisfied`. The time of the first page is a value:
# given a subquery DuckDB expects little feedback after it, and holds all of it in memory.
SATISFIED = """
CREATE OR REPLACE TEMP TABLE shadow_satisfied AS
SELECT p.query_id, p.query_no, p.bucket, f.doc_id
FROM shadow_pages p JOIN (
    SELECT query_id, doc_id FROM feedback SEMI JOIN shadow_pages USING (query_id)
    WHERE ts >= epoch_ms($earliest::BIGINT) - INTERVAL 1 DAY AND doc_id IS NOT NULL
    GROUP BY query_id, doc_id
    HAVING worth_ms(kind, dwell_ms) >= $satisfied_ms::BIGINT
) f USING (query_id) WHERE list_contains(p.hit_ids, f.doc_id)
"""
SPAN = """
SELECT count(*), count(*) FILTER (len(propensities) = len(hit_ids)), epoch_ms(min(ts)), epoch_ms(max(ts))
FROM shadow_pages
"""
TRAFFIC = "SELECT query_no, bucket, count(*) AS pages FROM shadow_pages GROUP BY ALL"
EXPOSURE = """
WITH lists AS (SELECT query_no, hit_ids, ranks, count(*) AS pages FROM shadow_pages GROUP BY ALL), shown AS (
    SELECT query_no, pages, unnest(hit_ids) AS doc_id, generate_subscripts(hit_ids, 1) AS place, ranks FROM lists
)
SELECT s.query_no, s.doc_id, sum(pages)::BIGINT AS impressions, sum(pages * c.examination) AS examined,
       sum(pages * (s.posterior * c.relevant + (1 - s.posterior) * c.irrelevant)) AS expected
FROM shown JOIN (SELECT * FROM shadow_slots WHERE experiment_id = $id) s USING (query_no, doc_id)
JOIN curve c ON c.rank = least(coalesce(ranks[place], place), $deepest) GROUP BY ALL
"""
CLICKS = """
SELECT query_no, doc_id, bucket, count(*) AS clicks
FROM shadow_satisfied SEMI JOIN (SELECT * FROM shadow_slots WHERE experiment_id = $id) USING (query_no, doc_id)
GROUP BY ALL
"""
# Slots with the rank at which each reads the curve. `least` alone would turn a missing rank into the deepest.
_PLACED = """
placed AS (
    SELECT *, CASE WHEN champion_rank > 0 THEN least(champion_rank, $deepest) END AS champion_place,
           CASE WHEN challenger_rank > 0 THEN least(challenger_rank, $deepest) END AS challenger_place
    FROM shadow_slots WHERE experiment_id = $id
)"""
# Slots of pages that were logged with propensities, and for each what either model shows at that rank instead. A page
# with an impossible propensity is left out like one without propensities.
WEIGHTS = f"""
WITH {_PLACED.strip()}, logged AS (
    SELECT query_id, query_no, bucket, unnest(hit_ids[:$depth]) AS doc_id, unnest(propensities[:$depth]) AS propensity,
           generate_subscripts(hit_ids[:$depth], 1) AS rank
    FROM shadow_pages WHERE ranks IS NULL AND len(propensities) = len(hit_ids)
      AND list_min(propensities) > 0 AND list_max(propensities) <= 1
), rated AS (
    SELECT query_no, doc_id, champion_rank, challenger_rank,
           s.posterior * a.relevant + (1 - s.posterior) * a.irrelevant AS champion_rate,
           s.posterior * b.relevant + (1 - s.posterior) * b.irrelevant AS challenger_rate
    FROM placed s LEFT JOIN curve a ON a.rank = champion_place LEFT JOIN curve b ON b.rank = challenger_place
), slots AS (
    SELECT l.bucket, l.rank, (d.query_id IS NOT NULL)::DOUBLE AS reward,
           coalesce(a.champion_rate, 0) AS qa, coalesce(b.challenger_rate, 0) AS qb,
           CASE WHEN a.doc_id = l.doc_id THEN 1 / l.propensity::DOUBLE ELSE 0 END AS wa,
           CASE WHEN b.doc_id = l.doc_id THEN 1 / l.propensity::DOUBLE ELSE 0 END AS wb
    FROM logged l LEFT JOIN rated a ON a.query_no = l.query_no AND a.champion_rank = l.rank
    LEFT JOIN rated b ON b.query_no = l.query_no AND b.challenger_rank = l.rank
    LEFT JOIN shadow_satisfied d ON d.query_id = l.query_id AND d.doc_id = l.doc_id
)
SELECT bucket, rank, count(*) AS slots,
       sum(wa) AS champion_weight, sum(wa * wa) AS champion_weight_sq, sum(wa * reward) AS champion_reward,
       sum(qa + wa * (reward - qa)) AS champion_robust,
       sum(wb) AS challenger_weight, sum(wb * wb) AS challenger_weight_sq, sum(wb * reward) AS challenger_reward,
       sum(qb + wb * (reward - qb)) AS challenger_robust
FROM slots GROUP BY ALL
"""  # noqa: S608 - constants of this module

ADVANCE = """
UPDATE shadow_progress SET batch = $last, pages = pages + $pages, logged_pages = logged_pages + $logged,
    first_ts = least(first_ts, epoch_ms($first_ms::BIGINT)), last_ts = greatest(last_ts, epoch_ms($last_ms::BIGINT))
WHERE experiment_id = $id AND batch = $first RETURNING pages
"""
MERGE_SLOTS = """
UPDATE shadow_slots s SET impressions = s.impressions + i.impressions, examined = s.examined + i.examined,
    expected = s.expected + i.expected
FROM incoming i WHERE s.experiment_id = $id AND s.query_no = i.query_no AND s.doc_id = i.doc_id
"""
MERGE_SLOT_CLICKS = """
UPDATE shadow_slots s SET clicks = s.clicks + i.clicks
FROM (SELECT query_no, doc_id, sum(clicks)::BIGINT AS clicks FROM incoming GROUP BY ALL) i
WHERE s.experiment_id = $id AND s.query_no = i.query_no AND s.doc_id = i.doc_id
"""

# A slot's rate is the click model's times theta. Theta is satisfied clicks over expected ones, with a prior worth
# STRENGTH expected clicks (the mean of a gamma posterior). The prior is the theta of all slots whose posterior lies in
# the same tenth. `worth` is what a click moves, by its own slot and by its tenth. A group of users counts with its
# pages, plus its influence on the value: how far what its clicks are worth lies from its share of that.
_SLOTS = f"""
WITH {_PLACED.strip()}, traffic AS (SELECT query_no, bucket, pages FROM shadow_traffic WHERE experiment_id = $id),
asked AS (SELECT query_no, sum(pages)::DOUBLE AS pages FROM traffic GROUP BY query_no),
rated AS (
    SELECT s.query_no, s.doc_id, q.pages, s.examined, s.clicks, s.expected, s.challenger_rank,
           coalesce(b.examination, 0) AS seen,
           ntile(10) OVER (ORDER BY s.posterior, s.query_no, s.doc_id) AS tenth,
           s.expected / (s.expected + $strength) AS own, $strength / (s.expected + $strength) AS lent,
           coalesce(s.posterior * a.relevant + (1 - s.posterior) * a.irrelevant, 0) AS ra,
           coalesce(s.posterior * b.relevant + (1 - s.posterior) * b.irrelevant, 0) AS rb
    FROM placed s JOIN asked q USING (query_no)
    LEFT JOIN curve a ON a.rank = s.champion_place LEFT JOIN curve b ON b.rank = s.challenger_place
), tenths AS (
    SELECT tenth, sum(clicks) + 10 AS clicks, sum(expected) + 10 AS expected, sum(pages * ra * lent) AS la,
           sum(pages * rb * lent) AS lb
    FROM rated GROUP BY tenth
), slots AS (
    SELECT r.*, r.clicks / (r.expected + $strength) + lent * t.clicks / t.expected AS theta,
           pages * ra / (r.expected + $strength) + la / t.expected AS worth_a,
           pages * rb / (r.expected + $strength) + lb / t.expected AS worth_b
    FROM rated r JOIN tenths t USING (tenth)
)"""  # noqa: S608 - constants of this module
TOTALS = f"""
{_SLOTS}, rates AS (
    SELECT query_no, sum(ra * theta) - sum(worth_a * clicks) / any_value(pages) AS xa,
           sum(rb * theta) - sum(worth_b * clicks) / any_value(pages) AS xb
    FROM slots GROUP BY query_no
), by_traffic AS (
    SELECT bucket, sum(t.pages)::DOUBLE AS pages, sum(t.pages * xa) AS xa, sum(t.pages * xb) AS xb
    FROM traffic t JOIN rates USING (query_no) GROUP BY bucket
), by_clicks AS (
    SELECT c.bucket, sum(worth_a * c.clicks) AS ya, sum(worth_b * c.clicks) AS yb
    FROM shadow_clicks c JOIN slots s USING (query_no, doc_id) WHERE c.experiment_id = $id GROUP BY c.bucket
)
SELECT bucket, pages, xa + coalesce(ya, 0) AS champion, xb + coalesce(yb, 0) AS challenger
FROM by_traffic LEFT JOIN by_clicks USING (bucket) ORDER BY bucket
"""  # noqa: S608 - constants of this module
# What the challenger would show, weighted by how often its rank is examined: all of it (`wanted`), and the part whose
# rates are the log's own (`covered`). `there` and `harmonic` give Kish's effective number of impressions.
SUPPORT = f"""
{_SLOTS}
SELECT coalesce(sum(pages * seen), 0) AS wanted, coalesce(sum(pages * seen * own), 0) AS covered,
       coalesce(sum(pages * seen) FILTER (examined > 0), 0) AS there,
       coalesce(sum((pages * seen) ** 2 / examined) FILTER (examined > 0), 0) AS harmonic,
       (SELECT coalesce(sum(pages), 0) FROM asked) AS pages
FROM slots WHERE challenger_rank IS NOT NULL
"""  # noqa: S608 - constants of this module
OVERLAP = """
SELECT coalesce(sum(t.pages * r.overlap) / sum(t.pages), 0), coalesce(sum(t.pages * r.rbo) / sum(t.pages), 0),
       count(DISTINCT query_no), coalesce(sum(t.pages * (r.champion <> r.challenger)::INT) / sum(t.pages), 0)
FROM shadow_traffic t JOIN shadow_rankings r USING (experiment_id, query_no) WHERE experiment_id = $id
"""
