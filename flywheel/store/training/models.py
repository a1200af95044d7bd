"""Model versions and their roles. Roles change only through a decision, see `flywheel.store.evaluation.decisions`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError

_COLUMNS = "version, tier, parent, path, index_id, epoch_ms(created_at), run_id, state, metrics"


@dataclass(frozen=True, slots=True)
class Model:
    """One model version. `state` is candidate, queued, challenger, champion, rejected, retired or failed."""

    version: str
    tier: str
    path: str
    index_id: str
    created_at_ms: int
    parent: str | None = None
    run_id: str | None = None
    state: str = "candidate"
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Models:
    """Reads and writes of `models`, reads of `aliases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: Model) -> bool:
        """Register a version. False if it is registered already; then nothing changes."""
        row = [model.version, model.tier, model.parent, model.path, model.index_id, model.created_at_ms]
        row += [model.run_id, model.state, json.dumps(dict(model.metrics))]
        with self._database.write() as con:
            added = con.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?, epoch_ms(?::BIGINT), ?, ?, ?) ON CONFLICT DO NOTHING", row
            ).fetchall()
        return bool(added[0][0])

    def get(self, version: str) -> Model | None:
        """The version, or None."""
        with self._database.read() as con:
            rows = con.execute(f"SELECT {_COLUMNS} FROM models WHERE version = ?", [version]).fetchall()  # noqa: S608
        return _model(rows[0]) if rows else None

    def all(self) -> list[Model]:
        """Every version, the oldest first."""
        with self._database.read() as con:
            rows = con.execute(f"SELECT {_COLUMNS} FROM models ORDER BY created_at, version").fetchall()  # noqa: S608
        return [_model(row) for row in rows]

    def set_state(self, version: str, state: str) -> None:
        """Raises `StoreError` if there is no such version."""
        self._update("UPDATE models SET state = ? WHERE version = ?", state, version)

    def aliases(self) -> dict[str, str]:
        """alias -> version."""
        with self._database.read() as con:
            return dict(con.execute("SELECT alias, version FROM aliases").fetchall())

    def champion(self) -> Model | None:
        """The version that has the role of the champion, or None before the first decision."""
        version = self.aliases().get("champion")
        return self.get(version) if version else None

    def _update(self, statement: str, value: str, version: str) -> None:
        with self._database.write() as con:
            if not con.execute(statement, [value, version]).fetchall()[0][0]:
                raise StoreError(f"there is no model version {version}; `flywheel models` lists them")


def _model(row: tuple[Any, ...]) -> Model:
    version, tier, parent, path, index_id, created_at_ms, run_id, state, metrics = row
    return Model(version, tier, path, index_id, created_at_ms, parent, run_id, state, json.loads(metrics or "{}"))
