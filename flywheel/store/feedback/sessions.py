"""Hashes the sessions of a database from before they were hashed at the door."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from flywheel.store.feedback.erasure import set_pending
from flywheel.store.schema.database import Database

_DONE = "sessions_hashed"
_PEOPLE = ("experiment_people", "experiment_people_days", "experiment_before", "experiment_own")


def hash_sessions(database: Database, hash_id: Callable[[str], str]) -> int:
    """Replace each stored session by its key, once in a database's life, and mark the files that held them.

    Where a person was known by the session alone, experiments follow: the same person stays the same.

    Returns:
        How many sessions were hashed.
    """
    with database.write() as con:
        if con.execute("SELECT 1 FROM state WHERE name = ?", [_DONE]).fetchall():
            return 0
        sessions = [
            row[0]
            for row in con.execute(
                "SELECT session_id FROM queries WHERE session_id IS NOT NULL "
                "UNION SELECT session_id FROM feedback WHERE session_id IS NOT NULL"
            ).fetchall()
        ]
        if sessions:
            con.register("hashed", pa.table({"raw": sessions, "key": [hash_id(session) for session in sessions]}))
            try:
                for table in ("queries", "feedback"):
                    con.execute(
                        f"UPDATE {table} SET session_id = hashed.key FROM hashed "  # noqa: S608 - constants
                        f"WHERE {table}.session_id = hashed.raw"
                    )
                for table in _PEOPLE:
                    con.execute(
                        f"UPDATE {table} SET person = hashed.key FROM hashed "  # noqa: S608 - constants
                        f"WHERE {table}.person = hashed.raw"
                    )
            finally:
                con.unregister("hashed")
            con.execute("UPDATE exports SET stale = true WHERE source IN ('queries', 'feedback')")
            set_pending(con)
        con.execute("INSERT INTO state VALUES (?, 'true', now()::TIMESTAMP)", [_DONE])
    return len(sessions)
