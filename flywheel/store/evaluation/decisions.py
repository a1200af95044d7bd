"""Decisions and what they switch, in one transaction, with an outbox of what must still be announced.

Rows are only added. One thing changes later: when the announcement reached the broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from flywheel.stats.budget import Spent
from flywheel.store.schema.database import Database
from flywheel.store.schema.errors import StoreError

CHAMPION = "champion"
_COLUMNS = (
    "decision_id, kind, version, previous, actor, epoch_ms(ts), run_id, experiment_id, reasons, evidence, spent, "
    "alias, epoch_ms(announced_at)"
)
_INSERT = """
    INSERT INTO decisions BY NAME SELECT
        $decision_id AS decision_id, epoch_ms($ts_ms::BIGINT) AS ts, $kind AS kind, $version AS version,
        $previous AS previous, $actor AS actor, $run_id AS run_id, $experiment_id AS experiment_id,
        $reasons::VARCHAR[] AS reasons, $evidence::JSON AS evidence, $spent::DOUBLE AS spent, $alias AS alias,
        nextval('decision_numbers') AS number
"""
# A promotion that was rolled back is known to be false. The time is that of the evidence, because the period of the
# judged pages pays, not the day of the judgement.
SPENT = """
    SELECT spent AS alpha, kind = 'promote' AS promoted,
        coalesce(nullif(try_cast(evidence ->> '$.until_ms' AS BIGINT), 0), epoch_ms(ts)) AS at_ms,
        coalesce(version IN (SELECT previous FROM decisions WHERE kind = 'rollback'), false) AS rolled_back
    FROM decisions WHERE spent > 0 ORDER BY number
"""
"""What earlier challengers spent of the error budget, in order of decision, see `spent`."""
_SWITCH = """
    INSERT INTO aliases VALUES (?, ?, epoch_ms(?::BIGINT), ?) ON CONFLICT DO UPDATE SET
        version = excluded.version, since = excluded.since, decision_id = excluded.decision_id
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. With `alias` it gives that role to `version` and is announced."""

    decision_id: str
    kind: str
    version: str | None
    actor: str
    ts_ms: int
    reasons: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    spent: float = 0.0
    previous: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    alias: str | None = None
    announced_at_ms: int | None = None


class Decisions:
    """The audit log, the switch of aliases, and the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(
        self,
        decision: Decision,
        *,
        states: Mapping[str, str] | None = None,
        clear: tuple[str, ...] = (),
        run_state: str | None = None,
    ) -> bool:
        """Write the decision with all that it changes, in one transaction. False if its id is stored already.

        In this order: 1. the decision, 2. its alias (the old champion's state becomes retired, the new one's
        champion), 3. `states` (version -> state), 4. aliases to `clear`, 5. the state of its run.

        Raises:
            StoreError: it gives an alias to a version that is not registered. Nothing was written.
        """
        with self._database.write() as con:
            stored = con.execute("SELECT 1 FROM decisions WHERE decision_id = ?", [decision.decision_id]).fetchall()
            if stored:
                return False
            con.execute(_INSERT, _parameters(decision))  # 1
            if decision.alias is not None:
                _switch(con, decision)  # 2
            for version, state in (states or {}).items():
                con.execute("UPDATE models SET state = ? WHERE version = ?", [state, version])  # 3
            for alias in clear:
                con.execute("DELETE FROM aliases WHERE alias = ?", [alias])  # 4
            if run_state is not None and decision.run_id is not None:
                con.execute(
                    "UPDATE training_runs SET state = ?, finished_at = epoch_ms(?::BIGINT) WHERE run_id = ?",
                    [run_state, decision.ts_ms, decision.run_id],
                )  # 5
        return True

    def get(self, decision_id: str) -> Decision | None:
        """The decision, or None."""
        return next(iter(self._select("WHERE decision_id = ?", [decision_id])), None)

    def all(self) -> list[Decision]:
        """Every decision, in order."""
        return self._select("", [])

    def latest(self, limit: int = 20) -> list[Decision]:
        """The last decisions, the newest first."""
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {_COLUMNS} FROM decisions ORDER BY number DESC LIMIT ?",  # noqa: S608 - our own constant
                [limit],
            ).fetchall()
        return [_decision(row) for row in rows]

    def spent(self) -> list[Spent]:
        """What earlier challengers spent of the error budget, in order of decision."""
        with self._database.read() as con:
            return spent(con.sql(SPENT).to_arrow_table().to_pylist())

    def unannounced(self) -> list[Decision]:
        """Switches that the broker has not acknowledged, in order."""
        return self._select("WHERE alias IS NOT NULL AND announced_at IS NULL", [])

    def mark_announced(self, decision_id: str, now_ms: int) -> bool:
        """Note that the broker has it. False if that was noted before."""
        with self._database.write() as con:
            marked = con.execute(
                "UPDATE decisions SET announced_at = epoch_ms(?::BIGINT) "
                "WHERE decision_id = ? AND announced_at IS NULL",
                [now_ms, decision_id],
            ).fetchall()
        return bool(marked[0][0])

    def previous_champion(self) -> str | None:
        """The version that a rollback goes to: the champion before the present one, without rolled-back ones."""
        return before_last([decision for decision in self.all() if decision.alias == CHAMPION])

    def _select(self, where: str, parameters: list[str]) -> list[Decision]:
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {_COLUMNS} FROM decisions {where} ORDER BY number",  # noqa: S608 - our own constants
                parameters,
            ).fetchall()
        return [_decision(row) for row in rows]


