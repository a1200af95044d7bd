"""Deletes what is older than the settings allow: whole days of pages and events, and unreadable messages."""

from __future__ import annotations

import duckdb

from flywheel.store.feedback.erasure import set_pending
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

DAY_MS = 86_400_000
_DATED = ("queries", "feedback")


class Expiry:
    """Deletes by age, and marks the files that follow. Sums over many people stay."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def feedback(self, now_ms: int, days: float) -> int:
        """Delete pages and events of days that ended more than `days` before now. Returns how many rows."""
        until = moment(_day(now_ms - int(days * DAY_MS)))
        with self._database.write() as con:
            con.execute("INSERT INTO ingest_totals VALUES ('erasures', 1) ON CONFLICT DO UPDATE SET value = value + 1")
            gone = 0
            for table in _DATED:
                con.execute("UPDATE exports SET stale = true WHERE source = ? AND day < ?", [table, until])
                gone += _count(con, f"DELETE FROM {table} WHERE ts < ?", until)  # noqa: S608 - constants
            if gone:
                set_pending(con)
        return gone

    def letters(self, now_ms: int, days: float) -> int:
        """Delete unreadable messages that came more than `days` before now. Returns how many."""
        with self._database.write() as con:
            gone = _count(con, "DELETE FROM dead_letters WHERE received_at < ?", moment(now_ms - int(days * DAY_MS)))
            if gone:
                set_pending(con)
        return gone


def _count(con: duckdb.DuckDBPyConnection, statement: str, until: object) -> int:
    return int(con.execute(statement, [until]).fetchall()[0][0])


def _day(ms: int) -> int:
    return ms - ms % DAY_MS
