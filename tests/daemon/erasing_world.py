"""A home with one person to erase among others, and a search through every byte of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.batch import Topics, build
from consumers.decode import Decoder
from flywheel.daemon.keeping.erasing import Eraser
from flywheel.settings.home import Home
from flywheel.settings.load import Config
from flywheel.store.feedback.sessions import hash_sessions
from flywheel.store.store import Store
from tests.store.make import NOW

PERSON, OTHER = "RAWUSER-1", "RAWUSER-10"
SESSION, TEXT, SHARED = "SESSION-of-the-person", "a text that one alone typed", "a text that two typed"
TOPICS = Topics("ubi.queries", "ubi.events", "flywheel.documents")
LETTERS = (
    b'{"user_id": "RAWUSER-1", broken',
    b'{"user_id": "RAW\\u0055SER-1", broken',
    b"plain RAWUSER-1 and no JSON",
    b'{"event": "{\\"user_id\\": \\"RAWUSER-1\\"}", broken',
    b'{"session_id": "SESSION-of-the-person", broken',
    b'{"user_id": "RAWUSER-10", broken',
)


class Message:
    """A broker's record."""

    def __init__(self, topic: str, offset: int, value: bytes) -> None:
        self.topic, self.partition, self.offset = topic, 0, offset
        self.key, self.value, self.timestamp = None, value, NOW


def messages(start: int = 0, people: int = 300) -> dict[tuple[str, int], list[Message]]:
    """Pages and clicks of many, two pages of the person, and letters."""
    queries: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for number in range(start, start + people):
        page = {"query_id": f"q{number}", "user_query": f"question {number}", "query_response_hit_ids": ["d1", "d2"]}
        queries.append(page | {"timestamp": NOW + number, "user_id": f"user-{number}", "session_id": f"s-{number}"})
        events.append(_click(f"q{number}", f"user-{number}", f"s-{number}", number))
    if not start:
        for number, text in enumerate((TEXT, SHARED)):
            theirs = {"query_id": f"theirs-{number}", "user_query": text, "timestamp": NOW, "user_id": PERSON}
            queries.append(theirs | {"session_id": SESSION, "query_response_hit_ids": ["d1", "d2"]})
            events.append(_click(f"theirs-{number}", PERSON, SESSION, 900 + number))
        queries.append({"query_id": "anonymous", "user_query": TEXT, "timestamp": NOW, "session_id": SESSION})
        queries.append({"query_id": "other", "user_query": SHARED, "timestamp": NOW, "user_id": OTHER})
    return {
        ("ubi.queries", 0): [Message("ubi.queries", start + n, json.dumps(q).encode()) for n, q in enumerate(queries)],
        ("ubi.events", 0): [
            *(Message("ubi.events", start + n, json.dumps(e).encode()) for n, e in enumerate(events)),
            *(Message("ubi.events", 5_000 + n, letter) for n, letter in enumerate(LETTERS) if not start),
        ],
    }


def _click(query_id: str, user: str, session: str, number: int) -> dict[str, Any]:
    target = {"object": {"object_id": "d1"}, "event_id": f"e{number}"}
    return {"action_name": "click", "query_id": query_id, "user_id": user, "session_id": session,
            "timestamp": NOW + number, "event_attributes": target}  # fmt: skip


def ingest(home: Home, store: Store, start: int = 0, people: int = 300) -> None:
    """What the daemon does with a poll."""
    decoder = Decoder(Config().signals, home.hasher(), 1 << 20)
    store.feedback.ingest(build(messages(start, people), decoder, TOPICS, NOW), "cluster", NOW)


def furnish(root: Path) -> Home:
    """The home, with rows, pairs, a snapshot, a log and a publication that know the person."""
    home = Home(root)
    home.init()
    with Store.open(home.database, memory_gb=0.5, threads=1) as store:
        hash_sessions(store.database, home.hasher())
        ingest(home, store)
        pairs = [("run-1", key, text, "d1", "positive", 1.0) for key, text in ((TEXT, TEXT), (SHARED, SHARED))]
        columns = "run_id, query_key, query, doc_id, label, weight"
        with store.database.write() as con:
            con.executemany(f"INSERT INTO pairs ({columns}) VALUES (?, ?, ?, ?, ?, ?)", pairs)
            out = "INSERT INTO excluded_users (run_id, user_key, reason) VALUES ('run-1', ?, 'x')"
            con.execute(out, [home.hasher()(PERSON)])
        store.analytics.publish(NOW)
    (home.snapshots / "run-1").mkdir()
    pq.write_table(pa.table({"query": [TEXT]}), home.snapshots / "run-1" / "pairs.parquet")
    (home.logs / "flywheel.log").write_text(f"refused {PERSON}; and {OTHER}; key {home.hasher()(PERSON)}\n")
    return home


def needles(home: Home) -> dict[str, bytes]:
    """What must be nowhere."""
    hash_id = home.hasher()
    values = {"id": PERSON, "hash": hash_id(PERSON), "session": SESSION, "session hash": hash_id(SESSION), "text": TEXT}
    return {name: value.encode() for name, value in values.items()}


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
    elif path.suffix == ".duckdb":
        with duckdb.connect(path, read_only=True) as con:
            tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            for (table,) in tables:
                for row in con.execute(f'SELECT * FROM "{table}"').fetchall():
                    yield repr(row).encode()


def found(home: Home) -> set[str]:
    """Which needle is in which file; nobody may have the database open."""
    hits = set()
    for path in sorted(home.root.rglob("*")):
        if path.is_file():
            for content in _contents(path):
                text = content.replace(OTHER.encode(), b"")
                hits |= {
                    f"{name} in {path.relative_to(home.root)}" for name, value in needles(home).items() if value in text
                }
    return hits


def eraser(home: Home, store: Store) -> Eraser:
    return Eraser(home, store, home.hasher(), lambda: NOW)


def main(root: str, mark: str) -> None:
    """Erase, and die at the mark."""
    from flywheel.settings import home as settings_home
    from flywheel.store.published.analytics import PublishedFolder
    from flywheel.store.schema import rewriting
    from flywheel.store.schema.database import Database

    def die(*_: object, **__: object) -> None:
        os._exit(9)

    home = Home(Path(root))
    store = Store.open(home.database, memory_gb=0.5, threads=1)
    places: dict[str, tuple[object, str]] = {
        "before the snapshots": (settings_home.Home, "prune_snapshots"),
        "before the publication": (PublishedFolder, "publish"),
        "while publishing": (PublishedFolder, "_build"),
        "before the copy": (rewriting, "rewrite"),
        "after the copy": (rewriting, "_flush"),
        "after the rename": (Database, "_connect"),
    }
    setattr(*places[mark], die)
    eraser(home, store).erase(PERSON)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
