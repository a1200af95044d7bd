"""The table `exploration`: what is being explored, and what was explored before.

After a restart exploration goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

_UPSERT = """
INSERT INTO exploration BY NAME
SELECT *, $now::TIMESTAMP AS opened_at, $now::TIMESTAMP AS updated_at FROM planned
ON CONFLICT DO UPDATE SET
    query = excluded.query, state = excluded.state, prior = excluded.prior, posterior = excluded.posterior,
    impressions = excluded.impressions, clicks = excluded.clicks, rank = excluded.rank,
    displaces = excluded.displaces, probability = excluded.probability, cost = excluded.cost,
    model_version = excluded.model_version, updated_at = excluded.updated_at
"""


@dataclass(frozen=True, slots=True)
class Explored:
    """A row of the table, see its comments. `rank`, `displaces`, `probability` and `cost` are None without a slot."""

    query_key: str
    query: str
    doc_id: str
    source: str
    state: str
    prior: float
    posterior: float
    impressions: float
    clicks: float
    rank: int | None
    displaces: str | None
    probability: float | None
    cost: float | None
    model_version: str


_TYPES = {
    **dict.fromkeys(("query_key", "query", "doc_id", "source", "state", "displaces", "model_version"), pa.string()),
    **dict.fromkeys(("prior", "posterior", "impressions", "clicks", "probability", "cost"), pa.float64()),
    "rank": pa.int16(),
}
_NAMES = ", ".join(Explored.__slots__)


class ExplorationTable:
    """Reads and writes of the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replan(self, rows: Sequence[Explored], now_ms: int) -> None:
        """Write a plan: these rows replace the stored rows of the same pairs. No other row keeps a slot."""
        columns = {name: pa.array([getattr(row, name) for row in rows], _TYPES[name]) for name in Explored.__slots__}
        with self._database.write() as con:
            con.execute(
                "UPDATE exploration SET state = 'waiting', rank = NULL, displaces = NULL, probability = NULL, "
                "cost = NULL WHERE rank IS NOT NULL"
            )
            con.register("planned", pa.table(columns))
            con.execute(_UPSERT, {"now": moment(now_ms)})
            con.unregister("planned")

    def all(self) -> list[Explored]:
        """Every document that is or ever was explored, ordered by query and document."""
        return self._read("true")

    def slots(self) -> list[Explored]:
        """Documents that are shown now, ordered by query and rank."""
        return self._read("rank IS NOT NULL", "query_key, rank")

    def counts(self) -> dict[str, int]:
        """How many documents are in each state."""
        with self._database.read() as con:
            return dict(con.execute("SELECT state, count(*) FROM exploration GROUP BY state ORDER BY state").fetchall())

    def _read(self, condition: str, order: str = "query_key, doc_id") -> list[Explored]:
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {_NAMES} FROM exploration WHERE {condition} ORDER BY {order}"  # noqa: S608 - our own words
            ).fetchall()
        return [Explored(*row) for row in rows]
