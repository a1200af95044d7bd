"""Erases one person: their pages, what they did, what they typed, and dead letters that carry their id.

It marks what must be written anew. `flywheel.daemon.keeping.erasing` does that: it concerns more than the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from flywheel.store.feedback.feedback import Feedback
from flywheel.store.feedback.mentions import mentions
from flywheel.store.schema.database import Database

PENDING = "erasure_pending"  # state: since when rows are deleted whose bytes are still in files

# A session is a person's own if nobody else is known in it. Some senders give everybody the same.
_THEIRS = """
    CREATE OR REPLACE TEMP TABLE erased_sessions AS
    WITH known AS (
        SELECT session_id, coalesce(user_key IN (FROM people), false) OR coalesce(client_key IN (FROM people), false)
               AS theirs
        FROM (SELECT session_id, user_key, client_key FROM queries
              UNION ALL SELECT session_id, user_key, client_key FROM feedback)
        WHERE session_id IS NOT NULL AND coalesce(user_key, client_key) IS NOT NULL
    )
    SELECT session_id, bool_and(theirs) AS own FROM known GROUP BY session_id HAVING bool_or(theirs);
"""
_BY_PERSON = (
    "(user_key IN (FROM people) OR client_key IN (FROM people) OR (user_key IS NULL AND client_key IS NULL "
    "AND session_id IN (SELECT session_id FROM erased_sessions WHERE own)))"
)
_PAGES = f"""
    CREATE OR REPLACE TEMP TABLE erased_pages AS SELECT query_id, query_key, text, ts::DATE AS day FROM queries
    WHERE {_BY_PERSON}
"""  # noqa: S608 - constant
_EVENTS = f"({_BY_PERSON} OR query_id IN (SELECT query_id FROM erased_pages))"  # noqa: S608 - constant
_SHARED = "session_id IN (SELECT session_id FROM erased_sessions)"
# texts that nobody else typed, by their normal form and to the letter
_TYPED = """
    CREATE OR REPLACE TEMP TABLE erased_keys AS SELECT DISTINCT query_key FROM erased_pages
    WHERE query_key NOT IN (SELECT query_key FROM queries);
    CREATE OR REPLACE TEMP TABLE erased_texts AS SELECT DISTINCT query_key, text FROM erased_pages
    WHERE text NOT IN (SELECT text FROM queries);
"""
_KNOWN = """
    SELECT user_key FROM queries WHERE user_key IS NOT NULL UNION SELECT client_key FROM queries
    WHERE client_key IS NOT NULL UNION SELECT user_key FROM feedback WHERE user_key IS NOT NULL
    UNION SELECT client_key FROM feedback WHERE client_key IS NOT NULL
