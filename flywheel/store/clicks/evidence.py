"""Turns feedback into evidence: SQL aggregates pages and events to distinct (query, document, rank, clicks above).

It leaves out bots and names them. It leaves out the queries that the caller excludes, such as golden ones. Old evidence
fades by event time. No user outweighs a cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.clicks.evidence import Collected, Evidence, ExcludedUser, Explicit, PairFacts
from flywheel.clicks.pages import ClickLog
from flywheel.clicks.pairs import COUNTS
from flywheel.clicks.sessions import Chains
from flywheel.settings.load import Signals
from flywheel.store.clicks.bots import EXCLUDED, idle_clickers
from flywheel.store.clicks.dwells import judge_dwells
from flywheel.store.clicks.pages import sampled_pages, session_chains
from flywheel.store.clicks.teaching_pages import ACTS, ONLY, PAGES
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

# A page's weight halves with each half-life. One user's pages of one query together weigh at most the cap, and at most
# the allowed share of the query. One page always counts in full. A document is on a page once, so both caps bind each
# pair too.
_WEIGHTS = """
CREATE TEMP TABLE ev_weights AS
WITH aged AS (
    SELECT page, person, query_key, exp2_age(ts) AS weight FROM ev_pages
    WHERE person IS NULL OR person NOT IN (SELECT user_key FROM ev_excluded)
), by_user AS (
    SELECT person, query_key, sum(weight) AS weight FROM aged WHERE person IS NOT NULL GROUP BY person, query_key
), by_query AS (SELECT query_key, sum(weight) AS weight FROM aged GROUP BY query_key)
SELECT a.page, a.weight AS age, a.weight * coalesce(
           least(1, least($cap::DOUBLE, greatest(1, $share::DOUBLE * q.weight)) / u.weight), 1) AS weight
FROM aged a JOIN by_query q USING (query_key) LEFT JOIN by_user u USING (person, query_key)
""".replace("exp2_age(ts)", "pow(0.5, greatest(0, epoch_ms($until::TIMESTAMP) - epoch_ms(ts)) / $half_life_ms::DOUBLE)")

# Distinct result lists, and how often each was clicked at which places. The cost then grows with lists, not with pages.
_LISTS = (
    """
CREATE TEMP TABLE ev_kept AS
SELECT p.page, p.query_key, hash(p.query_key, p.hit_ids, p.ranks, p.grid) AS list, p.ts, p.model_version, w.age,
       w.weight
FROM ev_pages p JOIN ev_weights w USING (page)
""",
    """
CREATE TEMP TABLE ev_lists AS
SELECT list, any_value(p.query_key) AS query_key, any_value(p.hit_ids) AS hit_ids, any_value(p.ranks) AS ranks,
       any_value(p.grid) AS grid,
       count(*) AS pages, min(k.ts) AS first_ts, max(k.ts) AS last_ts,
       list(DISTINCT k.model_version) FILTER (k.model_version IS NOT NULL) AS model_versions
FROM ev_kept k JOIN ev_pages p USING (page) GROUP BY list
""",
    """
CREATE TEMP TABLE ev_patterns AS
SELECT list, places, sum(weight) AS weight FROM (
    SELECT k.list, k.weight, coalesce(c.places, []) AS places
    FROM ev_kept k LEFT JOIN (
        SELECT page, list(place ORDER BY place) AS places FROM ev_acts WHERE clicked AND place IS NOT NULL GROUP BY page
    ) c USING (page)
) GROUP BY list, places
""",
)

# Numbers for queries, documents and pairs, in the order of their names, so that the same data give the same numbers. A
# pair without impressions comes from a vote or purchase outside the page. A page may list a document twice, such as two
# of its passages. It counts once, at the better rank.
_NUMBERS = (
    """
CREATE TEMP TABLE ev_places AS
SELECT l.list, l.query_key, u.place, l.hit_ids[u.place] AS doc_id, coalesce(l.ranks[u.place], u.place) AS rank, l.grid
FROM ev_lists l, unnest(range(1, len(l.hit_ids) + 1)) AS u(place)
WHERE l.hit_ids[u.place] IS NOT NULL AND list_position(l.hit_ids, l.hit_ids[u.place]) = u.place
""",
    """
