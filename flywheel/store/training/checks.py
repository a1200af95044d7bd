"""Keeps what each run made of its clicks: agreement, reading and promise, in the table `evidence_checks`."""

from __future__ import annotations

from typing import Any

from flywheel.store.schema.database import Database

_COLUMNS = (
    *("run_id", "reading", "sentence", "agreement_z", "agreement_p", "telling_clicks", "telling_queries"),
    *("opinion_z", "opinion_p", "clear", "asked", "promised", "promised_positives", "positives", "judged_pairs"),
    *("judged_queries", "pairs_needed", "verdict"),
)
_WRITE = f"""
INSERT OR REPLACE INTO evidence_checks ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${name}" for name in _COLUMNS)})
"""  # noqa: S608 - our own names
_LATEST = """
SELECT c.* FROM evidence_checks c JOIN training_runs r USING (run_id) ORDER BY r.started_at DESC, run_id DESC LIMIT 1
"""


class EvidenceChecks:
    """Reads and writes of `evidence_checks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, run_id: str, row: dict[str, Any]) -> None:
        """Write a run's row; a second call replaces the first. `row` has every column but `run_id`."""
        with self._database.write() as con:
            con.execute(_WRITE, {"run_id": run_id, **row})

    def latest(self) -> dict[str, Any] | None:
        """The row of the latest run that has one; None before the first."""
        with self._database.read() as con:
            rows: list[dict[str, Any]] = con.sql(_LATEST).to_arrow_table().to_pylist()
        return rows[0] if rows else None
