"""Training runs: how far each came, and the lock that lets only one be active.

The lock of a process that is gone stays until its run is taken over or ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from flywheel.gates.triggers import Check
from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError
from flywheel.store.schema.times import moment

ENDED = ("done", "failed", "refused")
_LOCK = "run"
_FIELDS = frozenset({"state", "parent", "version", "snapshot", "seed", "pairs_new", "pairs_replay", "report", "error"})
_COLUMNS = (
    'run_id, "trigger", tier, state, epoch_ms(started_at), epoch_ms(finished_at), parent, version, snapshot, seed, '
    "pairs_new, pairs_replay, report, error, epoch_ms(until_ts)"
)


class RunActive(StoreError):  # noqa: N818 - says what is the case
    """Another training run has the lock."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run. `state` goes started, evidence, training, gate, then done, failed or refused."""

    run_id: str
    trigger: str
    tier: str
    state: str
    started_at_ms: int
    finished_at_ms: int | None = None
    parent: str | None = None
    version: str | None = None
    snapshot: str | None = None
    seed: int | None = None
    pairs_new: int | None = None
    pairs_replay: int | None = None
    report: Mapping[str, Any] | None = None
    error: str | None = None
    until_ms: int | None = None


class Runs:
    """Reads and writes of `training_runs` and its lock, and of `trigger_checks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, run: TrainingRun, owner: str) -> None:
        """Take the lock and write the run, in one transaction. `owner` names this start of the process.

        Raises:
            RunActive: another run of this owner has the lock, or a crash left one that nobody has ended yet.
        """
        with self._database.write() as con:
            locked = con.execute("SELECT run_id FROM locks WHERE name = ?", [_LOCK]).fetchall()
            if locked:
                raise RunActive(f"training run {locked[0][0]} is active; wait for it, or look at `flywheel status`")
            con.execute("INSERT INTO locks VALUES (?, ?, ?, ?)", [_LOCK, owner, run.run_id, moment(run.started_at_ms)])
            con.execute("INSERT INTO training_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(run))

    def take_over(self, run_id: str, owner: str) -> None:
        """Go on with an interrupted run."""
        with self._database.write() as con:
            con.execute("UPDATE locks SET owner = ? WHERE name = ? AND run_id = ?", [owner, _LOCK, run_id])

    def update(self, run_id: str, **fields: Any) -> None:
        """Set columns of a run: state, parent, version, snapshot, seed, pairs_new, pairs_replay, report, error."""
        unknown = set(fields) - _FIELDS
        if unknown or not fields:
            raise ValueError(f"not a column that may be set: {', '.join(sorted(unknown)) or 'none given'}")
        values = [json.dumps(value) if name == "report" else value for name, value in fields.items()]
        names = ", ".join(f"{name} = ?" for name in fields)
        with self._database.write() as con:
            con.execute(f"UPDATE training_runs SET {names} WHERE run_id = ?", [*values, run_id])  # noqa: S608 - checked

    def finish(self, run_id: str, state: str, now_ms: int, *, error: str | None = None) -> None:
        """End a run as done, failed or refused, and release the lock. A second call changes nothing."""
        if state not in ENDED:
            raise ValueError(f"a run ends as one of {', '.join(ENDED)}, not {state}")
        with self._database.write() as con:
            con.execute(
                "UPDATE training_runs SET state = ?, finished_at = ?, error = coalesce(?, error) "
                "WHERE run_id = ? AND state NOT IN ('done', 'failed', 'refused')",
                [state, moment(now_ms), error, run_id],
            )
            con.execute("DELETE FROM locks WHERE name = ? AND run_id = ?", [_LOCK, run_id])

    def get(self, run_id: str) -> TrainingRun | None:
        """The run, or None."""
        return next(iter(self._select("WHERE run_id = ?", [run_id])), None)

    def active(self) -> TrainingRun | None:
        """The run that holds the lock, of any owner."""
        return next(iter(self._select("SEMI JOIN locks USING (run_id)", [])), None)

    def all(self) -> list[TrainingRun]:
        """Every run, the oldest first."""
        return self._select("", [])

    def last(self, state: str | None = None) -> TrainingRun | None:
        """The run that started last; with `state`, the last one in that state."""
        runs = self._select("WHERE state = ?", [state]) if state else self._select("", [])
        return runs[-1] if runs else None

    def record_checks(self, ts_ms: int, checks: Sequence[Check]) -> None:
        """Record each retrain threshold with the value it was compared with, fired or not."""
        with self._database.write() as con:
            for check in checks:
                con.execute(
                    "INSERT INTO trigger_checks VALUES (?, ?, ?, ?, ?, ?)",
                    [moment(ts_ms), check.name, check.value, check.threshold, check.fired, check.note],
                )

    def checks(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The last checks, the newest first: ts_ms, name, value, threshold, fired, note."""
        names = ("ts_ms", "name", "value", "threshold", "fired", "note")
        with self._database.read() as con:
            rows = con.execute(
                "SELECT epoch_ms(ts), name, value, threshold, fired, note FROM trigger_checks "
                "ORDER BY ts DESC, name LIMIT ?",
                [limit],
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def last_fired(self) -> dict[str, int]:
        """By check, when it fired last, epoch milliseconds."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT name, epoch_ms(max(ts)) FROM trigger_checks WHERE fired GROUP BY name"
            ).fetchall()
        return dict(rows)

    def _select(self, where: str, parameters: list[Any]) -> list[TrainingRun]:
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {_COLUMNS} FROM training_runs {where} ORDER BY started_at, run_id",  # noqa: S608 - constants
                parameters,
            ).fetchall()
        return [_run(row) for row in rows]


def _values(run: TrainingRun) -> list[Any]:
    report = None if run.report is None else json.dumps(dict(run.report))
    return [
        *(run.run_id, run.trigger, run.tier, run.state, moment(run.started_at_ms), moment(run.finished_at_ms)),
        *(run.parent, run.version, run.snapshot, run.seed, run.pairs_new, run.pairs_replay, report, run.error),
        moment(run.until_ms),
    ]


def _run(row: tuple[Any, ...]) -> TrainingRun:
    values = dict(zip((field.name for field in fields(TrainingRun)), row, strict=True))
    return TrainingRun(**{**values, "report": None if values["report"] is None else json.loads(values["report"])})
