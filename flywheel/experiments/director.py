"""Moves challengers through the live stages: queued, tried beside the champion, then promoted, rejected or given up.

It judges nothing: `flywheel.experiments.stages` gathers the evidence, and `flywheel.gates` decides. One challenger is
live at a time. Every move is one transaction, so that the next process goes on wherever one died.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from flywheel.experiments import ledger as verdicts
from flywheel.experiments.stages import CONFIRMATION, DAY_MS, FROM, Stage
from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.ramp import next_share
from flywheel.gates.sentences import DONE, TAKEN_BACK, headline
from flywheel.settings.load import ConfigError, Promotion
from flywheel.stats.budget import ErrorBudget
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.state import PAUSED
from flywheel.store.store import Store

log = logging.getLogger(__name__)

# by the clock, a live experiment lasts at most this many times its event days: without pages event time stands still
_DEAD_AIR = 2.0


class Director:
    """The state machine of every challenger.

    Args:
        stages: by name, all of `settings.stages` except `offline`, and `confirmation`.
        ready: loads a version and fills its index before it is served; raises OSError or ValueError.
        judged_by: at an event time, what a stage's progress keeps of the metric that judges it.

    Raises:
        ConfigError: a configured stage is missing in `stages`.
    """

    def __init__(
        self,
        store: Store,
        settings: Promotion,
        stages: Mapping[str, Stage],
        policy: PromotionPolicy,
        *,
        ready: Callable[[str], None],
        now_ms: Callable[[], int],
        judged_by: Callable[[int], dict[str, Any]] = lambda from_ms: {},  # noqa: ARG005 - as the stage has it
    ) -> None:
        missing = [name for name in settings.stages if name != "offline" and name not in stages]
        if missing:
            raise ConfigError(f"promotion.stages names {', '.join(missing)}; there are {', '.join(stages)}")
        self._store, self._settings, self._stages, self._policy = store, settings, stages, policy
        self._ready, self._now_ms, self._judged_by = ready, now_ms, judged_by
        self.listeners: list[Callable[[str], None]] = []
        """Told each new champion, after its decision stands in the database."""
        self._looked: tuple[str, int, int] | None = None

    def step(self) -> bool:
        """One look: begin a waiting challenger, or judge the live one; returns whether anything moved.

        Steps, each one transaction or none: 1. give up what waited too long, 2. begin the next, a confirmation first,
        3. end the live one where the champion has changed meanwhile, 4. fold in closed pages, 5. judge, 6. conclude:
        the decision with its switch and what follows it, 7. or go on, and grow the split.
        """
        if self._store.state.get(PAUSED, False):
            return False
        live = self._store.experiments.live()
        if live is None:
            return self._give_up() | self._begin_next()  # 1, 2
        overtaken = self._overtaken(live)
        if overtaken:
            return self._stop(live, overtaken)  # 3
        return self._look(live)

    def _begin_next(self) -> bool:
        waiting = sorted(self._store.experiments.queued(), key=lambda row: row.stage != CONFIRMATION)
        for row in waiting:
            if row.stage != CONFIRMATION:
                row = dataclasses.replace(row, champion=self._champion())  # noqa: PLW2901 - it meets the present one
            reason = self._overtaken(row) or self._unready(row)
            if reason is None:
                self._begin(row)
            else:
                self._stop(row, reason)
            return True
        return False

    def _unready(self, row: Experiment) -> str | None:
        try:
            for version in (row.version, row.champion):
                self._ready(version)
        except (OSError, ValueError) as error:
            return f"it cannot be loaded: {error}"
        return None

    def _begin(self, row: Experiment) -> None:
        values = self._entry(row.stage)
        self._stages[row.stage].begin(dataclasses.replace(row, **values))
        trying = row.stage != CONFIRMATION
        if trying:
            values["champion"] = row.champion
        self._store.experiments.begin(row.experiment_id, self._now_ms(), challenger=trying, **values)
        log.info("%s of %s beside %s has begun", row.stage, row.version, row.champion, extra=_ids(row))

    def _entry(self, stage: str) -> dict[str, Any]:
        """The values that a stage begins with. Only the deciding stage takes its level from the error budget."""
        from_ms = self._store.feedback.watermark_ms()
        shares = {"interleaving": self._settings.interleaving_share, "split": self._settings.ramp[0]}
        shares[CONFIRMATION] = self._settings.holdback
        alpha = self._settings.screen_alpha
        if stage == CONFIRMATION:
            alpha = self._settings.rollback_alpha
        elif self._follower(stage) is None:
            alpha = ErrorBudget(alpha=self._settings.alpha).next_alpha(self._store.decisions.spent(), from_ms)
        progress = {FROM: from_ms, "ramp_since_ms": from_ms, **self._judged_by(from_ms)}
        return {"alpha": alpha, "share": shares.get(stage), "progress": progress}

    def _look(self, row: Experiment) -> bool:
        feedback = self._store.feedback
        until_ms = feedback.watermark_ms()
        key = (row.experiment_id, until_ms, feedback.last_batch())
        dead = self._now_ms() - (row.started_at_ms or 0) > _DEAD_AIR * DAY_MS * self._policy.max_days
        if key == self._looked and not dead:
            return False
        stage = self._stages[row.stage]
        stage.step(row, until_ms)  # 4
        alpha = row.alpha or self._settings.screen_alpha
        decision = stage.verdict(row, until_ms, alpha)  # 5
        if dead and not decision.final:
            reason = f"{_DEAD_AIR * self._policy.max_days:.0f} days by the clock, and its pages have not brought enough"
            evidence = {**decision.evidence, "expired": True}
            decision = GateDecision(Verdict.INCONCLUSIVE, (reason, *decision.reasons), evidence, alpha)
        # a gain at a small share does not end a split: the share grows first
        growing = row.stage == "split" and (row.share or 0.0) < self._settings.ramp[-1]
        if decision.final and not (growing and decision.verdict is Verdict.PROMOTE):
            self._conclude(row, decision)  # 6
            return True
        moved = self._go_on(row, decision, until_ms)  # 7
        self._looked = key
        return moved

    def _go_on(self, row: Experiment, decision: GateDecision, until_ms: int) -> bool:
        progress = {**row.progress, "looks": decision.evidence.get("looks", [])}
        progress["look"] = {
            "until_ms": until_ms,
            "reasons": list(decision.reasons),
            "primary": decision.evidence.get("primary"),
            "users": decision.evidence.get("users"),
        }
        share = row.share
        if row.stage == "split" and share is not None:
            since_ms, hours = int(progress["ramp_since_ms"]), self._settings.ramp_hours
            share = next_share(share, self._settings.ramp, decision, since_ms=since_ms, until_ms=until_ms, hours=hours)
        if share != row.share:
            progress["ramp_since_ms"] = until_ms
            log.info("%s: the split grows to %g", row.experiment_id, share, extra=_ids(row))
        with self._store.database.write():
            self._store.experiments.update(row.experiment_id, share=share, progress=progress)
            self._store.outcomes.record(self._stages[row.stage].outcomes(row, decision, self._now_ms()))
        return share != row.share

    def _conclude(self, row: Experiment, decision: GateDecision) -> None:
        """End the stage with all that follows, in one transaction, and tell the listeners."""
        store, now_ms = self._store, self._now_ms()
        following = self._follower(row.stage)
        if following is not None and self._stages[row.stage].passes(decision):
            entry = self._entry(following)
            added = dataclasses.replace(
                row,
                experiment_id=f"{_root(row)}-{following}",
                stage=following,
                reasons=(),
                started_at_ms=now_ms,
                **entry,
            )
            self._stages[following].begin(added)  # outside the transaction: it may be repeated after a crash
            with store.database.write():
                if self._end(row, decision, "decided"):
                    store.experiments.add(added)
            return
        decides = following is None
        decision = decision if decides else dataclasses.replace(decision, spent=0.0)
        expired = "expired" in decision.evidence and row.stage != CONFIRMATION
        with store.database.write():
            if self._overtaken(row) or not self._end(row, decision, "expired" if expired else "decided"):
                return  # somebody has just switched by hand: the next look stops it
            if row.stage == CONFIRMATION:
                switch = verdicts.confirmed(store, row, decision, now_ms)
            else:
                switch = verdicts.concluded(store, row, decision, self._settings, now_ms)
        words = headline(decision, (row.version, row.champion), TAKEN_BACK if row.stage == CONFIRMATION else DONE)
        log.info("%s: %s", row.experiment_id, words, extra={**_ids(row), "verdict": decision.verdict.value})
        for tell in self.listeners if switch is not None else ():
            tell(str(switch))

    def _end(self, row: Experiment, decision: GateDecision, state: str) -> bool:
        """Close the row with its sums; False where it was closed already. Rows by person are no longer needed."""
        store, now_ms = self._store, self._now_ms()
        if not store.experiments.end(
            row.experiment_id, state, now_ms, verdict=decision.verdict.value, reasons=decision.reasons
        ):
            return False
        store.experiments.update(row.experiment_id, progress={**row.progress, "void": decision.evidence.get("void")})
        if row.stage in self._stages:
            store.outcomes.record(self._stages[row.stage].outcomes(row, decision, now_ms))
        store.tally.forget_people(row.experiment_id)
        return True

    def _stop(self, row: Experiment, reason: str) -> bool:
        """End without a verdict on the model, which becomes a candidate again.

        A deciding stage that was live has looked at its data, so its level is spent.
        """
        spent = row.alpha or 0.0 if row.state == "live" and self._follower(row.stage) is None else 0.0
        evidence = {"until_ms": self._store.feedback.watermark_ms()}
        decision = GateDecision(Verdict.INCONCLUSIVE, (reason,), evidence, 0.0 if row.stage == CONFIRMATION else spent)
        with self._store.database.write():
            if self._end(row, decision, "stopped") and row.stage != CONFIRMATION:
                verdicts.concluded(self._store, row, decision, self._settings, self._now_ms())
        log.info("%s was stopped: %s", row.experiment_id, reason, extra=_ids(row))
        return True

    def _give_up(self) -> bool:
        now_ms, days = self._now_ms(), self._settings.queue_days
        late = [row for row in self._store.experiments.queued() if now_ms - row.created_at_ms > days * DAY_MS]
        for row in late:
            self._stop(row, f"expired after {days:g} days in the queue")
        return bool(late)

    def _overtaken(self, row: Experiment) -> str | None:
        if row.stage == CONFIRMATION:
            since = verdicts.newcomer(self._store, row.version)
            return None if since is None else f"{since} has become the champion since"
        since = verdicts.newcomer(self._store, row.champion)
        if row.version == (since or row.champion):
            return "it has become the champion already"
        return None if since is None else f"{since} became the champion, it was held against {row.champion}"

    def _champion(self) -> str:
        return self._store.models.aliases()[CHAMPION]

    def _follower(self, stage: str) -> str | None:
        """The stage after this one; None where this one decides."""
        names = self._settings.stages
        place = names.index(stage) + 1 if stage in names else len(names)
        return names[place] if place < len(names) else None


def report(store: Store) -> dict[str, Any]:
    """For `status`: how many wait; 1 where the last experiment was void; 1 where the last switch was our rollback."""
    rows = store.experiments.all()
    ended = [row for row in rows if row.ended_at_ms is not None and row.stage != "offline"]
    last = max(ended, key=lambda row: row.ended_at_ms or 0, default=None)
    switches = [row for row in store.decisions.all() if row.alias == CHAMPION]
    taken_back = bool(switches) and switches[-1].kind == "rollback" and switches[-1].actor == verdicts.ACTOR
    return {
        "queued": sum(row.state == "queued" for row in rows),
        "void": int(last is not None and bool(last.progress.get("void"))),
        "rolled_back": int(taken_back),
    }


def problems(store: Store) -> dict[str, str]:
    """The meaning of each alert that `report` raises, in words."""
    rows = [row for row in store.experiments.all() if row.progress.get("void") and row.ended_at_ms is not None]
    flags = report(store)
    meanings = {}
    if flags["void"]:
        meanings["experiment"] = f"{rows[-1].experiment_id} is void: {rows[-1].progress['void']}"
    if flags["rolled_back"]:
        last = [row for row in store.decisions.all() if row.alias == CHAMPION][-1]
        meanings["rollback"] = f"{last.previous} was taken back for {last.version}: {last.reasons[0]}"
    return meanings


def _ids(row: Experiment) -> dict[str, str | None]:
    """What a line of the log is found by."""
    return {"experiment_id": row.experiment_id, "run_id": row.run_id, "version": row.version}


def _root(row: Experiment) -> str:
    return row.experiment_id.removesuffix(f"-{row.stage}")
