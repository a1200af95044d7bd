"""kill -9 at any moment: nothing lost, nothing doubled, neither in the tables nor in what is published."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from flywheel.store import Store
from tests.store.daemon_process import SIZE
from tests.store.make import NOW, rows

REPOSITORY = Path(__file__).parents[2]


def run_and_kill(folder: Path, mode: str, after_seconds: float) -> int:
    """Start it, let it finish a step, kill it so much later; returns the last step that it reported."""
    command = [sys.executable, "-m", "tests.store.daemon_process", str(folder), mode]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_seconds)
    process.kill()
    steps = [first, *process.stdout.read().splitlines()]
    process.wait()
    return int(next(step for step in reversed(steps) if step.strip()))


@pytest.mark.parametrize("mode", ["ingest", "publish"])
def test_kills_lose_and_double_nothing(tmp_path: Path, mode: str) -> None:
    """After three kills at random moments the tables hold each event once, up to the stored offset, and so do files."""
    rng = random.Random(5)
    reported = max(run_and_kill(tmp_path, mode, rng.uniform(0, 0.4)) for _ in range(3))
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.3, threads=1) as store:
        stored = store.feedback.offsets("cluster")["ubi.events", 0]
        assert stored >= reported + SIZE
        expected = [(stored, stored, stored - 1)]
        counted = "count(*), count(DISTINCT {0}), max(substr({0}, 2)::BIGINT)"
        assert rows(store, f"SELECT {counted.format('event_id')} FROM feedback") == expected
        assert rows(store, f"SELECT {counted.format('query_id')} FROM queries") == expected
        assert store.feedback.counts()["events"] == stored
        store.analytics.publish(NOW)
        with duckdb.connect(tmp_path / "analytics" / "analytics.duckdb", read_only=True) as con:
            assert con.execute(f"SELECT {counted.format('event_id')} FROM feedback").fetchall() == expected
        everything = duckdb.read_parquet(f"{tmp_path}/analytics/feedback/date=*/*.parquet")
        assert everything.aggregate(counted.format("event_id")).fetchall() == expected
