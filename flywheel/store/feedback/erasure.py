"""Erases one person: their pages, what they did, and dead letters that carry their id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from flywheel.store.feedback.feedback import Feedback
from flywheel.store.schema.database import Database

_WANTED = (
    "CREATE OR REPLACE TEMP TABLE erased_pages AS SELECT DISTINCT query_id, ts::DATE AS day FROM queries "
    "WHERE user_key IN (FROM people) OR client_key IN (FROM people)"
)
_EVENTS = "user_key IN (FROM people) OR client_key IN (FROM people) OR query_id IN (SELECT query_id FROM erased_pages)"


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows were deleted."""

    queries: int
    feedback: int
    dead_letters: int
    excluded_users: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.queries + self.feedback + self.dead_letters + self.excluded_users


class Erasure:
    """Erases across tables in one transaction, and marks the published files that must be rewritten."""

    def __init__(self, database: Database, feedback: Feedback) -> None:
        self._database = database
        self._feedback = feedback

    def erase_user(self, keys: Sequence[str], raw_ids: Sequence[str] = ()) -> Erased:
        """Delete these keys' pages, all feedback on those pages or by those keys, and dead letters.

        Sums over many people (pairs, curves, outcomes) stay. The analytics folder follows at its next publication.

        Args:
            keys: keyed hashes, as stored.
            raw_ids: the ids as they were sent. Dead letters that contain one are deleted.
        """
        with self._database.write() as con:
            con.register("people", pa.table({"key": pa.array(sorted(set(keys)), pa.string())}))
            try:
                con.execute(_WANTED)
                gone_events = [
                    row[0]
                    for row in con.execute(f"SELECT event_id FROM feedback WHERE {_EVENTS}").fetchall()  # noqa: S608
                ]
                gone_pages = [row[0] for row in con.execute("SELECT query_id FROM erased_pages").fetchall()]
                _mark_stale(con)  # before the deletion, because the rows give the days of their files
                erased = Erased(
                    feedback=_count(con, f"DELETE FROM feedback WHERE {_EVENTS}"),  # noqa: S608 - constant
                    queries=_count(
                        con, "DELETE FROM queries WHERE user_key IN (FROM people) OR client_key IN (FROM people)"
                    ),
                    dead_letters=_erase_letters(con, raw_ids),
                    excluded_users=_count(con, "DELETE FROM excluded_users WHERE user_key IN (FROM people)"),
                )
                for table in ("experiment_people", "experiment_people_days", "experiment_before"):
                    con.execute(f"DELETE FROM {table} WHERE person IN (FROM people)")  # noqa: S608 - constants
                con.execute("DROP TABLE erased_pages")
            finally:
                con.unregister("people")
        # after the commit: if that had failed, the ids would still be stored
        self._feedback.forget(query_ids=gone_pages, event_ids=gone_events)
        return erased


def _count(con: duckdb.DuckDBPyConnection, statement: str) -> int:
    return int(con.execute(statement).fetchall()[0][0])


def _mark_stale(con: duckdb.DuckDBPyConnection) -> None:
    # an export that runs meanwhile sees by this count that its rows may be gone
    con.execute("INSERT INTO ingest_totals VALUES ('erasures', 1) ON CONFLICT DO UPDATE SET value = value + 1")
    con.execute("UPDATE exports SET stale = true WHERE source = 'queries' AND day IN (SELECT day FROM erased_pages)")
    con.execute(
        f"UPDATE exports SET stale = true WHERE source = 'feedback' "  # noqa: S608 - constant
        f"AND day IN (SELECT ts::DATE FROM feedback WHERE {_EVENTS})"
    )


def _erase_letters(con: duckdb.DuckDBPyConnection, raw_ids: Sequence[str]) -> int:
    needles = {raw.encode() for raw in raw_ids if raw}
    # the bytes may hold the id as JSON escapes it
    needles |= {json.dumps(raw)[1:-1].encode() for raw in raw_ids if raw}
    if not needles:
        return 0
    letters = con.execute("SELECT rowid, payload FROM dead_letters").fetchall()
    matching = [rowid for rowid, payload in letters if any(needle in payload for needle in needles)]
    con.execute("DELETE FROM dead_letters WHERE rowid IN (SELECT unnest(?::BIGINT[]))", [matching])
    return len(matching)