"""
_WITH_TEXTS = ("pairs", "exploration")
_PEOPLE = ("experiment_people", "experiment_people_days", "experiment_before", "experiment_own")


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

    def erase_user(
        self, keys: Sequence[str], raw_ids: Sequence[str] = (), hash_id: Callable[[str], str] | None = None
    ) -> Erased:
        """Delete these keys' pages, all feedback on those pages or by those keys, what only they typed, dead letters.

        Sums over many people (curves, outcomes) stay. The files follow: `pending` says that they still have to.

        Args:
            keys: keyed hashes, as stored.
            raw_ids: the ids as they were sent. Dead letters that hold one as a value are deleted.
            hash_id: makes such keys; with it, letters that hold a session of these people are deleted too.
        """
        with self._database.write() as con:
            con.register("people", pa.table({"key": pa.array(sorted(set(keys)), pa.string())}))
            try:
                con.execute(_THEIRS)
                con.execute(_PAGES)
                gone_events = _column(con, f"SELECT event_id FROM feedback WHERE {_EVENTS}")  # noqa: S608 - constant
                gone_pages = _column(con, "SELECT query_id FROM erased_pages")
                sessions = _column(con, "SELECT session_id FROM erased_sessions")
                _mark_stale(con)  # before the deletion, because the rows give the days of their files
                erased = Erased(
                    feedback=_count(con, f"DELETE FROM feedback WHERE {_EVENTS}"),  # noqa: S608 - constant
                    queries=_count(con, f"DELETE FROM queries WHERE {_BY_PERSON}"),  # noqa: S608 - constant
                    dead_letters=_erase_letters(con, set(raw_ids), {*keys, *sessions}, hash_id),
                    excluded_users=_count(con, "DELETE FROM excluded_users WHERE user_key IN (FROM people)"),
                )
                _erase_traces(con)
                _erase_texts(con)
                if erased.total:
                    set_pending(con)
            finally:
                con.unregister("people")
        # after the commit: if that had failed, the ids would still be stored
        self._feedback.forget(query_ids=gone_pages, event_ids=gone_events)
        return erased

    def people(self) -> set[str]:
        """The keys of everybody who is in rows."""
        with self._database.read() as con:
            return set(_column(con, _KNOWN))

    def pending(self) -> bool:
        """Whether files still hold bytes of rows that are deleted."""
        with self._database.read() as con:
            return bool(con.execute("SELECT 1 FROM state WHERE name = ?", [PENDING]).fetchall())

    def settle(self) -> None:
        """Write the database's own file anew, then note that nothing is left in any file.

        Raises:
            StoreError: the file stays as it was, and so does the mark.
        """
        self._database.rewrite()
        with self._database.write() as con:
            con.execute("DELETE FROM state WHERE name = ?", [PENDING])


def _column(con: duckdb.DuckDBPyConnection, statement: str) -> list[str]:
    return [row[0] for row in con.execute(statement).fetchall()]


def _count(con: duckdb.DuckDBPyConnection, statement: str) -> int:
    return int(con.execute(statement).fetchall()[0][0])


def set_pending(con: duckdb.DuckDBPyConnection) -> None:
    """Within a transaction that deletes rows: note that their bytes are still in files."""
    con.execute(
        "INSERT INTO state VALUES (?, 'true', now()::TIMESTAMP) ON CONFLICT DO NOTHING",
        [PENDING],
    )


def _mark_stale(con: duckdb.DuckDBPyConnection) -> None:
    # an export that runs meanwhile sees by this count that its rows may be gone
    con.execute("INSERT INTO ingest_totals VALUES ('erasures', 1) ON CONFLICT DO UPDATE SET value = value + 1")
    for table, where in (("queries", _BY_PERSON), ("feedback", _EVENTS)):
        con.execute(
            "UPDATE exports SET stale = true WHERE source = ? AND day IN "  # noqa: S608 - constants
            f"(SELECT ts::DATE FROM {table} WHERE {where} OR {_SHARED})",
            [table],
        )


def _erase_traces(con: duckdb.DuckDBPyConnection) -> None:
    """What is kept by person, and sessions in rows of others."""
    for table in _PEOPLE:
        con.execute(
            f"DELETE FROM {table} WHERE person IN (FROM people) "  # noqa: S608 - constants
            "OR person IN (SELECT session_id FROM erased_sessions)"
        )
    for table in ("queries", "feedback"):
        con.execute(f"UPDATE {table} SET session_id = NULL WHERE {_SHARED}")  # noqa: S608 - constants


def _erase_texts(con: duckdb.DuckDBPyConnection) -> None:
    """What nobody else typed goes; what others typed in another spelling takes theirs."""
    con.execute(_TYPED)
    for table in _WITH_TEXTS:
        con.execute(f"DELETE FROM {table} WHERE query_key IN (FROM erased_keys)")  # noqa: S608 - constants
    con.execute("UPDATE shadow_rankings SET query = '', query_key = '' WHERE query_key IN (FROM erased_keys)")
    for table in (*_WITH_TEXTS, "shadow_rankings"):
        con.execute(
            f"UPDATE {table} SET query = (SELECT min(text) FROM queries q "  # noqa: S608 - constants
            f"WHERE q.query_key = {table}.query_key) WHERE (query_key, query) IN (FROM erased_texts)"
        )
    # annotations are made of questions that people typed; other golden sets were brought from outside
    annotated = "set_version IN (SELECT version FROM golden_sets WHERE name = 'annotations')"
    con.execute(
        f"DELETE FROM golden_judgements WHERE {annotated} AND query_id IN "  # noqa: S608 - constant
        f"(SELECT query_id FROM golden_queries WHERE {annotated} AND query_key IN (FROM erased_keys))"
    )
    con.execute(f"DELETE FROM golden_queries WHERE {annotated} AND query_key IN (FROM erased_keys)")  # noqa: S608
    for table in ("erased_sessions", "erased_pages", "erased_keys", "erased_texts"):
        con.execute(f"DROP TABLE {table}")


def _erase_letters(
    con: duckdb.DuckDBPyConnection, raw_ids: set[str], keys: set[str], hash_id: Callable[[str], str] | None
) -> int:
    wanted = {raw for raw in raw_ids if raw}
    if not wanted and hash_id is None:
        return 0

    def theirs(value: str) -> bool:
        return value in wanted or (hash_id is not None and hash_id(value) in keys)

    letters = con.execute("SELECT rowid, payload, reason::BLOB, message_key FROM dead_letters").fetchall()
    matching = [rowid for rowid, *parts in letters if any(mentions(part, theirs) for part in parts if part)]
    con.execute("DELETE FROM dead_letters WHERE rowid IN (SELECT unnest(?::BIGINT[]))", [matching])
    return len(matching)
