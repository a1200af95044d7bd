"""Counts what an experiment's pages brought, by person: each page once, when its window is closed.

It keeps one row a person and never goes back to counted pages. It judges nothing; `tallied` sums up by arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from flywheel.store.evaluation.own import OwnRule, counted, merge, note_before
from flywheel.store.evaluation.tallied import METRICS, ROLES, Tallied, summed
from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError
from flywheel.store.schema.times import millis, moment

SPELLINGS = {"champion": "champion", "challenger": "challenger", "control": "champion", "treatment": "challenger"}
SLICE_PAGES = 200_000
BEFORE_DAYS = 14.0  # what CUPED takes into account
_COUNTS = (
    *("seen", "pages", "clicked", "satisfied", "empty", "abandoned", "thumbs_down", "timed", "latency_ms"),
    *("champion_clicks", "challenger_clicks", "champion_credit", "challenger_credit"),
)
# feedback may be dated up to a day before its page; beyond that it is found by the batch it came in
_SLACK_MS = 86_400_000
_HELD_DAYS = 7  # late pages may change a day's sums for so long
_LONGEST_MS = 60_000.0  # one page that hung must not carry the mean

_OWN = "experiment_id = $id AND arm IN ('champion', 'challenger', 'interleaved')"
_OWN_ARM = "arm"
_TAGGED = (
    "(model_version IN ($champion, $challenger) OR (coalesce(experiment_id, $id) = $id AND "
    "list_contains($spellings::VARCHAR[], lower(arm))))"
)
# where the product logs the assignment, it counts above what was served: intention to treat
_TAGGED_ARM = """
    coalesce(list_extract($roles::VARCHAR[], CASE WHEN coalesce(experiment_id, $id) = $id
                          THEN list_position($spellings::VARCHAR[], lower(arm)) END),
             CASE model_version WHEN $challenger THEN 'challenger' WHEN $champion THEN 'champion' END)
"""
_FRESH = """
    ts < epoch_ms($until_ms::BIGINT) AND ts >= epoch_ms($from_ms::BIGINT)
    AND (ts >= epoch_ms($since_ms::BIGINT) OR batch > $since_batch)
"""
_EDGE = "SELECT epoch_ms(ts) FROM queries WHERE {match} AND {fresh} ORDER BY ts LIMIT 1 OFFSET $slice"
_PAGES = """
    CREATE TEMP TABLE tally_pages AS
    SELECT query_id, ts, batch, coalesce(user_key, client_key, session_id) AS person, {arm} AS arm,
        coalesce(len(hit_ids), 0) = 0 AS bare, latency_ms,
        coalesce(isfinite(latency_ms) AND latency_ms >= 0, false) AS timed,
        CASE WHEN teams IS NOT NULL THEN hit_ids END AS hit_ids, teams
    FROM queries WHERE {match} AND {fresh}
