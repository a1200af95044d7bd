"""One writer, many readers, and what is left after an error."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from flywheel.store import Store, StoreError, StoreFull, StoreLocked
from tests.store.make import NOW, batch, event, rows


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_a_second_process_is_told_who_has_it_and_what_to_do(store: Store, path: Path) -> None:
    """The message names the process that holds the file and the two ways around it."""
    code = "import sys, pathlib; from flywheel.store import Store; Store.open(pathlib.Path(sys.argv[1]))"
    error = python(code, str(path)).stderr.splitlines()[-1]
    assert "StoreLocked" in error
    assert f"process {os.getpid()}" in error
    assert "stop that daemon" in error
    assert "analytics" in error


def test_a_second_store_in_one_process_is_refused_until_the_first_is_closed(path: Path) -> None:
    """DuckDB would share the instance silently; two writers would follow."""
    first = Store.open(path)
    with pytest.raises(StoreLocked):
        Store.open(path)
    first.close()
    first.close()
    Store.open(path).close()


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    """The error says which file cannot be opened."""
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"cannot open .*flywheel\.duckdb"):
        Store.open(path)


def set_and_raise(store: Store) -> None:
    """A caller's error after a write within a write."""
    with store.database.write():
        store.state.set("a", 1, NOW)
        raise KeyError


def set_and_fail(store: Store) -> None:
    """The database's error after a write."""
    with store.database.write() as con:
        store.state.set("a", 1, NOW)
        con.execute("SELECT * FROM nothing_there")


def test_an_exception_rolls_back_and_the_next_write_works(store: Store) -> None:
    """Nothing of a failed block stays, be it the caller's error or the database's."""
    with pytest.raises(KeyError):
        set_and_raise(store)
    with pytest.raises(StoreError, match="nothing_there"):
        set_and_fail(store)
    store.state.set("a", True, NOW)
    assert rows(store, "SELECT value FROM state") == [("true",)]


def test_a_write_within_a_write_is_one_transaction(store: Store) -> None:
    """When the outer block fails, the inner one's rows are gone too."""
    with pytest.raises(KeyError):
        set_and_raise(store)
    assert store.state.get("a") is None


def test_a_reader_sees_one_snapshot_and_cannot_write(store: Store) -> None:
    """Two reads in one block agree while a write goes by; an attempt to write is an error."""
    with store.database.read() as con:
        before = con.execute("SELECT count(*) FROM state").fetchall()
        store.state.set("a", 1, NOW)
        assert con.execute("SELECT count(*) FROM state").fetchall() == before
    assert rows(store, "SELECT count(*) FROM state") == [(1,)]
    with pytest.raises(StoreError, match="read-only"), store.database.read() as con:
        con.execute("DELETE FROM state")


def test_many_threads_write_and_read(store: Store) -> None:
    """Eight writers and readers at once lose nothing and raise nothing."""
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                store.state.set(f"{thread}-{number}", number, NOW)
                store.state.get(f"{thread}-{number}")
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert rows(store, "SELECT count(*) FROM state") == [(80,)]


def test_the_instance_touches_no_other_file_and_changes_no_setting(store: Store, tmp_path: Path) -> None:
    """The walls stand for our own statements as well."""
    for statement in (
        f"COPY state TO '{tmp_path / 'x.csv'}'",
        "SELECT * FROM read_text('/etc/passwd')",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(StoreError), store.database.write() as con:
            con.execute(statement)


def test_the_file_is_in_the_format_of_duckdb_1_5(store: Store, path: Path) -> None:
    """Clients of the last 1.x release read it."""
    store.close()
    with duckdb.connect(path, read_only=True) as con:
        (tags,) = con.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()[0]
    assert tags["storage_version"].startswith("v1.5.0")


def test_a_closed_store_says_so(store: Store) -> None:
    """Use after close is a plain error."""
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.state.get("a")


def fill(store: Store, number: int) -> None:
    """About a megabyte that does not compress."""
    events = [event(os.urandom(40).hex(), session_id=os.urandom(400).hex()) for _ in range(1000)]
    store.feedback.ingest(batch(events=events, start=number * 1000), "cluster", NOW)


def fill_up(store: Store) -> None:
    """Until the disk is full."""
    for number in range(1000):
        fill(store, number)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 32 MB, unmounted afterwards."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    return folder


def test_a_full_disk_loses_nothing_and_ingestion_goes_on_when_there_is_room(small_disk: Path) -> None:
    """What was acknowledged is there, what was not can be given again, without a restart."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(12_000_000))
    try:
        with Store.open(small_disk / "f.duckdb", memory_gb=0.3, threads=1) as store:
            with pytest.raises(StoreFull, match="free some space"):
                fill_up(store)
            stored = store.feedback.last_batch()
            assert rows(store, "SELECT count(*) FROM feedback") == [(stored * 1000,)]
            ballast.unlink()
            fill(store, stored)
            assert rows(store, "SELECT count(*) FROM feedback") == [((stored + 1) * 1000,)]
        with Store.open(small_disk / "f.duckdb") as store:
            assert rows(store, "SELECT count(*) FROM feedback") == [((stored + 1) * 1000,)]
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
