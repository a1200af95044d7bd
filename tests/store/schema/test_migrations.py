"""The schema's history: applied once, in order, whole or not at all, and every column explained."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from flywheel.store import Store, StoreError
from flywheel.store.schema import migrations
from flywheel.store.schema.database import Database
from tests.store.make import rows


def test_every_table_view_and_column_has_a_comment(store: Store) -> None:
    """Analysts find the meaning of each beside it."""
    assert rows(store, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL") == []
    assert rows(store, "SELECT view_name FROM duckdb_views() WHERE comment IS NULL AND NOT internal") == []
    silent = "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal"
    assert rows(store, silent) == []


def test_the_tables_of_the_contract_are_there(store: Store) -> None:
    """Analysts rely on these names; docs/analysts.md uses them."""
    promised = "queries impressions feedback documents pairs models training_runs experiments experiment_daily"
    promised += " ab_outcomes decisions trigger_checks dead_letters ingest_offsets"
    there = {name for (name,) in rows(store, "SELECT DISTINCT table_name FROM duckdb_columns() WHERE NOT internal")}
    assert set(promised.split()) <= there


def test_steps_run_once(path: Path) -> None:
    """A second opening applies nothing."""
    Store.open(path).close()
    database = Database(path, memory_gb=1.0)
    assert migrations.migrate(database) == []
    database.close()


def test_a_newer_database_is_refused(path: Path) -> None:
    """Code that does not know a step would write rows that the newer code cannot read."""
    with Store.open(path) as store, store.database.write() as con:
        con.execute("INSERT INTO migrations VALUES ('999_future', '2030-01-01')")
    with pytest.raises(StoreError, match=r"newer Flywheel.*999_future"):
        Store.open(path)


def test_a_step_that_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps before it stay, its own tables do not, and it runs again at the next opening."""
    database = Database(path, memory_gb=1.0)
    real = migrations._run
    monkeypatch.setattr(migrations, "_run", lambda con, script: (real(con, script), con.execute("SELECT broken")))
    with pytest.raises(StoreError):
        migrations.migrate(database)
    with database.read() as con:
        assert con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("migrations",)]
    monkeypatch.setattr(migrations, "_run", real)
    assert migrations.migrate(database) == list(migrations.STEPS)
    database.close()


def test_no_step_is_forgotten() -> None:
    """Every file of SQL in the folder is a step, so that a new one cannot lie there unused."""
    folder = Path(str(resources.files("flywheel.store.schema")))
    assert sorted(path.stem for path in folder.glob("*.sql")) == sorted(migrations.STEPS)
