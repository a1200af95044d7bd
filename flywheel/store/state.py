"""Small facts that must survive a restart, such as "paused"."""

from __future__ import annotations

import json
from typing import Any

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

PAUSED = "paused"  # whether scheduled turns and experiments wait


class State:
    """Names with JSON values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` if it was never set."""
        with self._database.read() as con:
            rows = con.execute("SELECT value FROM state WHERE name = ?", [name]).fetchall()
        return json.loads(rows[0][0]) if rows else default

    def set(self, name: str, value: Any, now_ms: int) -> None:
        """Set or replace the value."""
        with self._database.write() as con:
            con.execute(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET value = excluded.value, updated_at = excluded.updated_at",
                [name, json.dumps(value), moment(now_ms)],
            )
