"""What came in lately, for those who connect a product: by sender, kind, field and reason, each with a sample."""

from __future__ import annotations

from typing import Any

from flywheel.store.feedback.rows import SLOT_MS
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

_MOST = 500
_ARRIVALS = f"""
    SELECT outcome, topic, application, kind, action_name, field, reason, sum(records)::BIGINT AS records,
           max(last_at) AS last_at, arg_max(sample, last_at) AS sample
    FROM arrivals WHERE slot > ?
    GROUP BY ALL ORDER BY outcome DESC, records DESC, kind, field LIMIT {_MOST}
"""  # noqa: S608 - a constant
_UNKNOWN = """
    SELECT action_name, count(*) AS events FROM feedback WHERE kind = 'other' AND ingested_at > ?
    GROUP BY action_name ORDER BY events DESC, action_name LIMIT 50
"""


class Arrivals:
    """Asks the view of that name, and which action names mean nothing to us."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, since_ms: int) -> list[dict[str, Any]]:
        """What came in, in slots of ten minutes that end after `since_ms`: stored, left out in part, or set aside."""
        with self._database.read() as con:
            result = con.execute(_ARRIVALS, [moment(max(0, since_ms - SLOT_MS))])
            names = [column[0] for column in result.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        return [{**row, "last_at": row["last_at"].isoformat(timespec="milliseconds") + "Z"} for row in rows]

    def unknown(self, since_ms: int = 0) -> dict[str, int]:
        """Action names of the kind `other` with the number of their events, the most frequent first."""
        with self._database.read() as con:
            return dict(con.execute(_UNKNOWN, [moment(max(0, since_ms))]).fetchall())
