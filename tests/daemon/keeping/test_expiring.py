"""What is older than the settings allow goes, once a day, and what is needed stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flywheel.daemon.keeping.expiring import Retention
from flywheel.settings.home import Home
from flywheel.settings.load import Keeping
from flywheel.store import Store
from tests.store.make import DAY, NOW, batch, event, query, rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    home = Home(tmp_path / "home")
    home.init()
    return home


def test_each_kind_goes_by_its_age(home: Home) -> None:
    """Pages, events, letters and snapshots beyond their days are deleted; younger ones, and sums, are not."""
    for name, age in (("old", 40), ("young", 1)):
        (home.snapshots / name).mkdir()
        os.utime(home.snapshots / name, (NOW / 1_000 - age * 86_400,) * 2)
    with Store.open(home.database, memory_gb=0.5, threads=1) as store:
        for start, age in enumerate((100, 10)):
            then = NOW - age * DAY
            pages, done = [query(f"q{age}", then)], [event(f"e{age}", then, query_id=f"q{age}")]
            store.feedback.ingest(batch(queries=pages, events=done, start=10 * start), "c", then)
        store.feedback.ingest(batch(letters=[b"x"], start=50), "c", NOW)
        with store.database.write() as con:
            older = "SELECT * REPLACE (received_at - INTERVAL 40 DAY AS received_at) FROM dead_letters"
            con.execute(f"INSERT INTO dead_letters {older}")
        store.analytics.publish(NOW)
        clock = [NOW]
        retention = Retention(home, store, Keeping(feedback_days=30), set, lambda: clock[0])
        retention.step()
        assert rows(store, "SELECT query_id FROM queries") == [("q10",)]
        assert rows(store, "SELECT event_id FROM feedback") == [("e10",)]
        assert rows(store, "SELECT count(*) FROM dead_letters") == [(1,)]
        assert [folder.name for folder in home.snapshots.iterdir()] == ["young"]
        assert store.erasure.pending()
        store.analytics.publish(NOW)
        assert store.sql.query("SELECT query_id FROM queries").to_pylist() == [{"query_id": "q10"}]
        clock[0] += DAY // 2
        retention.step()
        assert rows(store, "SELECT count(*) FROM queries") == [(1,)]


def test_by_default_feedback_stays(home: Home) -> None:
    """Nothing is deleted that nobody asked to delete."""
    with Store.open(home.database, memory_gb=0.5, threads=1) as store:
        store.feedback.ingest(batch(queries=[query("q1", NOW - 3_000 * DAY)]), "c", NOW)
        Retention(home, store, Keeping(), set, lambda: NOW).step()
        assert rows(store, "SELECT count(*) FROM queries") == [(1,)]
        assert not store.erasure.pending()
