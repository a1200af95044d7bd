"""What is erased is gone: from every file of the home, beside ingestion, and killed at any step."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flywheel.daemon.keeping.erasing import mask
from flywheel.settings.home import Home
from flywheel.store.feedback.mentions import mentions
from flywheel.store.feedback.sessions import hash_sessions
from flywheel.store.store import Store
from tests.daemon.erasing_world import (
    OTHER,
    PERSON,
    SESSION,
    SHARED,
    TEXT,
    eraser,
    found,
    furnish,
    ingest,
    needles,
)
from tests.store.make import rows

MARKS = [
    "before the snapshots",
    "before the publication",
    "while publishing",
    "before the copy",
    "after the copy",
    "after the rename",
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that knows the person in every kind of file."""
    return furnish(tmp_path / "home")


def opened(home: Home) -> Store:
    return Store.open(home.database, memory_gb=0.5, threads=1)


def test_the_search_finds_what_is_there(home: Home) -> None:
    """Before an erasure the id, its hash, the session's hash and the text are found in every kind of file."""
    hits = found(home)
    for place in ("flywheel.duckdb", "analytics/queries", "analytics/feedback", "snapshots/run-1", "logs/flywheel.log"):
        assert any(place in hit for hit in hits), place
    assert {hit.partition(" in ")[0] for hit in hits} >= {"id", "hash", "session hash", "text"}
    assert not any("analytics/" in hit for hit in hits if hit.startswith("id in"))


def test_no_file_of_the_home_holds_what_was_erased(home: Home) -> None:
    """Nor the database's own blocks and its log; everybody else's rows are as they were."""
    with opened(home) as store:
        before = rows(store, f"SELECT * FROM queries WHERE user_key <> '{home.hasher()(PERSON)}' ORDER BY query_id")
        told = eraser(home, store).erase(PERSON)
        assert (told["queries"], told["feedback"], told["dead_letters"], told["pending"]) == (3, 2, 5, False)
        assert rows(store, "SELECT * FROM queries ORDER BY query_id") == before
        assert rows(store, "SELECT query FROM pairs") == [(SHARED,)]
        assert [OTHER.encode() in letter for (letter,) in rows(store, "SELECT payload FROM dead_letters")] == [True]
    assert found(home) == set()
    assert OTHER in (home.logs / "flywheel.log").read_text()


def test_ingestion_goes_on_while_and_after_a_person_is_erased(home: Home) -> None:
    """Batches that arrive meanwhile are stored once each, and nothing of the person comes back with them."""
    with opened(home) as store:
        failed: list[BaseException] = []

        def arrive() -> None:
            try:
                for number in range(1, 21):
                    ingest(home, store, start=10_000 * number, people=50)
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                failed.append(error)

        arriving = threading.Thread(target=arrive)
        arriving.start()
        eraser(home, store).erase(PERSON)
        arriving.join()
        assert failed == []
        assert rows(store, "SELECT count(*), count(DISTINCT query_id) FROM queries") == [(301 + 1_000, 301 + 1_000)]
        assert eraser(home, store).finish() is False
    assert found(home) == set()


def test_reading_goes_on_after_the_file_was_written_anew(home: Home) -> None:
    """A reader that has begun ends its reading on the old file; the next one reads the new one."""
    with opened(home) as store:
        seen: list[int] = []
        begun, go_on = threading.Event(), threading.Event()

        def look() -> None:
            with store.database.read() as con:
                begun.set()
                go_on.wait(20)
                seen.append(con.execute("SELECT count(*) FROM queries").fetchall()[0][0])

        looking = threading.Thread(target=look)
        looking.start()
        begun.wait(20)
        erasing = threading.Thread(target=eraser(home, store).erase, args=(PERSON,))
        erasing.start()
        go_on.set()
        looking.join()
        erasing.join()
        assert seen[0] >= 301
        assert rows(store, "SELECT count(*) FROM queries") == [(301,)]


@pytest.mark.parametrize("mark", MARKS)
def test_killed_at_any_step_it_ends_the_same(home: Home, mark: str) -> None:
    """The next start finishes what was begun, and the home is as if nothing had happened."""
    killed = subprocess.run(
        [sys.executable, "-m", "tests.daemon.erasing_world", str(home.root), mark], capture_output=True, check=False
    )
    assert killed.returncode == 9, killed.stderr.decode()
    with opened(home) as store:
        assert store.erasure.pending() is True
        assert eraser(home, store).finish() is True
        assert rows(store, "SELECT count(*) FROM queries") == [(301,)]
        assert store.erasure.pending() is False
    assert found(home) == set()


