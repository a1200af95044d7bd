"""SQL for others: what analysts need works, what is hostile is refused and changes nothing."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from flywheel.store import SqlRefused, Store
from tests.store.make import NOW, batch, event, rows

secret = pa.table({"password": ["hunter2"]})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM feedback",
        "select 1;",
        "FROM feedback",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "VALUES (1)",
        "SELECT 1 UNION SELECT 1",
        "DESCRIBE feedback",
        "SHOW TABLES",
        "SUMMARIZE feedback",
    ],
)
def test_reading_works(store: Store, statement: str) -> None:
    """Every form of a query answers with rows."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    assert store.sql.query(statement).num_rows >= 1


HOSTILE = [
    "",
    "-- nothing",
    "SELECT 1; DROP TABLE feedback",
    "DELETE FROM feedback",
    "DELETE FROM feedback RETURNING *",
    "WITH gone AS (DELETE FROM feedback RETURNING *) SELECT * FROM gone",
    "INSERT INTO feedback SELECT * FROM feedback",
    "UPDATE feedback SET doc_id = 'x'",
    "MERGE INTO state USING (SELECT 1) ON true WHEN NOT MATCHED THEN INSERT VALUES ('a', '1', '2020-01-01')",
    "DROP TABLE feedback",
    "ALTER TABLE feedback ADD COLUMN x INT",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "COPY feedback TO '/tmp/stolen.csv'",
    "COPY feedback FROM '/etc/passwd'",
    "EXPORT DATABASE '/tmp/stolen'",
    "ATTACH '/tmp/other.duckdb'",
    "DETACH flywheel",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SET threads = 1",
    "SET VARIABLE x = 1",
    "RESET memory_limit",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret",
    "SELECT nextval('document_changes')",
    'SELECT * FROM "checkpoint" /* quietly */ ()',
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM duckdb_secrets()",
    "SELECT list_transform([1], lambda x: nextval('document_changes'))",
]


def test_hostile_statements_are_refused_and_change_nothing(store: Store) -> None:
    """Each raises `SqlRefused`, and afterwards the data is as it was and statements work."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    before = rows(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY ALL")
    accepted = []
    for statement in HOSTILE:
        try:
            store.sql.query(statement, seconds=5)
        except SqlRefused:
            continue
        accepted.append(statement)
    assert accepted == []
    assert rows(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY ALL") == before
    assert store.sql.query("SELECT doc_id FROM feedback").to_pylist() == [{"doc_id": "d1"}]


def test_a_long_statement_is_stopped(store: Store) -> None:
    """At its time limit, with the setting that raises it named; while it streams, too."""
    for statement in (
        "SELECT sum(hash(a.i + b.i)) FROM range(1000000) a(i), range(1000000) b(i)",
        "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r",
    ):
        began = time.monotonic()
        with pytest.raises(SqlRefused, match=r"limits\.sql_seconds"):
            store.sql.query(statement, seconds=0.2)
        assert time.monotonic() - began < 5


def test_too_many_rows_are_refused_and_not_cut_off(store: Store) -> None:
    """A truncated answer would be a wrong number."""
    assert store.sql.query("SELECT * FROM range(50)", max_rows=50).num_rows == 50
    with pytest.raises(SqlRefused, match="LIMIT"):
        store.sql.query("SELECT * FROM range(51)", max_rows=50)


def test_an_error_in_the_statement_is_told(store: Store) -> None:
    """The analyst sees what DuckDB says, on one line."""
    with pytest.raises(SqlRefused, match="no_such_column") as refused:
        store.sql.query("SELECT no_such_column FROM feedback")
    assert "\n" not in str(refused.value)