"""
_PEOPLE = """
    WITH documents AS (
        SELECT query_id, doc_id, bool_or(kind = 'click') AS clicked, bool_or(kind = 'impression') AS shown,
            coalesce(worth_ms(kind, dwell_ms) >= $satisfied_ms::BIGINT, false) AS satisfied,
            bool_or(kind = 'thumbs_down') AS down,
            bool_or(kind IN ('click', 'dwell', 'thumbs_up', 'add_to_cart', 'purchase')) AS used
        FROM feedback SEMI JOIN tally_pages USING (query_id)
        WHERE ts >= epoch_ms($earliest::BIGINT) - to_milliseconds($slack_ms::BIGINT) OR batch >= $lowest::BIGINT
        GROUP BY query_id, doc_id
    ), credits AS (
        SELECT query_id, team, count(*) FILTER (clicked) AS clicks, count(*) FILTER (satisfied) AS credit
        FROM (SELECT d.*, p.teams[list_position(p.hit_ids, d.doc_id)] AS team
              FROM documents d JOIN tally_pages p USING (query_id) WHERE p.teams IS NOT NULL)
        WHERE team IN ('champion', 'challenger') GROUP BY query_id, team
    ), teams AS (
        SELECT query_id, coalesce(sum(clicks) FILTER (team = 'champion'), 0) AS champion_clicks,
            coalesce(sum(clicks) FILTER (team = 'challenger'), 0) AS challenger_clicks,
            coalesce(sum(credit) FILTER (team = 'champion'), 0) AS champion_credit,
            coalesce(sum(credit) FILTER (team = 'challenger'), 0) AS challenger_credit
        FROM credits GROUP BY query_id
    ), outcomes AS (
        SELECT query_id, bool_or(clicked) AS clicked, bool_or(satisfied) AS satisfied, bool_or(shown) AS shown,
            bool_or(down) AS down, bool_or(used) AS used
        FROM documents GROUP BY query_id
    ), pages AS (
        SELECT p.*, coalesce(o.clicked, false) AS clicked, coalesce(o.satisfied, false) AS satisfied,
            p.bare AND NOT coalesce(o.shown, false) AS empty, NOT coalesce(o.used, false) AS abandoned,
            coalesce(o.down, false) AS down,
            coalesce(t.champion_clicks, 0) AS champion_clicks, coalesce(t.challenger_clicks, 0) AS challenger_clicks,
            coalesce(t.champion_credit, 0) AS champion_credit, coalesce(t.challenger_credit, 0) AS challenger_credit,
            row_number() OVER (PARTITION BY person ORDER BY ts, query_id) + coalesce(k.pages, 0) <= $cap AS counts
        FROM tally_pages p LEFT JOIN outcomes o USING (query_id) LEFT JOIN teams t USING (query_id)
        LEFT JOIN (SELECT person, pages FROM experiment_people WHERE experiment_id = $id) k USING (person)
        WHERE p.person IS NOT NULL AND p.arm IS NOT NULL
    )
    SELECT $id AS experiment_id, person, ts::DATE AS day, arg_min(arm, ts) AS arm, count(DISTINCT arm) > 1 AS crossed,
        count(*)::DOUBLE AS seen, count_if(counts)::DOUBLE AS pages, count_if(counts AND clicked)::DOUBLE AS clicked,
        count_if(counts AND satisfied)::DOUBLE AS satisfied, count_if(counts AND empty)::DOUBLE AS empty,
        count_if(counts AND abandoned)::DOUBLE AS abandoned, count_if(counts AND down)::DOUBLE AS thumbs_down,
        count_if(counts AND timed)::DOUBLE AS timed,
        coalesce(sum(least(latency_ms, $longest_ms)) FILTER (counts AND timed), 0)::DOUBLE AS latency_ms,
        coalesce(sum(champion_clicks) FILTER (counts), 0)::DOUBLE AS champion_clicks,
        coalesce(sum(challenger_clicks) FILTER (counts), 0)::DOUBLE AS challenger_clicks,
        coalesce(sum(champion_credit) FILTER (counts), 0)::DOUBLE AS champion_credit,
        coalesce(sum(challenger_credit) FILTER (counts), 0)::DOUBLE AS challenger_credit
    FROM pages GROUP BY person, day
