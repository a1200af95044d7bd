"""The schema's history: named steps of SQL, each applied in one transaction with the record that it ran.

In those files a comment at the end of a column's line becomes the column's comment in the database. The comment above
a CREATE becomes the table's. It refuses a database that has steps this code does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources

import duckdb

from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError

STEPS = (
    "001_feedback",
    "002_learning",
    "003_evaluation",
    "004_live",
    "005_shadow",
    "006_exploration",
    "007_clicks",
    "008_outcomes",
    "009_reasons",
    "010_satisfied",
    "011_records",
    "014_keeping",
    "018_marked",
    "019_fair_pairs",
    "020_readings",
    "021_own_metrics",
    "022_clear",
)

_CREATE = re.compile(r"((?:^--[^\n]*\n)+)CREATE (TABLE|VIEW) (\w+) \(\n(.*?)^\)", re.M | re.S)
_COLUMN = re.compile(r'^    ("?\w+"?)[^\n]*? -- ([^\n]+)$', re.M)
_LEDGER = """
    CREATE TABLE IF NOT EXISTS migrations (name VARCHAR PRIMARY KEY, applied_at TIMESTAMP NOT NULL);
    COMMENT ON TABLE migrations IS 'Steps of the schema''s history that this file has been through.';
    COMMENT ON COLUMN migrations.name IS 'the step';
    COMMENT ON COLUMN migrations.applied_at IS 'when it ran, UTC';
"""


def migrate(database: Database, steps: tuple[str, ...] = STEPS) -> list[str]:
    """Apply the steps that are missing and return their names.

    Raises:
        StoreError: the database is newer than this code, or a step failed; steps before it stay.
    """
    with database.write() as con:
        con.execute(_LEDGER)
        applied = {name for (name,) in con.execute("SELECT name FROM migrations").fetchall()}
    unknown = sorted(applied - set(steps))
    if unknown:
        raise StoreError(
            f"{database.path} was made by a newer Flywheel (it has {', '.join(unknown)}); install that version or "
            "restore an older copy"
        )
    missing = [name for name in steps if name not in applied]
    for name in missing:
        _apply(database, name)
    return missing


def _apply(database: Database, name: str) -> None:
    script = resources.files("flywheel.store.schema").joinpath(f"{name}.sql").read_text("utf-8")
    with database.write() as con:
        _run(con, script)
        con.execute(";".join(comments(script)))
        con.execute("INSERT INTO migrations VALUES (?, ?)", [name, datetime.now(UTC).replace(tzinfo=None)])


def _run(con: duckdb.DuckDBPyConnection, script: str) -> None:
    for statement in con.extract_statements(script):
        con.execute(statement)


def comments(script: str) -> Iterator[str]:
    """COMMENT ON statements made from a script's own comments."""
    for head, kind, table, body in _CREATE.findall(script):
        sentence = " ".join(line.removeprefix("--").strip() for line in head.splitlines())
        yield f"COMMENT ON {kind} {table} IS {_literal(sentence)}"
        for column, text in _COLUMN.findall(body):
            yield f"COMMENT ON COLUMN {table}.{column} IS {_literal(text)}"


def _literal(text: str) -> str:
    # COMMENT ON takes no parameters
    return "'" + text.replace("'", "''") + "'"
