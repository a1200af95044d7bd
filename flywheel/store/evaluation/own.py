"""Metrics of the product's own: what a person's pages brought of each, summed up by arm with the extremes cut.

`tally` says which pages count and when; here stands what they bring. It judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from flywheel.stats.ratio import ArmSums

COLUMNS = "experiment_id, person, metric, value, events, value_before, events_before, pages_before"


@dataclass(frozen=True, slots=True)
class OwnRule:
    """How a metric is counted; the fields are those of `flywheel.settings.metrics.OwnMetric`, with `over` filled in.

    `any` is 1 for a page with such an event, and over users 1 for a person with one.
    """

    event: str = ""
    page: str = ""
    value: str = "any"
    over: str = "page"
    winsorise: float = 0.99


# Of the table or view {pages} (query_id, person, ts): one row a page that had it. `total` is what the page brought and
# `times` how often. A number that is none, or not finite, is not there.
_OF_EVENTS = """
    SELECT query_id, any_value(person) AS person,
        CASE $value WHEN 'any' THEN 1 WHEN 'count' THEN count(*)
            WHEN 'delay_s' THEN greatest(0, (epoch_ms(min(f.ts)) - epoch_ms(any_value(p.ts))) / 1000)
            ELSE sum(number) END AS total,
        CASE $value WHEN 'any' THEN 1 WHEN 'delay_s' THEN 1 WHEN 'count' THEN count(*) ELSE count(number) END AS times
    FROM (SELECT query_id, ts, if(isfinite(given), given, NULL) AS number
          FROM (SELECT *, TRY_CAST(json_extract_string(attributes, $path) AS DOUBLE) AS given FROM feedback)
          WHERE (kind = $event OR action_name = $event)
            AND (ts >= epoch_ms($earliest::BIGINT) - INTERVAL 1 DAY OR batch >= $lowest::BIGINT)) f
    JOIN {pages} p USING (query_id) GROUP BY query_id HAVING times > 0
"""
_OF_PAGES = """
    SELECT query_id, person, given AS total, 1 AS times
    FROM (SELECT p.query_id, p.person, TRY_CAST(json_extract_string(q.attributes, $path) AS DOUBLE) AS given
          FROM {pages} p JOIN queries q USING (query_id) WHERE q.ts >= epoch_ms($earliest::BIGINT))
    WHERE isfinite(given)
"""
_COUNTED = """
    CREATE OR REPLACE TEMP TABLE tally_counted AS
    SELECT query_id, person, ts FROM (
        SELECT p.query_id, p.person, p.ts,
            row_number() OVER (PARTITION BY p.person ORDER BY p.ts, p.query_id) + coalesce(k.pages, 0) <= $cap AS counts
        FROM tally_pages p
        LEFT JOIN (SELECT person, pages FROM experiment_people WHERE experiment_id = $id) k USING (person)
        WHERE p.person IS NOT NULL AND p.arm IS NOT NULL)
    WHERE counts
"""
_PEOPLE = """
    SELECT $id AS experiment_id, person, $metric AS metric, sum(total)::DOUBLE AS value, sum(times)::DOUBLE AS events,
        0::DOUBLE AS value_before, 0::DOUBLE AS events_before, 0::DOUBLE AS pages_before
    FROM ({source}) GROUP BY person
"""
_SHOWN = """
    CREATE OR REPLACE TEMP TABLE own_shown AS
    SELECT query_id, coalesce(user_key, client_key, session_id) AS person, ts FROM queries
    WHERE ts >= epoch_ms($since_ms::BIGINT) AND ts < epoch_ms($from_ms::BIGINT)
        AND coalesce(user_key, client_key, session_id) IS NOT NULL
"""
# a person with more pages than the cap weighs like one with just as many
_BEFORE = """
    INSERT INTO experiment_own BY NAME
    SELECT $id AS experiment_id, person, $metric AS metric, 0 AS value, 0 AS events,
        coalesce(sum(total), 0) * least(1, $cap / count(*)) AS value_before,
        coalesce(sum(times), 0) * least(1, $cap / count(*)) AS events_before,
        count(*) * least(1, $cap / count(*)) AS pages_before
    FROM own_shown LEFT JOIN (SELECT query_id, total, times FROM ({source})) USING (query_id) GROUP BY person
