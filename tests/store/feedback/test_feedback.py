"""Ingestion: rows and offsets together, nothing doubled, nothing lost, nothing stopped by one bad record."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.events import Document, Kind
from flywheel.store import Store, StoreError
from tests.store.make import DAY, HOUR, NOW, batch, event, query, rows

CLUSTER = "cluster"


def test_a_batch_and_its_offsets_go_in_together(store: Store) -> None:
    """Every record of a batch is a row, and the next offsets stand beside them."""
    done = store.feedback.ingest(
        batch(queries=[query("q1")], events=[event("e1")], documents=[Document("d1", "t", "x", NOW)], letters=[b"{"]),
        CLUSTER,
        NOW,
    )
    assert (done.queries, done.events, done.documents, done.dead_letters, done.duplicates) == (1, 1, 1, 1, 0)
    assert store.feedback.offsets(CLUSTER)["ubi.events", 0] == 1
    assert rows(store, "SELECT query_key, hit_ids, client_key FROM queries") == [
        ("how do i copy a list", ["d1", "d2", "d3"], "client")
    ]
    assert rows(store, "SELECT event_id, kind, rank, epoch_ms(ts) FROM feedback") == [("e1", "click", 1, NOW)]
    assert rows(store, "SELECT payload, reason FROM dead_letters") == [(b"{", "not JSON")]


def test_redelivery_is_harmless(store: Store) -> None:
    """The same messages again add nothing, whatever ids they carry."""
    store.feedback.ingest(batch(events=[event("e1"), event("e2")]), CLUSTER, NOW)
    again = store.feedback.ingest(batch(events=[event("other"), event("ids")]), CLUSTER, NOW)
    assert (again.events, again.duplicates) == (0, 2)
    assert store.feedback.counts()["events"] == 2


def test_offsets_never_go_back(store: Store) -> None:
    """A late batch with smaller offsets leaves the stored ones where they are."""
    store.feedback.ingest(batch(events=[event("e1")], start=10), CLUSTER, NOW)
    store.feedback.ingest(batch(events=[event("e2")], start=3), CLUSTER, NOW)
    assert store.feedback.offsets(CLUSTER) == {("ubi.events", 0): 11}


def test_clusters_count_for_themselves(store: Store) -> None:
    """Another cluster starts at its own offset 0."""
    store.feedback.ingest(batch(events=[event("e1")]), CLUSTER, NOW)
    assert store.feedback.ingest(batch(events=[event("e2")]), "another", NOW).events == 1
    assert store.feedback.offsets("another") == {("ubi.events", 0): 1}


def test_a_producers_retry_is_dropped_within_the_window(store: Store) -> None:
    """The same id at a new offset is a repeat within one batch, across batches, and up to 24 hours of event time."""
    first = store.feedback.ingest(
        batch(events=[event("e1"), event("e1")], queries=[query("q"), query("q")]), CLUSTER, NOW
    )
    assert (first.events, first.queries, first.duplicates) == (1, 1, 2)
    later = batch(events=[event("e1", NOW + 24 * HOUR), event("e1", NOW + 25 * HOUR)], start=10)
    second = store.feedback.ingest(later, CLUSTER, NOW)
    assert (second.events, second.duplicates) == (1, 1)


def test_repeats_are_known_after_a_restart(path: Path) -> None:
    """The ids of the window are read back from the tables when the store opens."""
    with Store.open(path) as store:
        store.feedback.ingest(batch(events=[event("e1")], queries=[query("q1")]), CLUSTER, NOW)
    with Store.open(path) as store:
        again = store.feedback.ingest(batch(events=[event("e1")], queries=[query("q1")], start=5), CLUSTER, NOW)
    assert (again.events, again.queries, again.duplicates) == (0, 0, 2)


def test_after_a_restart_the_newest_ids_are_remembered_in_the_order_of_arrival(tmp_path: Path) -> None:
    """Of three stored ids and room for two, the first is forgotten, and the second goes when another comes."""
    path = tmp_path / "flywheel.duckdb"
    with Store.open(path, recent_ids=2) as store:
        for number in (1, 2, 3):
            store.feedback.ingest(batch(events=[event(f"e{number}")], start=number), CLUSTER, NOW)
    with Store.open(path, recent_ids=2) as store:
        come = (("e1", 1), ("e3", 0), ("e2", 1))  # e1 is new again and takes the place of e2, not of e3
        for offset, (name, added) in enumerate(come, start=10):
            assert store.feedback.ingest(batch(events=[event(name)], start=offset), CLUSTER, NOW).events == added


def test_what_failed_to_be_stored_is_no_repeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed transaction nothing is there, and the same batch is accepted whole."""
    given = batch(events=[event("e1")], queries=[query("q1")])
    with monkeypatch.context() as patch:
        patch.setattr("flywheel.store.feedback.feedback._UPSERT_TOTALS", "INSERT INTO no_such_table VALUES (1)")
        with pytest.raises(StoreError):
            store.feedback.ingest(given, CLUSTER, NOW)
    assert rows(store, "SELECT count(*) FROM queries") == [(0,)]
    assert store.feedback.offsets(CLUSTER) == {}
    done = store.feedback.ingest(given, CLUSTER, NOW)
    assert (done.events, done.queries, done.duplicates) == (1, 1, 0)


