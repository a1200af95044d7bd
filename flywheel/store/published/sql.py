"""Answers analysts' SQL: one read-only SELECT at a time, within limits of time and rows.

Four walls stand before what is hostile. Each alone stops most of it: the parser's word on what the statement is and
calls, a read-only transaction, an instance that may touch no other file, load nothing and change no setting (see
`flywheel.store.schema.database`), and a timer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress

import duckdb
import pyarrow as pa

from flywheel.settings.load import Limits
from flywheel.store.published.carried import carried
from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import SqlRefused

# functions that show or change the machinery and not the data, or hide a statement from this check
_FORBIDDEN = frozenset(
    {"checkpoint", "force_checkpoint", "nextval", "currval", "query", "query_table", "json_execute_serialized_sql"}
    | {"enable_logging", "disable_logging", "set_log_level", "write_log", "truncate_duckdb_logs", "duckdb_logs"}
    | {"enable_profiling", "disable_profiling", "duckdb_secrets", "which_secret", "pragma_database_list"}
)
_ONE = "one SELECT statement at a time (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are fine)"
_MAX_BYTES = 512 * 1024 * 1024  # wide rows fill the memory before their number is too large
_LIMITS = Limits()
# small, so that a hostile row of megabytes is noticed before ten thousand of them lie in memory
_BATCH_ROWS = 1_000


class ReadOnlySql:
    """Answers of analysts' statements as Arrow tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query(
        self, statement: str, *, max_rows: int = _LIMITS.result_rows, seconds: float = _LIMITS.sql_seconds
    ) -> pa.Table:
        """Run one SELECT on a snapshot.

        Raises:
            SqlRefused: not one SELECT, an error in it, or over its limits; the message says which, and what to do.
        """
        cursor = self._database.cursor()
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            cursor.interrupt()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        try:
            checked = _only_select(cursor, statement)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            timer.start()
            return _fetch(cursor, checked, max_rows)
        # while it streams, Arrow passes DuckDB's errors on as its own
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if stopped.is_set():
                raise SqlRefused(f"stopped after {seconds:g} s; narrow it, or raise limits.sql_seconds") from error
            raise SqlRefused(_first_lines(error)) from error
        finally:
            timer.cancel()
            with suppress(duckdb.Error):
                cursor.close()


def _only_select(cursor: duckdb.DuckDBPyConnection, statement: str) -> str:
    statements = cursor.extract_statements(statement)
    if len(statements) != 1:
        raise SqlRefused(f"{len(statements)} statements; {_ONE}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise SqlRefused(f"{statements[0].type.name} is refused; {_ONE}")
    tree = json.loads(cursor.execute("SELECT json_serialize_sql(?)", [statements[0].query]).fetchall()[0][0])
    if tree["error"]:
        raise SqlRefused(f"{tree['error_message']}; {_ONE}")
    forbidden = sorted(_FORBIDDEN.intersection(_functions(tree)))
    if forbidden:
        raise SqlRefused(f"{', '.join(forbidden)} is refused: it shows or changes the machinery, not the data")
    return statements[0].query


def _functions(tree: object) -> Iterator[str]:
    """Names of the functions that a serialised statement calls, at any depth."""
    if isinstance(tree, dict):
        if isinstance(tree.get("function_name"), str):
            yield tree["function_name"].lower()
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from _functions(item)


def _fetch(cursor: duckdb.DuckDBPyConnection, statement: str, max_rows: int) -> pa.Table:
    relation = cursor.sql(statement)
    if relation is None:
        raise SqlRefused(f"no result; {_ONE}")
    reader = carried(relation).to_arrow_reader(_BATCH_ROWS)
    batches, rows, size = [], 0, 0
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size > _MAX_BYTES:
            raise SqlRefused(f"more than {_MAX_BYTES >> 20} MB; ask for fewer columns or rows")
        if rows > max_rows:
            raise SqlRefused(
                f"more than {max_rows} rows; add a LIMIT, aggregate, raise limits.result_rows, or read the published "
                "analytics/analytics.duckdb, which has no limit"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split("\n"))[:500]
