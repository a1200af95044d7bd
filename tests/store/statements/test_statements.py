"""SQL for others: what analysts need works, what is hostile is refused and changes nothing."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from flywheel.settings.load import Limits
from flywheel.store import SqlRefused, Store
from flywheel.store.schema.errors import SqlBusy
from flywheel.store.statements import process
from flywheel.store.statements.statements import AS_OF
from tests.store.make import NOW, batch, event, rows

FUNCTIONS = Path(process.__file__).with_name("functions.txt")
ROOT = Path(__file__).parents[3]
SMALL = Limits(sql_seconds=3, sql_memory_mb=512, result_mb=16)


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
    "SELECT * FROM duckdb_settings()",
    "SELECT sql FROM duckdb_views()",
    "FROM duckdb_databases",
    "FROM information_schema.views",
    "SELECT current_setting('allowed_directories')",
    "DESCRIBE '/etc/passwd'",
    "DESCRIBE SELECT * FROM '/etc/passwd'",
    "WITH a AS (FROM '/etc/passwd') FROM a",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM read_parquet('feedback/*/*')",
    "SELECT * FROM parquet_metadata('feedback/columns.parquet')",
    "SELECT sleep_ms(10)",
    "SELECT list_transform([1], lambda x: nextval('document_changes'))",
]


def test_hostile_statements_are_refused_and_change_nothing(store: Store) -> None:
    """Each raises `SqlRefused`, and afterwards the data is as it was and statements work."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    store.sql.query("SELECT 1")
    before = rows(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY ALL")
    database = store.database.path
    hostile = [*HOSTILE, f"SELECT * FROM read_blob('{database}')", f"FROM '{database}'"]
    for statement, refusal in zip(hostile, _refusals(store, hostile), strict=True):
        assert refusal, f"{statement} was answered"
        assert str(store.database.folder) not in refusal.replace(str(database), "")
    for statement in ("DROP TABLE feedback", "SELECT * FROM '/etc/passwd'", f"FROM '{database}'"):
        with pytest.raises(SqlRefused):
            store.sql.query(statement, max_age_seconds=600)
    assert rows(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY ALL") == before
    assert store.sql.query("SELECT doc_id FROM feedback", max_age_seconds=600).to_pylist() == [{"doc_id": "d1"}]


def _refusals(store: Store, statements: list[str]) -> list[str]:
    """What the program of a statement's process says to each, in one process; "" where it answers."""
    folder = store.database.folder / "analytics"
    request = {"database": str(folder / "analytics.duckdb"), "folder": str(folder), "memory_mb": 512, "answer_mb": 16}
    asked = json.dumps({"request": request | {"seconds": 300, "max_rows": 50}, "statements": statements})
    code = f"from {__name__} import asked_together; asked_together()"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=asked, capture_output=True, check=True, cwd=ROOT, timeout=300, text=True
    )
    refused: list[str] = json.loads(ended.stderr.splitlines()[-1])
    return refused


def asked_together() -> None:
    """Answer what standard input holds within the process's own limits, and tell the refusals on standard error."""
    wish = json.load(sys.stdin)
    process._limit(wish["request"])
    told = []
    for statement in wish["statements"]:
        try:
            process._answer(wish["request"] | {"statement": statement})
            told.append("")
        except (process._Refused, duckdb.Error, ValueError) as refusal:
            told.append(process._told(refusal, wish["request"]))
    print(json.dumps(told), file=sys.stderr)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("SELECT sum(hash(a.i + b.i)) FROM range(1000000) a(i), range(1000000) b(i)", id="join"),
        pytest.param("SELECT range(1000000000)", id="list"),
        pytest.param("SELECT repeat('x', 4000000000)", id="repeat"),
        pytest.param("SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))", id="levenshtein"),
        pytest.param("SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)", id="aggregate"),
        pytest.param("(" * 1_000_000, id="parser"),
        pytest.param("SELECT " + "(" * 100_000 + "1" + ")" * 100_000, id="depth"),
        pytest.param("SELECT repeat('x', 1000000) FROM range(480)", id="answer"),
    ],
)
def test_a_statement_cannot_take_the_machine(path: Path, statement: str) -> None:
    """Whatever it asks for, it ends in time, its process stays below the memory it may use, and others are answered."""
    # in a process of its own, because the memory of children is that of the largest that ever ended
    asked = json.dumps({"path": str(path), "limits": SMALL.model_dump(), "statement": statement})
    code = f"from {__name__} import asked_alone; asked_alone()"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=asked, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    answer = json.loads(ended.stdout)
    assert re.search(r"limits\.|deep|[Pp]arser|syntax", answer["refusal"])
    assert answer["seconds"] < SMALL.sql_seconds + 10
    assert answer["peak_mb"] < SMALL.sql_memory_mb


