"""One turn of the wheel: evidence, pairs, training, gate, decision. It resumes where a killed process stopped.

It builds none of its parts; `flywheel.app` does.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flywheel.experiments import ledger as verdicts
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.judged import DEPTH, JudgedSet, judge, policy_of
from flywheel.gates.triggers import repeated
from flywheel.learning import heldout
from flywheel.learning.field import Fields
from flywheel.learning.folds import AUTO
from flywheel.learning.measure import live_outlook
from flywheel.learning.snapshot import Learning, NothingToLearn, scores
from flywheel.learning.training import Training
from flywheel.learning.tried import remember, tried
from flywheel.operations import Json
from flywheel.retrieval.indexer import Indexer, Stopped
from flywheel.retrieval.registry import BASE, Registry
from flywheel.retrieval.windows import beyond_window
from flywheel.settings.home import Home
from flywheel.settings.load import Config
from flywheel.settings.memory import MemoryBudget
from flywheel.stats.budget import ErrorBudget
from flywheel.store.state import PAUSED
from flywheel.store.store import Store
from flywheel.store.training.runs import ENDED, TrainingRun

log = logging.getLogger(__name__)

_SNAPSHOTS_KEPT = 3


class Indexers(Protocol):
    """One indexer for each vector space; `flywheel.app` holds the real one."""

    def of(self, version: str) -> Indexer: ...


@dataclass(frozen=True)
class Parts:
    """All that a cycle works with."""

    home: Home
    config: Config
    store: Store
    registry: Registry
    indexers: Indexers
    learning: Learning
    owner: str
    now_ms: Callable[[], int]
    stop: threading.Event


class Cycle:
    """Runs one turn at a time; the lock that enforces it is in the database.

    Steps, each skipped where an earlier process finished it: 1. the run's row and lock, 2. evidence and pairs,
    3. snapshot, 4. training, 5. the version's row, 6. the gate, 7. the decision with its switch, in one transaction,
    8. the running server picks it up, 9. the lock is released.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._training = Training(parts.config.limits, parts.stop)
        self._fields = Fields(parts.learning, self._training)
        self.listeners: list[Callable[[str], None]] = []
        """Told the new champion, after the decision stands in the database."""
        self.watchers: list[Callable[[TrainingRun], None]] = []
        """Shown every run that has ended, however it did."""

    def resume(self) -> None:
        """Finish the run that an earlier process left, or that this one could not record as ended."""
        run = self._store.runs.active()
        if run is not None:
            log.warning("going on with run %s, left in state %s", run.run_id, run.state)
            self._store.runs.take_over(run.run_id, self._parts.owner)
            self._drive(run)

    def turn(self, trigger: str, tier: str | None) -> Json:
        """One whole cycle, whether or not a threshold asks for it.

        Raises:
            TrainingFailed: the trainer gave up; its reason is in the run's row too.
            Stopped: the process is ending.
        """
        MemoryBudget(self._parts.config.limits.memory_gb).check("learning")
        try:
            self.resume()
        except Stopped:
            raise
        except Exception:  # an old run that cannot be finished must not stop the new one
            log.exception("a run that was left could not be finished")
        warning = self._repeats(tier) if trigger == "manual" else None
        answer = self._drive(self._begin(trigger, tier)) | ({"warning": warning} if warning else {})
        kept = [run.run_id for run in self._store.runs.all()[-_SNAPSHOTS_KEPT:]]
        self._parts.home.prune_snapshots(kept)
        return answer

    def _repeats(self, tier: str | None) -> str | None:
        """Why this turn cannot end otherwise than one before it; somebody who asks for it gets it, and is told."""
        config = self._parts.config
        before = tried(self._store, config, tier or config.trainer.tier, self._store.feedback.latest_ms())
        why = repeated(before, config.retrain.min_new_pairs)
        warning = None if why is None else f"it was asked for, else it would be {why}"
        if warning:
            log.warning("%s", warning)
        return warning

    def _begin(self, trigger: str, tier: str | None) -> TrainingRun:
        parts, feedback = self._parts, self._store.feedback
        champion = self._store.models.aliases()["champion"]
        number = len(self._store.runs.all()) + 1
        run = TrainingRun(
            run_id=f"run-{number:04d}",
            trigger=trigger,
            tier=tier or parts.config.trainer.tier,
            state="started",
            started_at_ms=parts.now_ms(),
            parent=champion,
            version=parts.registry.next_version(),
            seed=parts.config.trainer.seed + number,
            until_ms=feedback.latest_ms() if trigger == "manual" else feedback.watermark_ms(),
        )
        remember(self._store, parts.config, run, run.started_at_ms)  # before its row: no run is without its way
        self._store.runs.start(run, parts.owner)  # 1
        return run

    def _drive(self, run: TrainingRun) -> Json:
        try:
            return self._to_its_end(run)
        finally:
            ended = self._store.runs.get(run.run_id)
            if ended is not None and ended.state in ENDED:
                for show in self.watchers:
                    show(ended)

    def _to_its_end(self, run: TrainingRun) -> Json:
        runs, now_ms = self._store.runs, self._parts.now_ms
        try:
            return self._steps(run)
        except NothingToLearn as reason:
            decision = GateDecision(Verdict.INCONCLUSIVE, reason.reasons, reason.evidence, 0.0)
            if "field" in reason.evidence:
                runs.update(run.run_id, report=reason.evidence)
            verdicts.record(self._store, run, decision, None, now_ms())
            self._fields.clear(run)
            runs.finish(run.run_id, "refused", now_ms(), error="; ".join(reason.reasons))
            return self._answer(run, decision)
        except Stopped:
            raise
        except Exception as error:
            if self._parts.stop.is_set():  # the stop may have caused it: the next process tries again
                raise
            runs.finish(run.run_id, "failed", now_ms(), error=f"{type(error).__name__}: {error}")
            raise

    def _steps(self, run: TrainingRun) -> Json:
        runs, now_ms = self._store.runs, self._parts.now_ms
        decision = verdicts.recall(self._store, run)
        if decision is None:
            if run.state == "started":
                gathered = self._parts.learning.gather(run)  # 2
                runs.update(run.run_id, state="evidence", pairs_new=gathered.new, pairs_replay=gathered.replay)
            snapshot = self._parts.learning.snapshot(run)  # 3
            runs.update(run.run_id, state="training", snapshot=snapshot.name)
            report = self._train(run, snapshot)  # 4
            self._parts.registry.adopt(str(run.version))  # 5
            runs.update(run.run_id, state="gate", report=self._with_windows(run, report))
            decision = self._gate(run)  # 6
            decision = self._decide(run, decision)  # 7
        if self._store.models.aliases()["champion"] == run.version:
            for tell in self.listeners:
                tell(str(run.version))  # 8
        self._fields.clear(run)
        learned = self._store.models.get(str(run.version)) is not None
        runs.finish(run.run_id, "done" if learned else "refused", now_ms())  # 9
        return self._answer(run, decision)

    def _decide(self, run: TrainingRun, found: GateDecision) -> GateDecision:
        """Write the decision and switch to what it promotes, unless promotions wait for a person."""
        settings = self._parts.config.promotion
        if self._screens:
            return verdicts.record(self._store, run, found, None, self._parts.now_ms(), settings=settings)
        obstacle = None if settings.auto else "promotion.auto is false"
        if run.trigger != "manual" and self._store.state.get(PAUSED, False):
            obstacle = "the wheel is paused"
        if obstacle and found.verdict is Verdict.PROMOTE:
            waits = f"{obstacle}: it waits for `flywheel promote {run.version}`"
            found = dataclasses.replace(found, reasons=(*found.reasons, waits))
        switch_to = None if obstacle else run.version
        return verdicts.record(self._store, run, found, switch_to, self._parts.now_ms(), settings=settings)

    @property
    def _screens(self) -> bool:
        """Whether live stages decide; the offline gate, if there is one, then only keeps out what is worse."""
        return self._parts.config.promotion.stages != ("offline",)

    def _train(self, run: TrainingRun, snapshot: Path) -> Json:
        if run.tier == AUTO:
            return self._fields.train(run, snapshot)
        report = self._training.run(snapshot, self._parts.registry.path(str(run.version)))
        if report.get("nothing"):
            raise NothingToLearn((f"nothing better was found: {report['nothing']}",), {"tried": report.get("tried")})
        return report

    def _with_windows(self, run: TrainingRun, report: Json) -> Json:
        """The trainer's report, with what of the documents the model does not read."""
        beyond = beyond_window(self._parts.registry.encoder(str(run.version)), self._store.documents)
        return {**report, "beyond_window": beyond.as_dict()}

    def _gate(self, run: TrainingRun) -> GateDecision:
        policy, settings = policy_of(self._parts.config), self._parts.config.promotion
        if "offline" not in settings.stages:
            return GateDecision(Verdict.PROMOTE, ("promotion.stages asks for no offline gate",), {}, 0.0)
        alpha = settings.screen_alpha
        if not self._screens:
            alpha = ErrorBudget(alpha=settings.alpha).next_alpha(self._store.decisions.spent(), run.until_ms or 0)
        sets = self.judged_sets()
        anchored = any(judged.kind == "anchor" for judged in sets)
        decision = judge(
            self.ranker(str(run.parent)),
            self.ranker(str(run.version)),
            sets,
            trained=self._store.pairs.trained_documents(),
            policy=policy,
            alpha=alpha,
            base=self.ranker(BASE) if anchored else None,
            feedback=heldout.held_out_scores(
                self._store, self._parts.config, run, self._scorer(str(run.parent)), self._scorer(str(run.version))
            ),
        )
        reasons = (*decision.reasons, *self._store.golden.problems())
        if decision.verdict is Verdict.INCONCLUSIVE and not self._screens:
            reasons = (*reasons, live_outlook(self._store, self._parts.config, alpha))
        return dataclasses.replace(decision, reasons=reasons)

    def judged_sets(self) -> list[JudgedSet]:
        """The current golden and anchor sets, without the queries that the collection cannot decide."""
        golden = self._store.golden
        coverage = golden.coverage()
        return [
            JudgedSet(judged.name, judged.version, judged.kind, judged.queries, judged.judgements)
            for judged in (found.only(coverage[found.version].decidable) for found in golden.current())
        ]

    def ranker(self, version: str) -> Callable[[Any], list[list[str]]]:
        encoder, indexer = self._parts.registry.encoder(version), self._parts.indexers.of(version)
        indexer.catch_up()
        return lambda texts: indexer.index.search(encoder.encode_queries(list(texts)), DEPTH)[0]

    def _scorer(self, version: str) -> heldout.Scorer:
        encoder, indexer = self._parts.registry.encoder(version), self._parts.indexers.of(version)
        return lambda evidence: scores(encoder.encode_queries(list(evidence.queries)), indexer.index, evidence)

    def _answer(self, run: TrainingRun, decision: GateDecision) -> Json:
        ended = self._store.runs.get(run.run_id) or run
        training = {
            "run_id": ended.run_id,
            "state": ended.state,
            "tier": ended.tier,
            "parent": ended.parent,
            "pairs_new": ended.pairs_new,
            "pairs_replay": ended.pairs_replay,
            "started_at_ms": ended.started_at_ms,
            "finished_at_ms": ended.finished_at_ms,
            "report": ended.report,
            "error": ended.error,
        }
        candidate = ended.version if self._store.models.get(str(ended.version)) else None
        return {
            "trigger": ended.trigger,
            "training_run": training,
            "candidate": candidate,
            "decision": decision.as_dict(),
        }