"""
# What is cut is a person's total, or their mean where the metric is one over events. See `flywheel.stats.winsor`.
# DuckDB's least and greatest leave out what is null: where nothing lies on a side of 0, nothing is cut there.
_SUMS = """
    WITH people AS (
        SELECT p.arm, p.seen, least(coalesce(o.value, 0), $most) AS value,
            least(coalesce(o.value_before, 0), $most) AS value_before,
            CASE $over WHEN 'page' THEN p.pages WHEN 'user' THEN 1 ELSE coalesce(o.events, 0) END AS w,
            CASE $over WHEN 'page' THEN o.pages_before WHEN 'user' THEN least(1, o.pages_before)
                ELSE o.events_before END AS w_before
        FROM experiment_people p
        LEFT JOIN (SELECT * FROM experiment_own WHERE experiment_id = $id AND metric = $metric) o USING (person)
        WHERE p.experiment_id = $id AND NOT p.crossed AND p.arm <> 'interleaved' AND p.pages > 0
    ), units AS (
        SELECT *, CASE $over WHEN 'event' THEN w ELSE 1 END AS unit,
            CASE $over WHEN 'event' THEN w_before ELSE 1 END AS unit_before, value / nullif(unit, 0) AS v,
            coalesce(value_before / nullif(unit_before, 0), 0) AS b
        FROM people WHERE w > 0
    ), cuts AS (
        SELECT quantile_cont(v, $cut) FILTER (v > 0) AS most, quantile_cont(-v, $cut) FILTER (v < 0) AS least_,
            quantile_cont(b, $cut) FILTER (b > 0) AS most_before, quantile_cont(-b, $cut) FILTER (b < 0) AS least_before
        FROM units
    ), cut AS (
        SELECT arm, seen, w, greatest(least(v, most), -least_) * unit AS y,
            coalesce(w_before, 0) AS x_before,
            greatest(least(b, most_before), -least_before) * coalesce(unit_before, 0) AS y_before
        FROM units, cuts
    ), usual AS (
        SELECT coalesce(sum(y_before) / nullif(sum(x_before), 0), 0) AS rate FROM cut
    ), final AS (
        SELECT arm, w, y, y_before - rate * x_before AS z FROM cut, usual
        WHERE $busiest::DOUBLE IS NULL OR seen <= $busiest::DOUBLE
    )
    SELECT arm, count(*), sum(w), sum(w * w), sum(y), sum(y * y), sum(y * w), sum(z), sum(z * z), sum(y * z), sum(w * z)
    FROM final GROUP BY arm
"""


def counted(con: duckdb.DuckDBPyConnection, own: Mapping[str, OwnRule], values: Mapping[str, Any]) -> list[pa.Table]:
    """What the pages in the temporary table `tally_pages` brought, by person and metric; rows for `experiment_own`.

    `values` are those of the tally: id, cap, earliest and lowest.
    """
    if not own:
        return []
    con.execute(_COUNTED, {"id": values["id"], "cap": values["cap"]})
    found = [
        con.sql(
            _PEOPLE.format(source=_source(rule, "tally_counted")), params=_given(name, rule, values)
        ).to_arrow_table()
        for name, rule in own.items()
    ]
    con.execute("DROP TABLE tally_counted")
    return found


def note_before(con: duckdb.DuckDBPyConnection, own: Mapping[str, OwnRule], values: Mapping[str, Any]) -> None:
    """What people did from `since_ms` to `from_ms`; a second call changes nothing."""
    con.execute("DELETE FROM experiment_own WHERE experiment_id = ?", [values["id"]])
    if not own:
        return
    con.execute(_SHOWN, {"since_ms": values["since_ms"], "from_ms": values["from_ms"]})
    for name, rule in own.items():
        given = _given(name, rule, {**values, "earliest": values["since_ms"], "lowest": 2**62})
        con.execute(_BEFORE.format(source=_source(rule, "own_shown")), {**given, "cap": values["cap"]})
    con.execute("DROP TABLE own_shown")


def merge(con: duckdb.DuckDBPyConnection, tables: Sequence[pa.Table]) -> None:
    """Add rows to those of the same person and metric."""
    for table in tables:
        con.register("own_incoming", table)
        try:
            con.execute(
                f"CREATE OR REPLACE TEMP TABLE own_merged AS SELECT {COLUMNS} FROM own_incoming UNION ALL "  # noqa: S608
                f"SELECT {COLUMNS} FROM experiment_own SEMI JOIN own_incoming USING (experiment_id, person, metric)"
            )
        finally:
            con.unregister("own_incoming")
        con.execute(
            "DELETE FROM experiment_own WHERE (experiment_id, person, metric) IN "
            "(SELECT (experiment_id, person, metric) FROM own_merged)"
        )
        con.execute(
            "INSERT INTO experiment_own BY NAME SELECT experiment_id, person, metric, sum(value) AS value, "
            "sum(events) AS events, sum(value_before) AS value_before, sum(events_before) AS events_before, "
            "sum(pages_before) AS pages_before FROM own_merged GROUP BY experiment_id, person, metric"
        )
        con.execute("DROP TABLE own_merged")


def summed_own(
    con: duckdb.DuckDBPyConnection, experiment_id: str, own: Mapping[str, OwnRule], busiest: float | None
) -> dict[str, tuple[ArmSums, ArmSums]]:
    """Each metric's (champion, challenger) sums; with `busiest` only over people who saw at most so many pages."""
    found = {}
    for name, rule in own.items():
        given = {"id": experiment_id, "metric": name, "over": rule.over, "cut": rule.winsorise, "busiest": busiest}
        given["most"] = 1.0 if (rule.over, rule.value, rule.page) == ("user", "any", "") else math.inf
        rows = {row[0]: ArmSums(*row[1:]) for row in con.execute(_SUMS, given).fetchall()}
        if rows:
            found[name] = (rows.get("champion", ArmSums()), rows.get("challenger", ArmSums()))
    return found


def _source(rule: OwnRule, pages: str) -> str:
    return (_OF_PAGES if rule.page else _OF_EVENTS).format(pages=pages)


def _given(name: str, rule: OwnRule, values: Mapping[str, Any]) -> dict[str, Any]:
    given = {"id": values["id"], "metric": name, "path": _path(rule.page or rule.value), "earliest": values["earliest"]}
    return given if rule.page else given | {"value": rule.value, "event": rule.event, "lowest": values["lowest"]}


def _path(dotted: str) -> str:
    """A path of JSON: `order.total` as `$."order"."total"`."""
    return "$" + "".join('."' + part.replace('"', "") + '"' for part in dotted.split("."))
