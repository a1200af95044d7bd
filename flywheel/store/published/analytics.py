"""The folder that analysts read while the daemon writes: Parquet by day, and one small database of tables and views.

The database is built beside the old one and takes its place in one rename. A reader that has the old one open keeps it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flywheel.store.published.parquet import SOURCES, Exports, rename_synced
from flywheel.store.schema.database import Database

FILE_NAME = "analytics.duckdb"
# what DuckDB 1.4, 1.5 and 2 open
STORAGE_VERSION = "v1.4.0"
_MACROS = ("worth_ms", "teaches")
_VIEWS = ("impressions", "satisfied", "teaching_pages", "arrivals", "preferences")
_TABLES = (
    *(
        "pairs",
        "excluded_users",
        "click_curves",
        "click_models",
        "evidence_checks",
        "dwell_thresholds",
        "models",
        "aliases",
        "training_runs",
        "trigger_checks",
    ),
    *("decisions", "experiments", "experiment_daily", "ab_outcomes", "golden_sets", "golden_queries"),
    *("golden_judgements", "dead_letters", "ingest_offsets", "shadow_progress", "shadow_rankings"),
    *("exploration", "ignored_fields"),
)
# an unreadable message may hold ids that were never hashed, so its bytes stay in the daemon's own database
_SELECT = {"dead_letters": "SELECT * REPLACE (''::BLOB AS payload, NULL::BLOB AS message_key) FROM dead_letters"}
_LATEST = "SELECT * FROM ({}) QUALIFY row_number() OVER (PARTITION BY doc_id ORDER BY change_seq DESC) = 1"


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication did."""

    rows: int
    renewed: int
    seconds: float


class PublishedFolder:
    """Publishes to `folder`: one publication at a time, beside ingestion."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder.resolve()
        self._exports = Exports(database, self._folder)
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._swept = False
        self.listeners: list[Callable[[], None]] = []
        """Called when a publication stands."""
        self._outdated = False
        self._as_of_ms = 0
        self._published: float | None = None  # by the monotonic clock

    def outdate(self) -> None:
        """Whoever asks next wants what was just changed: `refresh` renews the folder however young it is."""
        self._outdated = True

    def refresh(self, now_ms: Callable[[], int], max_age_seconds: float) -> int:
        """Publish if the folder is older than that; returns the moment of the last publication, epoch milliseconds.

        Raises:
            StoreError: as `publish`.
        """
        with self._refreshing:
            age = None if self._published is None else time.monotonic() - self._published
            if self._outdated or age is None or age >= max_age_seconds:
                self.publish(now_ms())
            return self._as_of_ms

    def publish(self, now_ms: int) -> Published:
        """Bring the folder up to date.

        1. delete what a crash left, 2. write new rows as Parquet and list the files, 3. rewrite files with erased rows
        and join small ones, 4. build the database and put it in its place, 5. delete files that nobody reads any more.
        After a kill between any two steps, the next publication goes on from there.

        Raises:
            StoreError: the database or the disk refused. The last publication stays as it is.
        """
        started = time.monotonic()
        with self._lock:
            self._outdated = False
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._swept:
                self._exports.sweep()  # 1
            self._swept = False  # if a step below fails, the next publication sweeps first
            rows = self._exports.increment(now_ms)  # 2
            renewed = self._exports.renew(now_ms)  # 3
            self._build()  # 4
            self._exports.forget(now_ms)  # 5
            self._swept = True
            self._as_of_ms, self._published = now_ms, started
            for listener in self.listeners:
                listener()
        return Published(rows, renewed, time.monotonic() - started)

    def _build(self) -> None:
        partial = self._folder / f"{FILE_NAME}.part"
        for leftover in (partial, partial.with_name(partial.name + ".wal")):
            leftover.unlink(missing_ok=True)
        target = duckdb.connect(partial, config={"storage_compatibility_version": STORAGE_VERSION, "threads": 1})
        try:
            # in one transaction, because hundreds of them take several times as long
            target.execute("BEGIN TRANSACTION")
            self._fill(target)
            target.execute("COMMIT")
        finally:
            target.close()
        # an analyst who wrote to the old file left it; it does not belong to the new one
        with suppress(FileNotFoundError):
            (self._folder / f"{FILE_NAME}.wal").unlink()
        rename_synced(partial, self._folder / FILE_NAME)

    def _fill(self, target: duckdb.DuckDBPyConnection) -> None:
        for source in SOURCES:
            paths = _list(self._exports.paths(source.table))
            # by name, because files that were written before a column came have none of it
            options = "hive_partitioning = false, union_by_name = true"
            select = f"SELECT * FROM read_parquet({paths}, {options})"  # noqa: S608 - see _text
            if source.table == "documents":
                select = _LATEST.format(select)
            target.execute(f"CREATE VIEW {source.table} AS {select}")
        with self._database.read() as con:
            _copy_macros(con, target)
            _copy_tables(con, target)
            for view in _VIEWS:
                definition = con.execute("SELECT sql FROM duckdb_views() WHERE view_name = ?", [view]).fetchall()
                target.execute(definition[0][0])
            _copy_comments(con, target)


def _copy_macros(con: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection) -> None:
    macros = con.execute(
        "SELECT function_name, parameters, macro_definition, comment FROM duckdb_functions() "
        "WHERE NOT internal AND list_contains(?::VARCHAR[], function_name)",
        [list(_MACROS)],
    ).fetchall()
    for name, parameters, definition, comment in macros:
        target.execute(f"CREATE MACRO {name}({', '.join(parameters)}) AS {definition}")
        target.execute(f"COMMENT ON MACRO {name} IS {_text(comment)}")


def _copy_tables(con: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection) -> None:
    definitions: dict[str, list[str]] = {table: [] for table in _TABLES}
    columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY table_name, column_index"
    for table, name, kind in con.execute(columns).fetchall():
        if table in definitions:
            definitions[table].append(f'"{name}" {kind}')
    target.execute(";".join(f"CREATE TABLE {table} ({', '.join(own)})" for table, own in definitions.items()))
    for table in _TABLES:
        # through Arrow, because the daemon's database may attach no other file
        rows = con.sql(_SELECT.get(table, f"SELECT * FROM {table}")).to_arrow_table()  # noqa: S608 - one of _TABLES
        if rows.num_rows:
            target.register("incoming", rows)
            target.execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - one of _TABLES
            target.unregister("incoming")


def _copy_comments(con: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection) -> None:
    relations = target.execute(
        "SELECT table_name, 'TABLE' FROM duckdb_tables() UNION ALL "
        "SELECT view_name, 'VIEW' FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    kinds = dict(relations)
    tables = con.execute(
        "SELECT table_name, comment FROM duckdb_tables() UNION ALL "
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    told = [f"COMMENT ON {kinds[table]} {table} IS {_text(comment)}" for table, comment in tables if table in kinds]
    columns = con.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal AND comment IS NOT NULL"
    ).fetchall()
    told += [
        f'COMMENT ON COLUMN {table}."{column}" IS {_text(comment)}'
        for table, column, comment in columns
        if table in kinds
    ]
    target.execute(";".join(told))


def _list(paths: list[str]) -> str:
    return "[" + ", ".join(_text(path) for path in paths) + "]"


def _text(value: str) -> str:
    """A string literal, for our own names, comments and paths where a statement takes no parameters."""
    return "'" + value.replace("'", "''") + "'"