def test_hostile_values_do_not_stop_a_batch(store: Store) -> None:
    """Numbers beyond every column and half a surrogate pair are brought to what the columns hold."""
    wild = event("e\ud800", 10**30, rank=10**12, dwell_ms=-(10**30), doc_id="\udfff", session_id="a\0b")
    page = query("q1", -5, text="\ud83d", hit_ids=("\ud800",), explored=(10**9, 2), latency_ms=1e300)
    store.feedback.ingest(batch(events=[wild, event("e2")], queries=[page]), CLUSTER, NOW)
    assert rows(store, "SELECT count(*), max(ts)::VARCHAR FROM feedback") == [(2, "9999-12-31 23:59:59.999")]
    assert rows(store, "SELECT text, hit_ids, explored, epoch_ms(ts) FROM queries") == [("?", ["?"], [2], 0)]


def test_the_watermark_follows_events_and_not_one_broken_clock(store: Store) -> None:
    """It lies half an hour behind the latest event time; a clock that runs ahead takes it no further than now."""
    assert store.feedback.watermark_ms() == 0
    store.feedback.ingest(batch(events=[event("e0", NOW - HOUR), event("e2", NOW + 400 * DAY)]), CLUSTER, NOW)
    assert store.feedback.watermark_ms() == NOW - HOUR - 30 * 60_000
    store.feedback.ingest(batch(events=[event("e3", NOW + HOUR)], start=5), CLUSTER, NOW)
    assert store.feedback.watermark_ms() == NOW - 30 * 60_000
    assert store.feedback.latest_ms() == NOW + HOUR
    store.feedback.ingest(batch(events=[event("e4", NOW - DAY)], start=9), CLUSTER, NOW)
    assert store.feedback.watermark_ms() == NOW - 30 * 60_000


def test_a_few_clocks_of_a_replayed_batch_close_no_window(store: Store) -> None:
    """History is replayed: of 300 events two come from clocks that are months ahead, and the watermark stays behind."""
    history = [event(f"h{number}", NOW - 90 * DAY + number) for number in range(298)]
    ahead = [event("a1", NOW - DAY), event("a2", NOW - HOUR)]
    store.feedback.ingest(batch(events=[*ahead, *history]), CLUSTER, NOW)
    assert store.feedback.watermark_ms() < NOW - 90 * DAY


def test_totals_and_watermark_survive_a_restart(path: Path) -> None:
    """What status shows is the same after the store was closed and opened."""
    with Store.open(path) as store:
        store.feedback.ingest(batch(events=[event("e1")], letters=[b"x"]), CLUSTER, NOW)
        before = (store.feedback.counts(), store.feedback.watermark_ms(), store.feedback.last_batch())
    with Store.open(path) as store:
        assert (store.feedback.counts(), store.feedback.watermark_ms(), store.feedback.last_batch()) == before


def test_an_empty_batch_moves_offsets_only(store: Store) -> None:
    """Aborted transactions and control records leave nothing but a new offset."""
    empty = batch()
    empty.next_offsets["ubi.events", 3] = 17
    done = store.feedback.ingest(empty, CLUSTER, NOW)
    assert done.duplicates == 0
    assert store.feedback.offsets(CLUSTER) == {("ubi.events", 3): 17}


def test_impressions_are_the_hits_of_a_page_with_what_was_logged_about_each(store: Store) -> None:
    """Rank, propensity, team and exploration of a hit stand in its own row."""
    page = query("q1", propensities=(1.0, 0.5, 0.25), teams=("both", "champion", "challenger"), explored=(3,))
    store.feedback.ingest(batch(queries=[page]), CLUSTER, NOW)
    found = rows(store, "SELECT doc_id, rank, propensity, team, explored FROM impressions ORDER BY rank")
    assert found == [
        ("d1", 1, 1.0, "both", False),
        ("d2", 2, 0.5, "champion", False),
        ("d3", 3, 0.25, "challenger", True),
    ]


def test_impressions_of_pages_without_hits_come_from_events(store: Store) -> None:
    """Where the product logs impressions as events, each document of a page counts once; else such events do not."""
    seen = [event(f"i{n}", kind=Kind.IMPRESSION, query_id=page) for n, page in enumerate(("bare", "bare", "full"))]
    pages = [query("bare", hit_ids=()), query("full", hit_ids=("d9",))]
    store.feedback.ingest(batch(queries=pages, events=seen), CLUSTER, NOW)
    found = rows(store, "SELECT query_id, doc_id, rank FROM impressions ORDER BY query_id")
    assert found == [("bare", "d1", 1), ("full", "d9", 1)]
