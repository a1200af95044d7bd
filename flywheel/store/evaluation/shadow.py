"""Stores what a challenger would show on stored pages: each distinct query ranked once, each page counted once.

Pages are read in whole batches of ingestion, from a stored position on. Their sums by query, document and group of
users are added in the transaction that moves the position. It ranks nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.gates.shadow import Column, PageRules, Shadowed
from flywheel.stats.counterfactual import RankWeights
from flywheel.store.evaluation import shadow_sql as sql
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

_PARTS = ("shadow_traffic", "shadow_slots", "shadow_clicks", "shadow_weights")
_ARM = ("weight", "weight_sq", "reward", "robust")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shadow has come. Times are event times, None before the first page."""

    run_id: str
    since_ms: int
    batch: int
    pages: int
    logged_pages: int
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """The batches after `first` up to and including `last`, which hold `pages` pages."""

    first: int
    last: int
    pages: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """One query as both models rank it. It has times only if it was timed."""

    query_key: str
    query: str
    champion: Sequence[str]
    challenger: Sequence[str]
    overlap: float
    rbo: float
    champion_ms: float | None = None
    challenger_ms: float | None = None


class Shadows:
    """Reads of `queries`, `feedback`, `pairs`, `click_curves`; reads and writes of the `shadow_` tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, experiment_id: str, run_id: str, since_ms: int) -> None:
        """Set the position before the first page after `since_ms`. A second call changes nothing.

        The counts of ended shadows are dropped, because their sums stand in `ab_outcomes`. Their rankings stay
        for labelling where they differ.
        """
        ended = "experiment_id IN (SELECT experiment_id FROM experiments WHERE ended_at IS NOT NULL)"
        with self._database.write() as con:
            for table in _PARTS:
                con.execute(f"DELETE FROM {table} WHERE {ended}")  # noqa: S608 - ours
            con.execute(
                "INSERT INTO shadow_progress SELECT ?, ?, ?, coalesce((SELECT min(batch) - 1 FROM queries "
                "WHERE ts > ?), (SELECT max(batch) FROM queries), -1), 0, 0, NULL, NULL ON CONFLICT DO NOTHING",
                [experiment_id, run_id, moment(since_ms), moment(since_ms)],
            )

    def progress(self, experiment_id: str) -> Progress | None:
        """Where the shadow stands; None if it never began."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT run_id, epoch_ms(since_ts), batch, pages, logged_pages, epoch_ms(first_ts), epoch_ms(last_ts) "
                "FROM shadow_progress WHERE experiment_id = ?",
                [experiment_id],
            ).fetchall()
        return Progress(*rows[0]) if rows else None

    def window(self, progress: Progress, until_ms: int, limit: int) -> Window | None:
        """The next whole batches whose pages all came before `until_ms`: about `limit` pages, at least one batch."""
        with self._database.read() as con:
            batches = con.execute(sql.BATCHES, {"batch": progress.batch, "since": progress.since_ms})
            last, pages = progress.batch, 0
            while row := batches.fetchone():
                if row[2] > until_ms or (pages and pages + row[1] > limit):
                    break
                last, pages = row[0], pages + row[1]
        return Window(progress.batch, last, pages) if pages else None

    def unranked(self, experiment_id: str, progress: Progress, window: Window, limit: int) -> list[tuple[str, str]]:
        """(key, text) of at most `limit` queries of the window that are not ranked yet."""
        values = {"id": experiment_id, "first": window.first, "last": window.last, "since": progress.since_ms}
        with self._database.read() as con:
            return con.execute(sql.UNRANKED, values | {"limit": limit}).fetchall()

    def timed(self, experiment_id: str) -> int:
        """Queries that were timed."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT count(challenger_ms) FROM shadow_rankings WHERE experiment_id = ?", [experiment_id]
            ).fetchall()
        return int(rows[0][0])

    def add_rankings(self, experiment_id: str, run_id: str, ranked: Sequence[Ranked], reading: PageRules) -> None:
        """Write rankings of queries that have none, with a slot for each document that either model shows."""
        if not ranked:
            return
        with self._database.write() as con:
            con.register("incoming", _ranking_rows(experiment_id, ranked, reading.depth))
            try:
                con.execute(sql.ADD_RANKINGS, {"id": experiment_id})
                con.execute(sql.ADD_SLOTS, {"id": experiment_id, "run": run_id, "unknown": reading.unknown})
            finally:
                con.unregister("incoming")

    def count(self, experiment_id: str, progress: Progress, window: Window, reading: PageRules) -> int:
        """Add the window's pages to the sums and move the position, in one transaction. Returns the pages counted.

        The sums are worked out beside ingestion. The write itself is short.
        """
        with self._database.read() as con:
            values = {
                "id": experiment_id,
                "first": window.first,
                "last": window.last,
                "since": progress.since_ms,
                "satisfied_ms": reading.satisfied_ms,
                "cap": reading.cap,
                "depth": reading.depth,
                **_curve(con, progress.run_id),
            }
            con.execute(sql.PAGES, _used(sql.PAGES, values))
            pages, logged, first_ms, last_ms = con.execute(sql.SPAN).fetchall()[0]
            con.execute(sql.SATISFIED, _used(sql.SATISFIED, {**values, "earliest": first_ms}))
            parts = {
                name: con.sql(statement, params=_used(statement, values)).to_arrow_table()
                for name, statement in zip(
                    ("traffic", "exposure", "clicks", "weights"),
                    (sql.TRAFFIC, sql.EXPOSURE, sql.CLICKS, sql.WEIGHTS),
                    strict=True,
                )
            }
            con.execute("DROP TABLE shadow_satisfied; DROP TABLE shadow_pages")
        span = {"pages": pages, "logged": logged, "first_ms": first_ms, "last_ms": last_ms}
        with self._database.write() as con:
            moved = con.execute(
                sql.ADVANCE, {"id": experiment_id, "first": window.first, "last": window.last, **span}
            ).fetchall()
            if moved:  # else another count was faster, and its sums are in
                _add(con, experiment_id, parts)
        return int(pages) if moved else 0

    def measured(self, experiment_id: str, run_id: str) -> Shadowed:
        """All sums. The time it takes grows with distinct queries and groups of users, not with pages."""
        with self._database.read() as con:
            values = {"id": experiment_id, **_curve(con, run_id)}
            totals = _columns(con, sql.TOTALS, values)
            support = con.execute(sql.SUPPORT, _used(sql.SUPPORT, values)).fetchall()[0]
            overlap, rbo, queries, changed = con.execute(sql.OVERLAP, {"id": experiment_id}).fetchall()[0]
            slots, weights = _weights(con, experiment_id)
            times = con.execute(
                "SELECT champion_ms, challenger_ms FROM shadow_rankings WHERE experiment_id = ? "
                "AND challenger_ms IS NOT NULL ORDER BY query_no",
                [experiment_id],
            ).fetchall()
        wanted, covered, supported, harmonic, pages = support
        return Shadowed(
            pages=totals["pages"],
            champion=totals["champion"],
            challenger=totals["challenger"],
            # Kish's effective number of examined impressions, in pages
            effective=supported**2 / harmonic / (wanted / pages) if harmonic else 0.0,
            coverage=covered / wanted if wanted else 0.0,
            slots=slots,
            weights=weights,
            times=np.asarray(times, dtype=np.float64).reshape(-1, 2),
            overlap=overlap,
            rbo=rbo,
            changed=changed,
            queries=queries,
        )


def _curve(con: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, Any]:
    """Register the run's curve (satisfied clicks by rank) as a table `curve`; returns the parameters for it."""
    curve = con.sql(sql.CURVE, params={"run": run_id}).to_arrow_table()
    good, bad = con.execute(sql.ENDS, {"run": run_id}).fetchall()[0]
    # where dwell is noise it may come out the other way round: relevance never makes a click end worse
    ends = {"relevant": max(good, bad), "irrelevant": bad, "examination": 1.0}
    for name, share in ends.items():
        values = curve[name].to_numpy() * share
        curve = curve.set_column(curve.column_names.index(name), name, pa.array(values, pa.float64()))
    con.register("curve", curve)
    deepest = int(max(curve["rank"].to_pylist(), default=0))
    return {"run": run_id, "deepest": deepest, "strength": sql.STRENGTH}


