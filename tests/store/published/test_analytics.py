"""What analysts read: whole while the daemon writes, exact, and in increments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from flywheel.events import Document
from flywheel.store import Store
from flywheel.store.published import parquet
from tests.store.make import DAY, NOW, batch, event, query, rows


@pytest.fixture
def folder(store: Store, path: Path) -> Path:
    """Where the store publishes."""
    return path.parent / "analytics"


def read(folder: Path, statement: str) -> str:
    """What another process, elsewhere, sees."""
    code = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall())"
    command = [sys.executable, "-c", code, str(folder / "analytics.duckdb"), statement]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_process_reads_while_the_store_is_open(store: Store, folder: Path) -> None:
    """Tables, views over Parquet and their comments are there, from any working directory."""
    store.feedback.ingest(
        batch(queries=[query("q1")], events=[event("e1")], documents=[Document("d1", "t", "x", NOW)]), "c", NOW
    )
    store.analytics.publish(NOW)
    counted = (
        "SELECT (SELECT count(*) FROM queries), (SELECT count(*) FROM feedback), (SELECT count(*) FROM impressions)"
    )
    assert read(folder, counted) == "[(1, 1, 3)]"
    assert read(folder, "SELECT title FROM documents") == "[('t',)]"
    assert read(folder, "SELECT count(*) FROM ab_outcomes") == "[(0,)]"
    silent = "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal"
    assert read(folder, silent) == "[]"


def test_the_published_tables_have_the_columns_of_the_store(store: Store, folder: Path) -> None:
    """A statement that works on one works on the other."""
    store.analytics.publish(NOW)
    with duckdb.connect(folder / "analytics.duckdb", read_only=True) as con:
        columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
        published = con.execute(columns).fetchall()
    inner = {"state", "exports", "ingest_totals", "locks", "migrations"}
    # their sums are in ab_outcomes
    inner |= {"tallies", "experiment_people", "experiment_people_days", "experiment_before", "experiment_own"}
    inner |= {"shadow_traffic", "shadow_slots", "shadow_clicks", "shadow_weights"}
    ours = [row for row in rows(store, columns) if row[0] not in inner]
    assert published == ours


def test_increments_never_rewrite_what_is_there(store: Store, folder: Path) -> None:
    """A later publication adds files, and the older ones keep their bytes."""
    store.feedback.ingest(batch(events=[event("e1"), event("e2", NOW + DAY)]), "c", NOW)
    store.analytics.publish(NOW)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("feedback/date=*/*")}
    assert [path.parent.name for path in sorted(before)] == ["date=2023-11-14", "date=2023-11-15"]
    store.feedback.ingest(batch(events=[event("e3")], start=2), "c", NOW)
    assert store.analytics.publish(NOW).rows == 1
    after = {path: path.stat().st_mtime_ns for path in folder.glob("feedback/date=*/*")}
    assert before.items() < after.items()
    assert len(after) == 3


def test_an_old_reader_goes_on_reading(store: Store, folder: Path) -> None:
    """Who opened the last publication still has it after the next two."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    store.analytics.publish(NOW)
    with duckdb.connect(folder / "analytics.duckdb", read_only=True) as con:
        for number in (1, 2):
            store.feedback.ingest(batch(events=[event(f"x{number}")], start=number), "c", NOW)
            store.analytics.publish(NOW)
        assert con.execute("SELECT count(*) FROM feedback").fetchall() == [(1,)]
    assert read(folder, "SELECT count(*) FROM feedback") == "[(3,)]"


def test_the_latest_version_of_a_document_is_published(store: Store, folder: Path) -> None:
    """The files keep its history, the view shows one row."""
    for number in (1, 2):
        store.documents.upsert([Document("d1", f"title {number}", "x", NOW + number)], NOW)
        store.analytics.publish(NOW)
    assert read(folder, "SELECT doc_id, title FROM documents") == "[('d1', 'title 2')]"