"""
# a person with more pages than the cap weighs like one with just as many
_BEFORE = """
    INSERT INTO experiment_before
    WITH shown AS (
        SELECT query_id, coalesce(user_key, client_key, session_id) AS person FROM queries
        WHERE ts >= epoch_ms($since_ms::BIGINT) AND ts < epoch_ms($from_ms::BIGINT) AND person IS NOT NULL
    ), documents AS (
        SELECT query_id, bool_or(kind = 'click') AS clicked,
            coalesce(worth_ms(kind, dwell_ms) >= $satisfied_ms::BIGINT, false) AS satisfied
        FROM feedback SEMI JOIN shown USING (query_id)
        WHERE ts >= epoch_ms($since_ms::BIGINT) - to_milliseconds($slack_ms::BIGINT) GROUP BY query_id, doc_id
    ), outcomes AS (
        SELECT query_id, bool_or(clicked) AS clicked, bool_or(satisfied) AS satisfied FROM documents GROUP BY query_id
    ), people AS (
        SELECT person, count(*) AS pages, count_if(coalesce(satisfied, false)) AS satisfied,
            count_if(coalesce(clicked, false)) AS clicked
        FROM shown LEFT JOIN outcomes USING (query_id) GROUP BY person
    )
    SELECT $id, person, (satisfied - sum(satisfied) OVER () / sum(pages) OVER () * pages) * least(1, $cap / pages),
        (clicked - sum(clicked) OVER () / sum(pages) OVER () * pages) * least(1, $cap / pages)
    FROM people
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which pages count, and how.

    `tagged`: the product serves itself, and its pages carry `arm` or `model_version`. Otherwise they are ours and carry
    `experiment_id`. `spellings` maps a product's arm names to roles. `cap`: pages of one person that count.
    `own` are the product's own metrics by name.
    """

    experiment_id: str
    champion: str
    challenger: str
    satisfied_ms: int
    cap: int
    from_ms: int = 0
    tagged: bool = False
    spellings: Mapping[str, str] = field(default_factory=lambda: SPELLINGS)
    own: Mapping[str, OwnRule] = field(default_factory=dict)


class Tally:
    """Reads of `queries` and `feedback`; reads and writes of `tallies` and `experiment_people`."""

    def __init__(self, database: Database, *, slice_pages: int = SLICE_PAGES) -> None:
        self._database = database
        self._slice = slice_pages

    def begin(self, comparison: Comparison, from_ms: int, days: float = BEFORE_DAYS) -> None:
        """Note what people did in the `days` before `from_ms`. A second call changes nothing."""
        values = _parameters(comparison, 0, 0, 0) | {"from_ms": from_ms, "since_ms": from_ms - int(days * _SLACK_MS)}
        with self._database.write() as con:
            con.execute("DELETE FROM experiment_before WHERE experiment_id = ?", [comparison.experiment_id])
            con.execute(_BEFORE, _used(_BEFORE, comparison, values))
            note_before(con, comparison.own, values)

    def advance(self, comparison: Comparison, until_ms: int) -> int:
        """Count the pages shown before `until_ms`, usually the watermark, that are not counted yet, late ones too.

        Returns how many. Each slice is one transaction, so that a kill loses and doubles nothing.
        """
        total = 0
        while True:
            pages, more = self._slice_of(comparison, until_ms)
            total += pages
            if not more:
                return total

    def sums(self, experiment_id: str, own: Mapping[str, OwnRule] | None = None) -> Tallied:
        """Everything counted so far, with the `own` metrics. The time it takes grows with people, not with pages."""
        with self._database.read() as con:
            return summed(con, experiment_id, own or {})

    def until_ms(self, experiment_id: str) -> int | None:
        """Event time up to which pages are counted; None if none is."""
        with self._database.read() as con:
            rows = con.execute("SELECT until_ts FROM tallies WHERE experiment_id = ?", [experiment_id]).fetchall()
        return millis(rows[0][0]) if rows else None

    def forget_people(self, experiment_id: str) -> None:
        """After the verdict: delete the rows by person. Their sums stand in the verdict's record."""
        with self._database.write() as con:
            for table in ("experiment_people", "experiment_people_days", "experiment_before", "experiment_own"):
                con.execute(f"DELETE FROM {table} WHERE experiment_id = ?", [experiment_id])  # noqa: S608 - ours

    def _slice_of(self, comparison: Comparison, until_ms: int) -> tuple[int, bool]:
        """Count one slice: read and sum up beside ingestion, then write in one short transaction."""
        with self._database.read() as con:
            before = _progress(con, comparison.experiment_id)
            since_ms, since_batch = before or (comparison.from_ms, -1)
            if before and until_ms < since_ms:
                return 0, False
            newest = con.execute("SELECT value FROM ingest_totals WHERE name = 'batch'").fetchall()
            values = _parameters(comparison, until_ms, since_ms, since_batch)
            edge = con.execute(_fill(_EDGE, comparison), _used(_EDGE, comparison, values | {"slice": self._slice}))
            beyond = edge.fetchall()
            more = bool(beyond) and since_ms < beyond[0][0] < until_ms
            if more:
                values["until_ms"] = beyond[0][0]
            con.execute(_fill(_PAGES, comparison), _used(_PAGES, comparison, values))
            counts = con.execute(
                "SELECT count(*), count(*) FILTER (person IS NULL), min(ts) FROM tally_pages WHERE arm IS NOT NULL"
            ).fetchall()[0]
            # As values: given a subquery DuckDB expects little feedback after it, and holds all of it in memory.
            edges = con.execute("SELECT epoch_ms(min(ts)), min(batch) FROM tally_pages").fetchall()[0]
            values |= dict(zip(("earliest", "lowest"), edges, strict=True))
            people = con.sql(_PEOPLE, params=_used(_PEOPLE, comparison, values)).to_arrow_table()
            brought = counted(con, comparison.own, values) if edges[0] is not None else []
            con.execute("DROP TABLE tally_pages")
        batch = newest[0][0] if newest else 0
        with self._database.write() as con:
            if _progress(con, comparison.experiment_id) != before:
                raise StoreError(f"experiment {comparison.experiment_id} is being counted twice at once")
            _write(con, comparison.experiment_id, people, (int(values["until_ms"]), batch), counts)
            merge(con, brought)
        return counts[0] - counts[1], more