def _used(statement: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a statement names. DuckDB refuses others."""
    return {name: value for name, value in given.items() if f"${name}" in statement}


def _add(con: duckdb.DuckDBPyConnection, experiment_id: str, parts: Mapping[str, pa.Table]) -> None:
    parameters = {"id": experiment_id}
    for name, statements in (
        ("traffic", (_summing("shadow_traffic", "query_no, bucket", ("pages",)),)),
        ("exposure", (sql.MERGE_SLOTS,)),
        ("clicks", (sql.MERGE_SLOT_CLICKS, _summing("shadow_clicks", "query_no, doc_id, bucket", ("clicks",)))),
        ("weights", (_summing("shadow_weights", "bucket, rank", ("slots", *_arms())),)),
    ):
        con.register("incoming", parts[name])
        try:
            for statement in statements:
                con.execute(statement, parameters)
        finally:
            con.unregister("incoming")


def _summing(table: str, key: str, values: tuple[str, ...]) -> str:
    """A statement that adds `incoming` to the table's rows of the same key, or writes new ones."""
    names = [name.strip() for name in key.split(",")]
    same = " AND ".join(f"t.{name} = i.{name}" for name in names)
    added = ", ".join(f"{name} = t.{name} + i.{name}" for name in values)
    columns = ", ".join((*names, *values))
    return (  # every name in it is one of ours
        f"MERGE INTO {table} t USING incoming i ON t.experiment_id = $id AND {same} "  # noqa: S608
        f"WHEN MATCHED THEN UPDATE SET {added} "
        f"WHEN NOT MATCHED THEN INSERT (experiment_id, {columns}) "
        f"VALUES ($id, {', '.join(f'i.{name}' for name in (*names, *values))})"
    )


def _arms() -> tuple[str, ...]:
    return tuple(f"{arm}_{name}" for arm in ("champion", "challenger") for name in _ARM)


def _columns(con: duckdb.DuckDBPyConnection, statement: str, given: Mapping[str, Any]) -> dict[str, Column]:
    table = con.sql(statement, params=_used(statement, given)).to_arrow_table()
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}