def test_small_files_are_joined_and_deleted_when_readers_have_moved_on(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joined file has every row once; those it replaces outlive it by the grace."""
    monkeypatch.setattr(parquet, "_MAX_SMALL_FILES", 3)
    for number in range(4):
        store.feedback.ingest(batch(events=[event(f"e{number}")], start=number), "c", NOW)
        store.analytics.publish(NOW)
    assert read(folder, "SELECT count(*), count(DISTINCT event_id) FROM feedback") == "[(4, 4)]"
    assert len(list(folder.glob("feedback/date=*/*"))) == 5
    store.analytics.publish(NOW + parquet.GRACE_MS)
    assert len(list(folder.glob("feedback/date=*/*"))) == 1
    assert read(folder, "SELECT count(*), count(DISTINCT event_id) FROM feedback") == "[(4, 4)]"


def test_what_a_crash_left_is_swept(store: Store, folder: Path) -> None:
    """A file that was renamed but never listed, and half a file, are gone after the next publication."""
    store.feedback.ingest(batch(events=[event("e1")]), "c", NOW)
    orphan = folder / "feedback" / "date=2023-11-14" / "feedback-000000000001-000000000001.parquet.part"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half")
    (folder / "analytics.duckdb.part").write_bytes(b"half")
    store.analytics.publish(NOW)
    assert not orphan.exists()
    assert not (folder / "analytics.duckdb.part").exists()


def test_erasure_reaches_the_published_files(store: Store, folder: Path) -> None:
    """After the next publication no file has a row of the erased person, and everybody else's are there."""
    events = [event("e1", client_key="gone", query_id=None), event("e2", client_key="stays", query_id=None)]
    store.feedback.ingest(batch(events=events), "c", NOW)
    store.analytics.publish(NOW)
    store.erasure.erase_user(["gone"])
    store.analytics.publish(NOW + 1)
    found = duckdb.read_parquet(f"{folder}/feedback/date=*/*.parquet").aggregate("string_agg(client_key)").fetchall()
    assert found == [("stays",)]


def test_an_erasure_during_a_publication_is_not_undone_by_it(store: Store, folder: Path) -> None:
    """Rows that were erased after the publication read them are in no file when it ends."""
    store.feedback.ingest(batch(events=[event("e1", client_key="gone"), event("e2")]), "c", NOW)
    exporter = parquet.Exports(store.database, folder.resolve())
    real = exporter._write_days

    def erase_meanwhile(*arguments: object) -> list[parquet.File]:
        files = list(real(*arguments))  # type: ignore[arg-type]
        store.erasure.erase_user(["gone"])
        return files

    exporter._write_days = erase_meanwhile  # type: ignore[method-assign,assignment]
    exporter.increment(NOW)
    exporter.renew(NOW)
    exporter.forget(NOW)
    found = duckdb.read_parquet(f"{folder}/feedback/date=*/*.parquet").aggregate("string_agg(event_id)").fetchall()
    assert found == [("e2",)]


def test_dead_letters_are_published_without_their_bytes(store: Store, folder: Path) -> None:
    """An unreadable message may hold ids that were never hashed."""
    store.feedback.ingest(batch(letters=[b"secret"]), "c", NOW)
    store.analytics.publish(NOW)
    assert read(folder, "SELECT payload, reason FROM dead_letters") == "[(b'', 'not JSON')]"


def test_files_from_before_a_column_are_read_with_it(store: Store, folder: Path) -> None:
    """After an upgrade that adds a column, old Parquet files answer null for it, beside new ones that have it."""
    store.feedback.ingest(batch(queries=[query("q1")]), "c", NOW)
    store.analytics.publish(NOW)
    for path in (folder / "queries").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["sorted_by", "sponsored"]), path)
    store.feedback.ingest(batch(queries=[query("q2", sorted_by="price")], start=1), "c", NOW)
    store.analytics.publish(NOW)
    assert read(folder, "SELECT query_id, sorted_by FROM queries ORDER BY 1") == "[('q1', None), ('q2', 'price')]"
    assert read(folder, "SELECT query_id, hit_ids FROM teaching_pages") == "[('q1', ['d1', 'd2', 'd3'])]"