def _progress(con: duckdb.DuckDBPyConnection, experiment_id: str) -> tuple[int, int] | None:
    rows = con.execute(
        "SELECT epoch_ms(until_ts), until_batch FROM tallies WHERE experiment_id = ?", [experiment_id]
    ).fetchall()
    return rows[0] if rows else None


def _parameters(comparison: Comparison, until_ms: int, since_ms: int, since_batch: int) -> dict[str, Any]:
    return {
        "id": comparison.experiment_id,
        "champion": comparison.champion,
        "challenger": comparison.challenger,
        "spellings": list(comparison.spellings),
        "roles": list(comparison.spellings.values()),
        "from_ms": comparison.from_ms,
        "since_ms": since_ms,
        "since_batch": since_batch,
        "until_ms": until_ms,
        "satisfied_ms": comparison.satisfied_ms,
        "cap": comparison.cap,
        "slack_ms": _SLACK_MS,
        "longest_ms": _LONGEST_MS,
    }


def _fill(statement: str, comparison: Comparison) -> str:
    match, arm = (_TAGGED, _TAGGED_ARM) if comparison.tagged else (_OWN, _OWN_ARM)
    return statement.format(match=match, arm=arm, fresh=_FRESH) if "{match}" in statement else statement


def _used(statement: str, comparison: Comparison, given: Mapping[str, Any]) -> dict[str, Any]:
    """DuckDB refuses a parameter that the statement does not name."""
    text = _fill(statement, comparison)
    return {name: value for name, value in given.items() if f"${name}" in text}