def test_the_copy_is_the_database_that_it_was(home: Home) -> None:
    """Tables, views, macros, sequences, keys, defaults and every comment are there after the file was written anew."""
    facts = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY ALL",
        "SELECT table_name, comment FROM duckdb_tables() ORDER BY ALL",
        "SELECT view_name, comment, sql FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
        "SELECT function_name, comment, macro_definition FROM duckdb_functions() WHERE NOT internal ORDER BY ALL",
        "SELECT table_name, constraint_type, constraint_column_names FROM duckdb_constraints() ORDER BY ALL",
        "SELECT sequence_name, start_value FROM duckdb_sequences() ORDER BY ALL",
    )
    with opened(home) as store:
        before = [rows(store, fact) for fact in facts]
        store.database.rewrite()
        assert [rows(store, fact) for fact in facts] == before
        assert len(before[0]) > 100


def test_sessions_of_an_older_home_are_hashed_once(tmp_path: Path) -> None:
    """Raw sessions in rows, files and experiments become keys; nobody changes their person, and no byte is left."""
    home = Home(tmp_path / "old")
    home.init()
    key = home.hasher()
    with opened(home) as store:
        ingest(home, store)
        with store.database.write() as con:
            con.execute("UPDATE queries SET session_id = 'SESSION-of-the-person' WHERE session_id = ?", [key(SESSION)])
            con.execute("UPDATE feedback SET session_id = 'SESSION-of-the-person' WHERE session_id = ?", [key(SESSION)])
        store.analytics.publish(0)
        assert hash_sessions(store.database, key) > 300
        assert hash_sessions(store.database, key) == 0
        assert rows(store, f"SELECT count(*) FROM queries WHERE session_id = '{key(key(SESSION))}'") == [(0,)]
        assert rows(store, f"SELECT count(*) FROM queries WHERE session_id = '{key(SESSION)}'") == [(3,)]
        eraser(home, store).finish()
    assert not {hit for hit in found(home) if hit.startswith("session in") and "duckdb" not in hit}
    with opened(home) as store:
        assert rows(store, f"SELECT count(*) FROM dead_letters WHERE payload::VARCHAR LIKE '%{SESSION}%'") == [(1,)]


@pytest.mark.parametrize(
    ("payload", "is_in"),
    [
        (b'{"user_id": "RAWUSER-1"}', True),
        (b'{"user_id":"RAWUSER-10"}', False),
        (b'{"user_id":"XRAWUSER-1"}', False),
        (b'{"user_id":"\\u0052AWUSER-1"}', True),
        (b'{"a": "{\\"user_id\\":\\"RAWUSER-1\\"}"}', True),
        (b"user_id=RAWUSER-1&x=1", True),
        (b"user_id=RAWUSER%2D1", True),
        ('{"user_id": "RAWUSER-1"}'.encode("utf-16-le"), True),
        (b'\xff\xfe broken "RAWUSER-1', True),
        (b"<id>RAWUSER-1</id>", True),
        (b"", False),
    ],
)
def test_letters_are_searched_by_their_values(payload: bytes, is_in: bool) -> None:
    """However an id is spelled in bytes that nobody could read, it is found whole, and only whole."""
    assert mentions(payload, lambda value: value == PERSON) is is_in


def test_logs_are_masked_in_place(tmp_path: Path) -> None:
    """A value goes, wherever it lies and however large the log; its neighbours and the log's length stay."""
    path = tmp_path / "flywheel.log"
    with path.open("ab") as writing:
        writing.write(b"x" * ((1 << 20) - 5) + b" " + PERSON.encode() + b" " + OTHER.encode() + b"\n")
        writing.flush()
        size = path.stat().st_size
        mask([path], [PERSON, "Jürgen"])
        writing.write(b"next\n")
    content = path.read_bytes()
    assert content.replace(OTHER.encode(), b"").count(PERSON.encode()) == 0
    assert OTHER.encode() in content
    assert (len(content), content.endswith(b"\nnext\n")) == (size + 5, True)


def test_what_must_be_nowhere_is_worth_its_name(home: Home) -> None:
    """The needles are the id, its key, the session, its key and the text."""
    assert set(needles(home)) == {"id", "hash", "session", "session hash", "text"}
    assert needles(home)["text"] == TEXT.encode()
