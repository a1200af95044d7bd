"""Writes the gates' decisions as rows, once and together with what they switch, and reads them back after a crash.

It judges nothing itself.
"""

from __future__ import annotations

import dataclasses
import logging

from flywheel.experiments.stages import CONFIRMATION
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.sentences import DONE, TAKEN_BACK, Acts, headline
from flywheel.settings.load import Promotion
from flywheel.store.evaluation import outcomes
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.evaluation.decisions import Decision as Row
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

log = logging.getLogger(__name__)

ACTOR = "flywheel"
# key in the evidence of a decision that passed a screen: the stage that the challenger waits for
NEXT = "next"
# a verdict of promote without a switch leaves a candidate, for `flywheel promote`
_STATES = {Verdict.PROMOTE: "candidate", Verdict.REJECT: "rejected", Verdict.INCONCLUSIVE: "candidate"}


def decision_id(run: TrainingRun) -> str:
    """The id of a run's offline decision: it is the same after any crash, so that the row is written once."""
    return f"{run.run_id}-offline"


def record(
    store: Store,
    run: TrainingRun,
    decision: GateDecision,
    switch_to: str | None,
    now_ms: int,
    *,
    settings: Promotion | None = None,
) -> GateDecision:
    """Write a run's decision with all that it changes, in one transaction; repeating it changes nothing.

    `switch_to` is the version that a verdict of promote makes the champion; None leaves the champion as it is.
    `settings` say whether live stages follow. If they do, what passes waits for them, and a screen spends nothing. If
    not, a promotion is watched by a confirmation. Returns the decision that holds: a gain over a version that is no
    longer the champion is inconclusive.
    """
    with store.database.write():
        recorded = recall(store, run)
        if recorded is not None:
            return recorded
        following = None if settings is None else next((name for name in settings.stages if name != "offline"), None)
        decision = _screened(decision, following) if following else _standing(store, run, decision)
        _write(store, run, decision, switch_to, now_ms, settings)
        if following is not None and decision.evidence.get(NEXT):
            _queue(store, run, following, now_ms)
    ids = {"run_id": run.run_id, "version": run.version, "decision_id": decision_id(run)}
    words = headline(decision, (str(run.version), str(run.parent)))
    log.info("%s: %s", run.run_id, words, extra={**ids, "verdict": decision.verdict.value})
    return decision


def _screened(decision: GateDecision, following: str) -> GateDecision:
    if decision.verdict is not Verdict.PROMOTE:
        return dataclasses.replace(decision, spent=0.0)
    reasons = (f"it passed the offline gate as a screen, and waits for {following}", *decision.reasons)
    evidence = {**decision.evidence, NEXT: following}
    return GateDecision(Verdict.INCONCLUSIVE, reasons, evidence, 0.0, final=False)


def _queue(store: Store, run: TrainingRun, stage: str, now_ms: int) -> None:
    waiting = Experiment(
        experiment_id=f"{run.run_id}-{stage}",
        version=str(run.version),
        champion=str(run.parent),
        stage=stage,
        created_at_ms=now_ms,
        run_id=run.run_id,
    )
    store.experiments.add(waiting)
    store.models.set_state(waiting.version, "queued")


def concluded(
    store: Store, experiment: Experiment, decision: GateDecision, settings: Promotion, now_ms: int
) -> str | None:
    """Within the transaction that ends a challenger's last stage: its decision, the switch, and the confirmation.

    Returns the new champion, or None.
    """
    promoted = decision.verdict is Verdict.PROMOTE
    if promoted and not settings.auto:
        waits = f"promotion.auto is false: it waits for `flywheel promote {experiment.version}`"
        decision = dataclasses.replace(decision, reasons=(*decision.reasons, waits))
    switching = promoted and settings.auto
    row = _row_of(experiment, decision, decision.verdict.value, now_ms)
    row = dataclasses.replace(row, alias=CHAMPION if switching else None)
    model = store.models.get(experiment.version)
    keeps_state = model is not None and model.state in {"champion", "retired"}
    states = {} if switching or keeps_state else {experiment.version: _STATES[decision.verdict]}
    challenging = store.models.aliases().get("challenger") == experiment.version
    if not store.decisions.decide(row, states=states, clear=("challenger",) if challenging else ()) or not switching:
        return None
    _begin_confirmation(store, experiment.run_id, experiment.version, experiment.champion, settings.holdback, now_ms)
    return experiment.version


