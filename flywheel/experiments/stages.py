"""The live stages of a comparison: each gathers evidence up to the watermark and says what it proves.

A stage promotes nothing and keeps no state but its tally's; `flywheel.experiments.director` moves challengers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from flywheel.experiments import outcomes
from flywheel.experiments.metric import METRIC, rules_of
from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.live import LiveEvidence, decide_live, decide_rollback
from flywheel.settings.load import Config
from flywheel.stats.looks import Look
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.outcomes import Outcome
from flywheel.store.evaluation.tallied import ROLES, Tallied
from flywheel.store.evaluation.tally import SPELLINGS, Comparison, Tally

DAY_MS = 86_400_000
CONFIRMATION = "confirmation"
FROM = "from_ms"


class Stage(Protocol):
    """One stage. `experiment.progress["from_ms"]` is the event time at which it began."""

    def begin(self, experiment: Experiment) -> None:
        """Get ready for a challenger; called again after a crash."""

    def step(self, experiment: Experiment, until_ms: int) -> None:
        """Take in whatever is new before the event time `until_ms`."""

    def verdict(self, experiment: Experiment, until_ms: int, alpha: float) -> GateDecision:
        """The decision on all of it at level `alpha`; not final while the stage goes on. Looking is free."""

    def passes(self, decision: GateDecision) -> bool:
        """Whether a final decision lets the challenger go on to the next stage."""

    def outcomes(self, experiment: Experiment, decision: GateDecision, now_ms: int) -> list[Outcome]:
        """The figures behind a decision, as rows of `ab_outcomes`; those of the next look replace them."""


EvidenceOf = Callable[[Tallied, float, str], LiveEvidence]
"""Of the sums, the days and the live metric."""
Decide = Callable[[LiveEvidence, PromotionPolicy, float], GateDecision]


@dataclass(frozen=True)
class TalliedStage:
    """A stage whose evidence is the feedback on pages that were shown: interleaving, split, observe, confirmation."""

    tally: Tally
    compared: Callable[[Experiment], Comparison]
    evidence_of: EvidenceOf
    policy: PromotionPolicy
    decide: Decide = decide_live

    def begin(self, experiment: Experiment) -> None:
        """Note what people did before, for CUPED; pages are counted from the first look on."""
        if self.policy.cuped:
            self.tally.begin(self.compared(experiment), int(experiment.progress.get(FROM, 0)))

    def step(self, experiment: Experiment, until_ms: int) -> None:
        """Fold in the pages whose window is closed."""
        self.tally.advance(self.compared(experiment), until_ms)

    def verdict(self, experiment: Experiment, until_ms: int, alpha: float) -> GateDecision:
        """See `flywheel.gates.live`."""
        tallied = self.tally.sums(experiment.experiment_id, self.compared(experiment).own)
        # days count from the first page: the watermark may have stood still for long before it
        since_ms = max(int(experiment.progress.get(FROM, 0)), tallied.first_ms or until_ms)
        days = max(0.0, (until_ms - since_ms) / DAY_MS)
        looks = tuple(Look(**look) for look in experiment.progress.get("looks", ()))
        policy = self.policy_of(experiment)
        evidence = dataclasses.replace(self.evidence_of(tallied, days, policy.live_metric), looks=looks)
        decision = self.decide(evidence, policy, alpha)
        counted = {"until_ms": until_ms, "pages": tallied.pages, "over_cap": tallied.over_cap}
        return dataclasses.replace(decision, evidence={**decision.evidence, **counted, "anonymous": tallied.anonymous})

    def passes(self, decision: GateDecision) -> bool:
        """Only a gain passes."""
        return decision.verdict is Verdict.PROMOTE

    def outcomes(self, experiment: Experiment, decision: GateDecision, now_ms: int) -> list[Outcome]:
        """A row for each metric."""
        return outcomes.live(experiment, decision, self.policy_of(experiment), now_ms)

    def policy_of(self, experiment: Experiment) -> PromotionPolicy:
        """The policy with the metric that was fixed when the experiment began, whatever the settings say by now."""
        named = experiment.progress.get(METRIC, {}).get("live_metric", self.policy.live_metric)
        return dataclasses.replace(self.policy, live_metric=named)


def live_stages(tally: Tally, config: Config, policy: PromotionPolicy) -> dict[str, Stage]:
    """The stages that people's feedback decides, by name."""
    settings, signals = config.promotion, config.signals
    spellings = {**SPELLINGS, **{name.lower(): role for name, role in signals.arm_names.items()}}

    def compared(tagged: bool) -> Callable[[Experiment], Comparison]:
        return lambda experiment: Comparison(
            experiment.experiment_id,
            experiment.champion,
            experiment.version,
            from_ms=int(experiment.progress.get(FROM, 0)) if tagged else 0,
            tagged=tagged,
            spellings=spellings,
            satisfied_ms=int(experiment.progress.get(METRIC, {}).get("satisfied_ms", signals.satisfied_ms)),
            cap=settings.user_pages,
            own=rules_of(experiment, config),
        )

    def preferred(found: Tallied, days: float, live_metric: str) -> LiveEvidence:
        by_click = live_metric == "ctr"
        preference = found.preference_clicks if by_click else found.preference
        return LiveEvidence(preference=preference, crossed=found.crossed, days=days)

    share = settings.observe_share
    asked = None if share is None else {"champion": 1 - share, "challenger": share}
    split = arms(dict.fromkeys(ROLES, 1.0))
    confirmation = dataclasses.replace(policy, max_days=settings.holdback_days)
    return {
        "interleaving": TalliedStage(tally, compared(tagged=False), preferred, policy),
        "split": TalliedStage(tally, compared(tagged=False), split, policy),
        "observe": TalliedStage(tally, compared(tagged=True), arms(asked or {}), policy),
        CONFIRMATION: TalliedStage(tally, compared(tagged=False), split, confirmation, decide_rollback),
    }


def arms(shares: Mapping[str, float]) -> EvidenceOf:
    """A function that makes evidence of two arms' sums; without `shares` there is no sample ratio check."""

    def evidence_of(found: Tallied, days: float, live_metric: str) -> LiveEvidence:
        return LiveEvidence(
            metrics=found.metrics,
            steady=found.steady.get(live_metric),
            users={arm: count for arm, count in found.users.items() if arm in ROLES},
            shares=shares,
            crossed=found.crossed,
            days=days,
        )

    return evidence_of
