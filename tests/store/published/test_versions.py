"""The published file is one that others open, with the DuckDB that they have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flywheel.store import Store
from tests.store.make import NOW, batch, event, query

ASK = """
import duckdb, json, sys
con = duckdb.connect(sys.argv[1], read_only=True)
rows = con.execute("SELECT count(*) FROM feedback UNION ALL SELECT count(*) FROM impressions").fetchall()
satisfied = con.execute("SELECT query_id FROM satisfied").fetchall()
comments = con.execute("SELECT count(comment) FROM duckdb_columns() WHERE NOT internal").fetchall()
print(json.dumps([[n for (n,) in rows], satisfied, comments[0][0] > 100]))
"""


@pytest.fixture
def published(store: Store) -> Path:
    """A published file with one page and one click."""
    store.feedback.ingest(batch(queries=[query("q1")], events=[event("e1")]), "c", NOW)
    store.analytics.publish(NOW)
    return store.database.folder / "analytics" / "analytics.duckdb"


def _asked(python: list[str], path: Path) -> list[object]:
    answer = subprocess.run([*python, "-c", ASK, str(path)], capture_output=True, text=True, check=False, timeout=300)
    if "Failed to fetch" in answer.stderr or "error sending request" in answer.stderr:
        pytest.skip("no package registry answers")
    assert answer.returncode == 0, answer.stderr
    found: list[object] = json.loads(answer.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_older_clients_open_the_published_file(published: Path, version: str) -> None:
    """Tables, views, the macro within a view and the comments are read by DuckDB as the registry has it."""
    uv = [str(Path(sys.executable).with_name("uv")), "run", "--quiet", "--no-project", "--isolated"]
    assert _asked([*uv, "--with", f"duckdb=={version}.*", "python"], published) == [[1, 3], [["q1"]], True]


def test_our_own_version_opens_the_published_file(published: Path) -> None:
    """DuckDB as it is installed here, in another process than the one that wrote."""
    assert duckdb.__version__.startswith("2.")
    assert _asked([sys.executable], published) == [[1, 3], [["q1"]], True]