CREATE TEMP TABLE ev_voted AS
SELECT k.query_key, a.*, epoch_ms(k.ts) AS page_ms, k.age, k.weight, e.satisfied, e.bounced
FROM ev_acts a JOIN ev_kept k USING (page) LEFT JOIN ev_ended e USING (page, doc_id)
WHERE a.place IS NOT NULL OR a.liked IS NOT NULL OR a.cart OR a.purchase
""",
    """
CREATE TEMP TABLE ev_pairs AS
SELECT (row_number() OVER (ORDER BY query_key, doc_id) - 1)::INTEGER AS pair,
       (dense_rank() OVER (ORDER BY query_key) - 1)::INTEGER AS query_no, query_key, doc_id
FROM (SELECT query_key, doc_id FROM ev_places UNION SELECT query_key, doc_id FROM ev_voted)
""",
    """
CREATE TEMP TABLE ev_numbered AS
SELECT l.list, l.place, l.rank, l.grid, p.pair FROM ev_places l JOIN ev_pairs p USING (query_key, doc_id)
""",
)

# Between two clicks of a pattern the set of clicks above is the same, so each segment has one set.
_SEGMENTS = (
    """
CREATE TEMP TABLE ev_segments AS
SELECT s.list, s.weight, s.places[s.n] AS clicked_at, coalesce(s.places[s.n - 1], 0) AS after,
       coalesce(s.places[s.n], 2147483647) AS until_place, s.places[1:s.n - 1] AS above
FROM (SELECT *, unnest(range(1, len(places) + 2)) AS n FROM ev_patterns) s
""",
    """
CREATE TEMP TABLE ev_prefixes AS
SELECT list, above, list(pair ORDER BY place) AS pairs FROM (
    SELECT d.list, d.above, n.pair, n.place
    FROM (SELECT *, unnest(above) AS place FROM (SELECT DISTINCT list, above FROM ev_segments WHERE len(above) > 0)) d
    JOIN ev_numbered n USING (list, place)
) GROUP BY list, above
""",
    """
CREATE TEMP TABLE ev_sets AS
SELECT row_number() OVER (ORDER BY pairs)::INTEGER AS set_no, pairs FROM (SELECT DISTINCT pairs FROM ev_prefixes)
""",
)

_ROWS = """
SELECT n.pair, n.rank::SMALLINT AS rank, n.grid, coalesce(s.set_no, 0) AS above,
       (n.place - s.after)::SMALLINT AS distance,
       round(sum(s.weight), 6) AS impressions,
       round(sum(CASE WHEN s.clicked_at = n.place THEN s.weight ELSE 0 END), 6) AS clicks