def spent(rows: Iterable[Mapping[str, Any]]) -> list[Spent]:
    """The answer to `SPENT` in the form that the budget takes."""
    return [Spent(**row) for row in rows]


def before_last(switches: list[Decision]) -> str | None:
    """Replay switches of one alias as a stack and return what lies under its top.

    A rollback goes down the stack to its version.
    """
    stack: list[str] = []
    for switch in switches:
        if switch.version is None:
            continue
        if switch.kind == "rollback" and switch.version in stack:
            while stack[-1] != switch.version:
                stack.pop()
        elif not stack or stack[-1] != switch.version:
            stack.append(switch.version)
    return stack[-2] if len(stack) > 1 else None


def _switch(con: duckdb.DuckDBPyConnection, decision: Decision) -> None:
    registered = con.execute("SELECT 1 FROM models WHERE version = ?", [decision.version]).fetchall()
    if not registered:
        raise StoreError(f"there is no model version {decision.version}; `flywheel models` lists them")
    if decision.alias == CHAMPION:
        con.execute("UPDATE models SET state = 'retired' WHERE state = 'champion'")
        # the new champion is no challenger any more
        con.execute("DELETE FROM aliases WHERE alias <> 'champion' AND version = ?", [decision.version])
    con.execute("UPDATE models SET state = ? WHERE version = ?", [decision.alias, decision.version])
    con.execute(_SWITCH, [decision.alias, decision.version, decision.ts_ms, decision.decision_id])


def _parameters(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.decision_id,
        "ts_ms": decision.ts_ms,
        "kind": decision.kind,
        "version": decision.version,
        "previous": decision.previous,
        "actor": decision.actor,
        "run_id": decision.run_id,
        "experiment_id": decision.experiment_id,
        "reasons": list(decision.reasons),
        "evidence": json.dumps(dict(decision.evidence)),
        "spent": decision.spent,
        "alias": decision.alias,
    }


def _decision(row: tuple[Any, ...]) -> Decision:
    decision_id, kind, version, previous, actor, ts_ms, run_id, experiment_id, reasons, evidence, *rest = row
    spent, alias, announced_at_ms = rest
    return Decision(
        decision_id=decision_id,
        kind=kind,
        version=version,
        actor=actor,
        ts_ms=ts_ms,
        reasons=tuple(reasons),
        evidence=json.loads(evidence),
        spent=spent,
        previous=previous,
        run_id=run_id,
        experiment_id=experiment_id,
        alias=alias,
        announced_at_ms=announced_at_ms,
    )
