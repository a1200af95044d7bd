"""Counts what there is to learn that no training has seen.

The count is cheap. The click model decides later what is learned.
"""

from __future__ import annotations

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

# pairs with a positive act since a moment that the latest run has not labelled; deleted documents cannot be learned
_NEW = """
    SELECT count(*) FROM (
        SELECT DISTINCT q.query_key, f.doc_id FROM feedback f JOIN teaching_pages q USING (query_id)
        WHERE f.kind IN ('click', 'thumbs_up', 'add_to_cart', 'purchase') AND f.doc_id IS NOT NULL
          AND teaches(q.sponsored, f.doc_id) AND f.ts > $since AND f.ts <= $until
          AND q.query_key NOT IN (SELECT query_key FROM golden_queries)
          AND f.doc_id NOT IN (SELECT doc_id FROM documents WHERE deleted)
    ) seen ANTI JOIN (
        SELECT query_key, doc_id FROM pairs WHERE run_id = (SELECT max_by(run_id, started_at) FROM training_runs)
    ) known USING (query_key, doc_id)
"""


class Novelty:
    """Reads `feedback` against `pairs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def new_pairs(self, since_ms: int, until_ms: int) -> int:
        """Distinct (query, document) pairs with a positive act in (since, until] that the last run did not label.

        Pairs of deleted documents do not count, because nothing can be learned from them.
        """
        with self._database.read() as con:
            rows = con.execute(_NEW, {"since": moment(since_ms), "until": moment(until_ms)}).fetchall()
        return int(rows[0][0])