FROM (
    SELECT g.*, sets.set_no FROM ev_segments g LEFT JOIN ev_prefixes x USING (list, above)
    LEFT JOIN ev_sets sets USING (pairs)
) s JOIN ev_numbered n ON n.list = s.list AND n.place > s.after AND n.place <= s.until_place
GROUP BY ALL ORDER BY ALL
"""

_FACTS = """
WITH shown AS (
    SELECT n.pair, sum(l.pages)::BIGINT AS impressions, min(epoch_ms(l.first_ts)) AS first_ms,
           max(epoch_ms(l.last_ts)) AS last_ms,
           list_sort(list_distinct(flatten(list(coalesce(l.model_versions, []))))) AS model_versions
    FROM ev_numbered n JOIN ev_lists l USING (list) GROUP BY n.pair
), acts AS (
    SELECT p.pair, count(*) FILTER (v.clicked AND v.place IS NOT NULL) AS clicks,
           count(*) FILTER (v.satisfied AND v.dwell_ms IS NOT NULL) AS satisfied,
           count(*) FILTER (v.bounced AND v.dwell_ms IS NOT NULL) AS bounced,
           round(sum(v.weight) FILTER (v.satisfied IS NOT NULL), 6) AS w_measured,
           round(sum(v.weight) FILTER (v.satisfied), 6) AS w_satisfied,
           round(sum(v.weight) FILTER (v.bounced), 6) AS w_bounced,
           count(DISTINCT coalesce(v.person, v.page::VARCHAR)) AS users,
           count(DISTINCT coalesce(v.person, v.page::VARCHAR)) FILTER (v.cart) AS carts,
           count(DISTINCT coalesce(v.person, v.page::VARCHAR)) FILTER (v.purchase) AS purchases,
           max(epoch_ms(v.last_ts)) AS last_ms, min(v.page_ms) AS first_ms
    FROM ev_voted v JOIN ev_pairs p USING (query_key, doc_id) GROUP BY p.pair
), votes AS (
    SELECT pair, count(*) FILTER (liked) AS thumbs_up, count(*) FILTER (NOT liked) AS thumbs_down,
           round(sum(age) FILTER (liked), 6) AS w_up, round(sum(age) FILTER (NOT liked), 6) AS w_down
    FROM (
        SELECT p.pair, arg_max(v.liked, v.liked_at) AS liked, arg_max(v.age, v.liked_at) AS age
        FROM ev_voted v JOIN ev_pairs p USING (query_key, doc_id) WHERE v.liked IS NOT NULL
        GROUP BY p.pair, coalesce(v.person, v.page::VARCHAR)
    ) GROUP BY pair
), bought AS (
    SELECT pair, round(sum(cart), 6) AS w_carts, round(sum(purchase), 6) AS w_purchases FROM (
        SELECT p.pair, max(v.age) FILTER (v.cart) AS cart, max(v.age) FILTER (v.purchase) AS purchase
        FROM ev_voted v JOIN ev_pairs p USING (query_key, doc_id) WHERE v.cart OR v.purchase
        GROUP BY p.pair, coalesce(v.person, v.page::VARCHAR)
    ) GROUP BY pair
)
SELECT p.query_no, p.doc_id, coalesce(s.impressions, 0) AS impressions, coalesce(a.clicks, 0) AS clicks,
       coalesce(a.satisfied, 0) AS satisfied, coalesce(a.bounced, 0) AS bounced,
       coalesce(t.thumbs_up, 0) AS thumbs_up, coalesce(t.thumbs_down, 0) AS thumbs_down,
       coalesce(a.carts, 0) AS carts, coalesce(a.purchases, 0) AS purchases, coalesce(a.users, 0) AS users,
       least(s.first_ms, a.first_ms) AS first_ms, greatest(s.last_ms, a.last_ms) AS last_ms,
       coalesce(s.model_versions, []) AS model_versions, coalesce(a.w_measured, 0) AS w_measured,
       coalesce(a.w_satisfied, 0) AS w_satisfied, coalesce(a.w_bounced, 0) AS w_bounced,
       coalesce(t.w_up, 0) AS w_up, coalesce(t.w_down, 0) AS w_down, coalesce(b.w_carts, 0) AS w_carts,
       coalesce(b.w_purchases, 0) AS w_purchases
FROM ev_pairs p LEFT JOIN shown s USING (pair) LEFT JOIN acts a USING (pair) LEFT JOIN votes t USING (pair)
LEFT JOIN bought b USING (pair)
ORDER BY p.pair
"""

_TEXTS = """
SELECT n.query_key, arg_max(p.text, p.ts) AS text
FROM (SELECT DISTINCT query_no, query_key FROM ev_pairs) n JOIN ev_pages p USING (query_key)
GROUP BY n.query_no, n.query_key ORDER BY n.query_no
"""


class EvidenceReader:
    """Reads what the click model learns from. Each call sees one snapshot of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(
        self,
        until_ms: int,
        signals: Signals,
        *,
        exclude_keys: Iterable[str] = (),
        only_keys: Iterable[str] | None = None,
        served_by: str | None = None,
        since_ms: int | None = None,
    ) -> Collected:
        """All evidence up to `until_ms` (event time), without the queries of `exclude_keys` (normalised texts).

        `only_keys` keeps only these queries, of our models' pages only those of `served_by`, and pages after
        `since_ms`. Bots, idle clickers and dwell thresholds still come from all queries. An event counts for its page
        whenever it arrives, so late feedback changes the next result.
        """
        with self._database.read() as con:
            return self._gathered(con, until_ms, signals, exclude_keys, only_keys, served_by, since_ms)

    def collect_with_pages(
        self, until_ms: int, signals: Signals, *, exclude_keys: Iterable[str] = ()
    ) -> tuple[Collected, ClickLog, Chains]:
        """The same evidence, a sample of its pages, and what sessions clicked for their other queries."""
        with self._database.read() as con:
            found = self._gathered(con, until_ms, signals, exclude_keys)
            return found, sampled_pages(con), session_chains(con)

    @staticmethod
    def _gathered(
        con: duckdb.DuckDBPyConnection,
        until_ms: int,
        signals: Signals,
        exclude_keys: Iterable[str],
        only_keys: Iterable[str] | None = None,
        served_by: str | None = None,
        since_ms: int | None = None,
    ) -> Collected:
        values: dict[str, Any] = {
            "until": moment(until_ms),
            "half_life_ms": signals.half_life_days * 86_400_000.0,
            "cap": signals.user_cap,
            "share": signals.user_share,
        }
        con.register("ev_excluded_keys", pa.table({"query_key": pa.array(sorted(set(exclude_keys)), pa.string())}))
        for statement in (PAGES, ACTS, EXCLUDED):
            con.execute(statement, _used(statement, values))
        dwell, idle = judge_dwells(con, signals), idle_clickers(con)
        if only_keys is not None:
            con.register("ev_only_keys", pa.table({"query_key": pa.array(sorted(set(only_keys)), pa.string())}))
            for statement in ONLY:
                con.execute(statement, _used(statement, {"served_by": served_by, "since": moment(since_ms)}))
        for statement in (_WEIGHTS, *_LISTS, *_NUMBERS, *_SEGMENTS):
            con.execute(statement, _used(statement, values))
        collected = _collected(con, values, until_ms)
        odds = np.array([idle.get(doc_id, 0.0) for doc_id in collected.evidence.documents])
        return replace(collected, evidence=replace(collected.evidence, idle=odds), dwell=dwell)