def confirmed(store: Store, experiment: Experiment, decision: GateDecision, now_ms: int) -> str | None:
    """Within the transaction that ends a confirmation: REJECT rolls back. Returns the champion after a rollback."""
    if decision.verdict is not Verdict.REJECT:
        return None
    row = _row_of(experiment, dataclasses.replace(decision, spent=0.0), "rollback", now_ms, TAKEN_BACK)
    row = dataclasses.replace(row, version=experiment.champion, previous=experiment.version, alias=CHAMPION)
    store.decisions.decide(row, states={experiment.version: "rejected"})
    return experiment.champion


def _opened(decision: GateDecision, version: str, previous: str, acts: Acts = DONE) -> GateDecision:
    """The decision with its sentence first among the reasons, where people read of it."""
    words = headline(decision, (version, previous), acts)
    return dataclasses.replace(decision, headline=words, reasons=(words, *decision.reasons))


def _row_of(experiment: Experiment, decision: GateDecision, kind: str, now_ms: int, acts: Acts = DONE) -> Row:
    decision = _opened(decision, experiment.version, experiment.champion, acts)
    return Row(
        decision_id=experiment.experiment_id,
        kind=kind,
        version=experiment.version,
        previous=experiment.champion,
        actor=ACTOR,
        ts_ms=now_ms,
        run_id=experiment.run_id,
        experiment_id=experiment.experiment_id,
        reasons=decision.reasons,
        evidence=decision.evidence,
        spent=decision.spent,
    )


def _begin_confirmation(
    store: Store, run_id: str | None, version: str, previous: str, holdback: float, now_ms: int
) -> None:
    """Queue the confirmation of a promotion, in which a share of the people keeps the version before it."""
    if holdback > 0 and run_id is not None:
        name = f"{run_id}-{CONFIRMATION}"
        store.experiments.add(Experiment(name, version, previous, CONFIRMATION, now_ms, run_id=run_id))


def newcomer(store: Store, champion: str | None) -> str | None:
    """The present champion, if it is another version than `champion`; else None."""
    present = store.models.aliases().get(CHAMPION)
    return None if present == champion else str(present)


def _standing(store: Store, run: TrainingRun, decision: GateDecision) -> GateDecision:
    """The decision, or an inconclusive one where the champion changed while a promotion was being decided."""
    since = newcomer(store, run.parent)
    if decision.verdict is not Verdict.PROMOTE or since is None:
        return decision
    reason = f"judged against {run.parent}, but {since} became the champion meanwhile; the next cycle meets that one"
    evidence = {**decision.evidence, "overtaken": reason}
    reasons = (reason, *decision.reasons)
    return dataclasses.replace(decision, verdict=Verdict.INCONCLUSIVE, reasons=reasons, evidence=evidence)


def _write(
    store: Store,
    run: TrainingRun,
    decision: GateDecision,
    switch_to: str | None,
    now_ms: int,
    settings: Promotion | None,
) -> None:
    promoted = decision.verdict is Verdict.PROMOTE and switch_to is not None
    opened = _opened(decision, str(run.version), str(run.parent))
    row = Row(
        decision_id=decision_id(run),
        kind=decision.verdict.value,
        version=run.version if store.models.get(str(run.version)) else None,
        previous=run.parent,
        actor=ACTOR,
        ts_ms=now_ms,
        run_id=run.run_id,
        reasons=opened.reasons,
        evidence={**decision.evidence, "until_ms": run.until_ms},
        spent=decision.spent,
        alias=CHAMPION if promoted else None,
    )
    states = {} if promoted else {str(run.version): _STATES[decision.verdict]}
    if store.decisions.decide(row, states=states) and row.version is not None:
        _record_outcomes(store, run, decision, now_ms)
    if promoted and settings is not None:
        _begin_confirmation(store, run.run_id, str(run.version), str(run.parent), settings.holdback, now_ms)


def _record_outcomes(store: Store, run: TrainingRun, decision: GateDecision, now_ms: int) -> None:
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


def recall(store: Store, run: TrainingRun) -> GateDecision | None:
    """A run's decision, if it was made already."""
    row = store.decisions.get(decision_id(run))
    if row is None:
        return None
    return GateDecision(Verdict(row.kind), row.reasons, dict(row.evidence), row.spent, final=NEXT not in row.evidence)
