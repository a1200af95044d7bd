"""Decisions of the gates as rows that last: written once with what they switch, read back after a crash.

Also the record that the error budget is computed from. It judges nothing itself.
"""

from __future__ import annotations

import dataclasses

from flywheel.promotion import Decision, Spent, Verdict
from flywheel.store import outcomes
from flywheel.store.decisions import CHAMPION
from flywheel.store.decisions import Decision as Row
from flywheel.store.experiments import Experiment
from flywheel.store.runs import Run
from flywheel.store.store import Store

ACTOR = "flywheel"
# a promotion that nobody may make by itself stays a candidate, for `flywheel promote`
_STATES = {Verdict.PROMOTE: "candidate", Verdict.REJECT: "rejected", Verdict.INCONCLUSIVE: "candidate"}


def decision_id(run: Run) -> str:
    """The id of a run's offline decision: the same after any crash, so that it is written once."""
    return f"{run.run_id}-offline"


def record(store: Store, run: Run, decision: Decision, switch_to: str | None, now_ms: int) -> Decision:
    """Write a run's decision with all that it changes, in one transaction; repeating it changes nothing.

    `switch_to` is the version that a verdict of promote makes the champion; None leaves the champion as it is.
    Returns the decision that stands: a gain over a champion that is none any more is inconclusive.
    """
    with store.database.write():
        known = recall(store, run)
        if known is not None:
            return known
        decision = _overtaken(store, run, decision)
        _write(store, run, decision, switch_to, now_ms)
    return decision


def _overtaken(store: Store, run: Run, decision: Decision) -> Decision:
    """The decision, or what is left of it where somebody changed the champion while it was being made."""
    champion = store.models.aliases().get(CHAMPION)
    if decision.verdict is not Verdict.PROMOTE or champion == run.parent:
        return decision
    reason = f"judged against {run.parent}, but {champion} became the champion meanwhile; the next cycle meets that one"
    return dataclasses.replace(decision, verdict=Verdict.INCONCLUSIVE, reasons=(reason, *decision.reasons))


def _write(store: Store, run: Run, decision: Decision, switch_to: str | None, now_ms: int) -> None:
    promoted = decision.verdict is Verdict.PROMOTE and switch_to is not None
    row = Row(
        decision_id=decision_id(run),
        kind=decision.verdict.value,
        version=run.version if store.models.get(str(run.version)) else None,
        previous=run.parent,
        actor=ACTOR,
        ts_ms=now_ms,
        run_id=run.run_id,
        reasons=decision.reasons,
        evidence={**decision.evidence, "until_ms": run.until_ms},
        spent=decision.spent,
        alias=CHAMPION if promoted else None,
    )
    states = {} if promoted else {str(run.version): _STATES[decision.verdict]}
    if store.decisions.decide(row, states=states) and row.version is not None:
        _record_outcomes(store, run, decision, now_ms)


def _record_outcomes(store: Store, run: Run, decision: Decision, now_ms: int) -> None:
    """The sums behind the verdict, for `ab_outcomes`."""
    experiment = Experiment(
        experiment_id=decision_id(run),
        version=str(run.version),
        champion=str(run.parent),
        stage="offline",
        created_at_ms=now_ms,
        state="decided",
        run_id=run.run_id,
        started_at_ms=now_ms,
        ended_at_ms=now_ms,
        alpha=decision.evidence.get("alpha"),
        verdict=decision.verdict.value,
        reasons=decision.reasons,
    )
    store.experiments.add(experiment)
    if "parts" in decision.evidence:
        store.outcomes.record(outcomes.offline(decision_id(run), decision.evidence, decision.reasons, now_ms))


def recall(store: Store, run: Run) -> Decision | None:
    """A run's decision, where it was made already."""
    row = store.decisions.get(decision_id(run))
    if row is None:
        return None
    return Decision(Verdict(row.kind), row.reasons, dict(row.evidence), row.spent)


def spent(store: Store) -> list[Spent]:
    """What earlier challengers spent, in order of decision, by the event time of their evidence."""
    decisions = store.decisions.all()
    undone = {row.previous for row in decisions if row.kind == "rollback"}
    return [
        Spent(
            alpha=row.spent,
            promoted=row.kind == Verdict.PROMOTE.value,
            at_ms=int(row.evidence.get("until_ms") or row.ts_ms),
            rolled_back=row.version in undone,
        )
        for row in decisions
        if row.spent > 0
    ]