def _used(statement: str, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a statement names. DuckDB refuses others."""
    return {name: value for name, value in values.items() if f"${name}" in statement}


def _table(con: duckdb.DuckDBPyConnection, statement: str, values: dict[str, Any]) -> Any:
    return con.sql(statement, params=_used(statement, values)).to_arrow_table()


def _collected(con: duckdb.DuckDBPyConnection, values: dict[str, Any], until_ms: int) -> Collected:
    pairs: Any = _table(con, _FACTS, values)
    rows: Any = _table(con, _ROWS, values)
    texts: Any = _table(con, _TEXTS, values)
    sets = _table(con, "SELECT pairs FROM ev_sets ORDER BY set_no", values)["pairs"].combine_chunks()
    excluded = con.execute(
        "SELECT user_key, reason, impressions, clicks, dwells FROM ev_excluded ORDER BY 1"
    ).fetchall()
    ((unplaced,),) = con.execute("SELECT count(*) FROM ev_acts WHERE clicked AND place IS NULL").fetchall()
    documents = pairs["doc_id"].combine_chunks().dictionary_encode()
    lengths = np.diff(sets.offsets.to_numpy()) if len(sets) else np.zeros(0, dtype=np.int64)
    evidence = Evidence(
        queries=tuple(texts["query_key"].to_pylist()),
        documents=tuple(documents.dictionary.to_pylist()),
        pair_query=_numpy(pairs["query_no"], np.int32),
        pair_document=_numpy(documents.indices, np.int32),
        measured=_numpy(pairs["w_measured"], np.float64),
        satisfied=_numpy(pairs["w_satisfied"], np.float64),
        bounced=_numpy(pairs["w_bounced"], np.float64),
        pair=_numpy(rows["pair"], np.int32),
        rank=_numpy(rows["rank"], np.int32),
        above=_numpy(rows["above"], np.int32),
        impressions=_numpy(rows["impressions"], np.float64),
        clicks=_numpy(rows["clicks"], np.float64),
        set_start=np.concatenate([[0, 0], np.cumsum(lengths)]).astype(np.int64),
        set_pairs=_numpy(sets.flatten(), np.int32) if len(sets) else np.zeros(0, dtype=np.int32),
        distance=_numpy(rows["distance"], np.int32),
        grid=_numpy(rows["grid"], np.bool_),
    )
    return Collected(
        evidence=evidence,
        facts=_facts(pairs),
        texts=tuple(texts["text"].to_pylist()),
        until_ms=until_ms,
        excluded=tuple(ExcludedUser(*row) for row in excluded),
        unplaced_clicks=int(unplaced),
    )


def _facts(pairs: Any) -> PairFacts:
    counts = {name: _numpy(pairs[name], np.int64) for name in (*COUNTS, "first_ms", "last_ms")}
    aged = Explicit(*(_numpy(pairs[name], np.float64) for name in ("w_up", "w_down", "w_carts", "w_purchases")))
    versions = tuple(tuple(row) for row in pairs["model_versions"].to_pylist())
    return PairFacts(**counts, model_versions=versions, aged=aged)


def _numpy(column: Any, kind: type[np.generic]) -> npt.NDArray[Any]:
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.ascontiguousarray(values.to_numpy(zero_copy_only=False), dtype=kind)