def _write(
    con: duckdb.DuckDBPyConnection,
    experiment_id: str,
    people: pa.Table,
    until: tuple[int, int],
    counts: tuple[int, int, datetime | None],
) -> None:
    until_ms, batch = until
    con.register("incoming", people)
    try:
        _merge(con, experiment_id, "experiment_people", "person", "incoming")
        con.execute(
            "DELETE FROM experiment_people_days WHERE experiment_id = ? AND day < ?::DATE",
            [experiment_id, moment(max(0, until_ms - _HELD_DAYS * _SLACK_MS))],
        )
        recent = f"(SELECT * FROM incoming WHERE day >= '{_held(until_ms)}'::DATE)"  # noqa: S608 - a date of ours
        _merge(con, experiment_id, "experiment_people_days", "person, day", recent)
        _write_daily(con, experiment_id, recent)
        kept = con.execute("SELECT coalesce(sum(pages), 0)::BIGINT FROM incoming").fetchall()[0][0]
    finally:
        with suppress(duckdb.Error):  # of an aborted transaction, which would hide why
            con.unregister("incoming")
    con.execute(
        "INSERT INTO tallies VALUES (?, epoch_ms(?::BIGINT), ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "first_ts = least(tallies.first_ts, excluded.first_ts), until_ts = excluded.until_ts, "
        "until_batch = excluded.until_batch, pages = tallies.pages + excluded.pages, "
        "over_cap = tallies.over_cap + excluded.over_cap, anonymous = tallies.anonymous + excluded.anonymous",
        [experiment_id, until_ms, batch, counts[2], kept, counts[0] - counts[1] - kept, counts[1]],
    )


def _held(until_ms: int) -> str:
    day = moment(max(0, until_ms - _HELD_DAYS * _SLACK_MS))
    return day.date().isoformat() if day else "1970-01-01"


def _merge(con: duckdb.DuckDBPyConnection, experiment_id: str, table: str, key: str, source: str) -> None:
    """Add the rows of `source` to those of the same key. The arm that came first stays."""
    # stored rows get the oldest age, so that their arm came first
    totals = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
    columns = ", ".join(("arm", "crossed", *_COUNTS))
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE tally_merged AS SELECT ? AS experiment_id, {key}, "  # noqa: S608 - our own names
        f"arg_min(arm, age) AS arm, bool_or(crossed) OR count(DISTINCT arm) > 1 AS crossed, {totals} FROM ("
        f"SELECT {key}, {columns}, DATE '1970-01-01' AS age FROM {table} SEMI JOIN {source} USING ({key}) "
        f"WHERE experiment_id = ? UNION ALL SELECT {key}, {columns}, day AS age FROM {source}) GROUP BY {key}",
        [experiment_id, experiment_id],
    )
    con.execute(
        f"DELETE FROM {table} WHERE experiment_id = ? AND ({key}) IN (SELECT ({key}) FROM {source})",  # noqa: S608
        [experiment_id],
    )
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM tally_merged")  # noqa: S608 - our own names
    con.execute("DROP TABLE tally_merged")


def _write_daily(con: duckdb.DuckDBPyConnection, experiment_id: str, source: str) -> None:
    """Replace the daily sums of the days that `source` touches."""
    metrics = [(name, "arm", top, under) for name, (top, under) in METRICS.items()]
    metrics += [("credit", f"'{role}'", f"{role}_credit", "pages") for role in ROLES]
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE tally_days AS SELECT d.* FROM experiment_people_days d "  # noqa: S608
        f"JOIN experiment_people p USING (experiment_id, person) WHERE d.experiment_id = ? AND NOT p.crossed "
        f"AND d.day IN (SELECT day FROM {source})",
        [experiment_id],
    )
    con.execute(
        f"DELETE FROM experiment_daily WHERE experiment_id = ? AND day IN (SELECT day FROM {source})",  # noqa: S608
        [experiment_id],
    )
    for name, arm, top, under in metrics:
        condition = "arm = 'interleaved'" if name == "credit" else "arm <> 'interleaved'"
        con.execute(
            f"INSERT INTO experiment_daily BY NAME SELECT experiment_id, day, {arm} AS arm, '{name}' AS metric, "  # noqa: S608
            f"count(*) AS users, sum({under})::BIGINT AS pages, sum({under} * {under}) AS pages_sq, "
            f"sum({top}) AS total, sum({top} * {top}) AS total_sq, sum({top} * {under}) AS total_pages "
            f"FROM tally_days WHERE {condition} AND {under} > 0 GROUP BY ALL"
        )
    con.execute("DROP TABLE tally_days")
