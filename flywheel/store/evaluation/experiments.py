"""Comparisons of a challenger with the champion: which waits, which is live, and what each has counted by day.

One is live at a time and the others wait in order. All of it survives a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError
from flywheel.store.schema.times import moment

_COLUMNS = (
    "experiment_id, version, champion, stage, epoch_ms(created_at), state, run_id, epoch_ms(started_at), "
    "epoch_ms(ended_at), share, alpha, verdict, reasons, progress"
)
# state and verdict change only through `begin` and `end`
_SETTABLE = frozenset({"stage", "share", "alpha", "progress", "champion"})
_CHALLENGER = """
    INSERT INTO aliases SELECT 'challenger', version, ?, NULL FROM experiments WHERE experiment_id = ?
    ON CONFLICT DO UPDATE SET version = excluded.version, since = excluded.since, decision_id = NULL
"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One comparison. `state` is queued, live, decided, expired or stopped; `progress` is the evaluator's own."""

    experiment_id: str
    version: str
    champion: str
    stage: str
    created_at_ms: int
    state: str = "queued"
    run_id: str | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    share: float | None = None
    alpha: float | None = None
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)


class Experiments:
    """Reads and writes of `experiments`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, experiment: Experiment) -> bool:
        """Write it. False if its id is stored already; then nothing changes."""
        row: list[object] = [
            *(experiment.experiment_id, experiment.run_id, experiment.version, experiment.champion, experiment.stage),
            *(experiment.state, moment(experiment.created_at_ms), moment(experiment.started_at_ms)),
            *(moment(experiment.ended_at_ms), experiment.share, experiment.alpha, experiment.verdict),
            *(list(experiment.reasons), json.dumps(dict(experiment.progress))),
        ]
        with self._database.write() as con:
            added = con.execute(
                "INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
            ).fetchall()
        return bool(added[0][0])

    def get(self, experiment_id: str) -> Experiment | None:
        """The experiment, or None."""
        return next(iter(self._select("WHERE experiment_id = ?", [experiment_id])), None)

    def all(self) -> list[Experiment]:
        """Every experiment, the oldest first."""
        return self._select("", [])

    def live(self) -> Experiment | None:
        """The one that is live, if any."""
        return next(iter(self._select("WHERE state = 'live'", [])), None)

    def queued(self) -> list[Experiment]:
        """Those that wait, the oldest first."""
        return self._select("WHERE state = 'queued'", [])

    def begin(self, experiment_id: str, now_ms: int, *, challenger: bool = False, **values: Any) -> None:
        """Make a queued experiment live, with `values` as `update` takes them.

        With `challenger` its version gets the role of the challenger.

        Raises:
            StoreError: another one is live, or this one is not queued.
        """
        with self._database.write() as con:
            if con.execute("SELECT 1 FROM experiments WHERE state = 'live'").fetchall():
                raise StoreError("another experiment is live; one at a time, the others wait")
            begun = con.execute(
                "UPDATE experiments SET state = 'live', started_at = ? WHERE experiment_id = ? AND state = 'queued'",
                [moment(now_ms), experiment_id],
            ).fetchall()
            if not begun[0][0]:
                raise StoreError(f"experiment {experiment_id} does not wait to begin")
            if values:
                self.update(experiment_id, **values)
            if challenger:
                con.execute(_CHALLENGER, [moment(now_ms), experiment_id])
                con.execute(
                    "UPDATE models SET state = 'challenger' WHERE version IN "
                    "(SELECT version FROM experiments WHERE experiment_id = ?)",
                    [experiment_id],
                )

    def update(self, experiment_id: str, **values: Any) -> None:
        """Set stage, share, alpha, progress or the champion that it is compared with."""
        unknown = set(values) - _SETTABLE
        if unknown or not values:
            raise ValueError(f"not a column that may be set: {', '.join(sorted(unknown)) or 'none given'}")
        names = ", ".join(f"{name} = ?" for name in values)
        parameters = [json.dumps(value) if name == "progress" else value for name, value in values.items()]
        with self._database.write() as con:
            con.execute(
                f"UPDATE experiments SET {names} WHERE experiment_id = ?",  # noqa: S608 - checked above
                [*parameters, experiment_id],
            )

    def end(self, experiment_id: str, state: str, now_ms: int, *, verdict: str, reasons: Sequence[str]) -> bool:
        """Close it as decided, expired or stopped. False if it was closed before."""
        with self._database.write() as con:
            ended = con.execute(
                "UPDATE experiments SET state = ?, ended_at = ?, verdict = ?, reasons = ? "
                "WHERE experiment_id = ? AND state IN ('queued', 'live')",
                [state, moment(now_ms), verdict, list(reasons), experiment_id],
            ).fetchall()
        return bool(ended[0][0])

    def _select(self, where: str, parameters: list[str]) -> list[Experiment]:
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {_COLUMNS} FROM experiments {where} ORDER BY created_at, experiment_id",  # noqa: S608 - constants
                parameters,
            ).fetchall()
        return [_experiment(row) for row in rows]


def _experiment(row: tuple[Any, ...]) -> Experiment:
    values = dict(zip((item.name for item in fields(Experiment)), row, strict=True))
    values["reasons"] = tuple(values["reasons"] or ())
    values["progress"] = json.loads(values["progress"] or "{}")
    return Experiment(**values)