def asked_alone() -> None:
    """Ask what standard input says, and print the refusal, the seconds and the peak of the statement's process."""
    wish = json.load(sys.stdin)
    limits = Limits.model_validate(wish["limits"])
    with Store.open(Path(wish["path"]), memory_gb=0.5, threads=1) as store:
        store.sql.query("SELECT 1")
        began, refusal = time.monotonic(), ""
        try:
            store.sql.query(wish["statement"], limits, max_age_seconds=600)
        except SqlRefused as reason:
            refusal = str(reason)
        seconds = time.monotonic() - began
        store.sql.query("SELECT 1", max_age_seconds=600)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"refusal": refusal, "seconds": seconds, "peak_mb": peak}))
    assert store.sql.query("SELECT 1 AS one", max_age_seconds=600).to_pylist() == [{"one": 1}]


def test_what_the_processes_may_do_is_listed_and_nothing_else(store: Store) -> None:
    """Every function on the list exists, and none on it reads a file or shows the machinery."""
    listed = set(FUNCTIONS.read_text("utf-8").splitlines())
    known = {name for (name,) in duckdb.sql("SELECT function_name FROM duckdb_functions()").fetchall()}
    assert listed - known == set()
    assert len(listed) > 500
    for part in ("read_", "glob", "parquet", "csv", "secret", "setting", "getenv", "sniff", "pragma", "scan", "log_"):
        assert {name for name in listed if part in name} <= {"regexp_split_to_array"}, part


def test_only_so_many_statements_run_at_once(store: Store) -> None:
    """A statement that finds no turn is told so within seconds, and is not queued without end."""
    slow = "SELECT sum(hash(a.i + b.i)) FROM range(1000000) a(i), range(1000000) b(i)"
    store.sql.query("SELECT 1")

    def ask() -> None:
        with pytest.raises(SqlRefused):
            store.sql.query(slow, Limits(sql_seconds=8), max_age_seconds=600)

    askers = [threading.Thread(target=ask) for _ in range(Limits().sql_at_once)]
    for asker in askers:
        asker.start()
    while store.sql._turns._value:  # type: ignore[attr-defined]
        time.sleep(0.01)
    with pytest.raises(SqlBusy, match=r"limits\.sql_at_once"):
        store.sql.query("SELECT 1", max_age_seconds=600)
    for asker in askers:
        asker.join()


def test_an_answer_says_of_when_it_is(store: Store) -> None:
    """`as_of` is the moment of the publication that was asked; a younger folder than asked for is not renewed."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    first = store.sql.query("SELECT count(*) AS n FROM feedback", now_ms=lambda: NOW)
    assert (first.schema.metadata or {})[AS_OF] == b"2023-11-14T22:13:20.000+00:00"
    store.feedback.ingest(batch(events=[event("e2")], start=1), "c", NOW)
    same = store.sql.query("SELECT count(*) AS n FROM feedback", max_age_seconds=600, now_ms=lambda: NOW + 1)
    assert (same["n"][0].as_py(), (same.schema.metadata or {})[AS_OF]) == (1, b"2023-11-14T22:13:20.000+00:00")
    store.analytics.outdate()
    later = store.sql.query("SELECT count(*) AS n FROM feedback", max_age_seconds=600, now_ms=lambda: NOW + 1_000)
    assert (later["n"][0].as_py(), (later.schema.metadata or {})[AS_OF]) == (2, b"2023-11-14T22:13:21.000+00:00")


def _children() -> str:
    asked = ["ps", "--ppid", str(os.getpid()), "-ww", "-o", "args="]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def test_a_process_that_waits_ends_with_the_store(tmp_path: Path) -> None:
    """The process that is kept ready answers, another takes its place, and none is left when the store closes."""
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1) as store:
        store.sql.keep_ready()
        assert store.sql.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
        assert _children().count("statements/process.py") == 1
    assert "statements/process.py" not in _children()


def test_too_many_rows_are_refused_and_not_cut_off(store: Store) -> None:
    """A truncated answer would be a wrong number."""
    few = Limits(result_rows=50)
    assert store.sql.query("SELECT * FROM range(50)", few).num_rows == 50
    with pytest.raises(SqlRefused, match="LIMIT"):
        store.sql.query("SELECT * FROM range(51)", few)


def test_an_error_in_the_statement_is_told(store: Store) -> None:
    """The analyst sees what DuckDB says, on one line."""
    with pytest.raises(SqlRefused, match="no_such_column") as refused:
        store.sql.query("SELECT no_such_column FROM feedback")
    assert "\n" not in str(refused.value)