def _weights(con: duckdb.DuckDBPyConnection, experiment_id: str) -> tuple[Column, tuple[RankWeights, RankWeights]]:
    columns = _columns(
        con,
        f"SELECT bucket, rank, slots, {', '.join(_arms())} FROM shadow_weights WHERE experiment_id = $id",  # noqa: S608
        {"id": experiment_id},
    )
    _, group = np.unique(columns["bucket"], return_inverse=True)
    shape = (int(group.max(initial=-1)) + 1, int(columns["rank"].max(initial=0)))

    def spread(name: str) -> Column:
        values = np.zeros(shape)
        values[group, columns["rank"].astype(np.int64) - 1] = columns[name]
        return values

    arms = [RankWeights(*(spread(f"{arm}_{name}") for name in _ARM)) for arm in ("champion", "challenger")]
    return spread("slots"), (arms[0], arms[1])


def _ranking_rows(experiment_id: str, ranked: Sequence[Ranked], depth: int) -> pa.Table:
    return pa.table(
        {
            "experiment_id": pa.array([experiment_id] * len(ranked), pa.string()),
            "query_no": pa.array(range(len(ranked)), pa.int32()),
            "query_key": pa.array([item.query_key for item in ranked], pa.string()),
            "query": pa.array([item.query for item in ranked], pa.string()),
            "champion": pa.array([list(item.champion[:depth]) for item in ranked], pa.list_(pa.string())),
            "challenger": pa.array([list(item.challenger[:depth]) for item in ranked], pa.list_(pa.string())),
            "overlap": pa.array([item.overlap for item in ranked], pa.float32()),
            "rbo": pa.array([item.rbo for item in ranked], pa.float32()),
            "champion_ms": pa.array([item.champion_ms for item in ranked], pa.float32()),
            "challenger_ms": pa.array([item.challenger_ms for item in ranked], pa.float32()),
        }
    )
