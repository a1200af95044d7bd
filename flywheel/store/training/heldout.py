"""Reads what the offline gate needs of held-out feedback: its queries, who asked them, and what training touched.

The caller says which queries are held out.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

_ASKERS = """
    SELECT query_key, arg_max(person, pages) FILTER (person IS NOT NULL)
    FROM (
        SELECT query_key, coalesce(user_key, client_key) AS person, count(*) AS pages
        FROM teaching_pages SEMI JOIN held_keys USING (query_key) WHERE ts <= ? GROUP BY ALL
    )
    GROUP BY query_key HAVING max(pages) FILTER (person IS NOT NULL) > 0.5 * sum(pages)
"""
_TRAINED = "SELECT DISTINCT doc_id FROM pairs ANTI JOIN held_keys USING (query_key) WHERE label = 'positive'"


class HeldOutReader:
    """Reads of `queries` and `pairs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query_keys(self, until_ms: int) -> list[str]:
        """Every query that was asked up to `until_ms` (event time), normalised."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT DISTINCT query_key FROM teaching_pages WHERE ts <= ?", [moment(until_ms)]
            ).fetchall()
        return [key for (key,) in rows]

    def askers(self, keys: Collection[str], until_ms: int) -> dict[str, str]:
        """Query -> hashed key of the person with over half of its pages. Queries without such a person are left out."""
        with self._database.read() as con:
            con.register("held_keys", _column(keys))
            return dict(con.execute(_ASKERS, [moment(until_ms)]).fetchall())

    def trained_documents(self, keys: Collection[str]) -> frozenset[str]:
        """Documents that any run's positives touch for queries other than these."""
        with self._database.read() as con:
            con.register("held_keys", _column(keys))
            return frozenset(doc_id for (doc_id,) in con.execute(_TRAINED).fetchall())


def _column(keys: Collection[str]) -> pa.Table:
    return pa.table({"query_key": pa.array(sorted(keys), pa.string())})
