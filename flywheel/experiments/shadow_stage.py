"""The shadow as a stage of a challenger's way: it rejects, or passes the challenger on. It never promotes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from flywheel.experiments.metric import METRIC
from flywheel.experiments.shadow import Shadow, Side
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.shadow import PageRules, ShadowPolicy
from flywheel.settings.load import Config
from flywheel.store.evaluation import outcomes
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.outcomes import Outcome
from flywheel.store.store import Store


class ShadowStage:
    """See `flywheel.experiments.stages.Stage`.

    Args:
        side: loads a version with its index.
        seconds: monotonic clock.
        stopping: whether to stop, asked between steps; the next look does the rest.
    """

    def __init__(
        self,
        store: Store,
        policy: ShadowPolicy,
        side: Callable[[str], Side],
        *,
        seconds: Callable[[], float] = time.perf_counter,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._policy, self._side, self._seconds = store, policy, side, seconds
        self._stopping = stopping

    def begin(self, experiment: Experiment) -> None:
        """Start with the first page that the challenger's training did not see."""
        run = self._store.runs.get(str(experiment.run_id))
        self._shadow(experiment).begin(str(experiment.run_id), (run.until_ms if run else None) or 0)

    def step(self, experiment: Experiment, until_ms: int) -> None:
        """Rank and count closed pages until there are enough."""
        shadow = self._shadow(experiment)
        champion, challenger = self._side(experiment.champion), self._side(experiment.version)
        while not self._stopping() and not shadow.done() and shadow.step(champion, challenger, until_ms):
            pass

    def verdict(self, experiment: Experiment, until_ms: int, alpha: float) -> GateDecision:
        """The shadow's decision, final when enough was counted. It has its own level and spends none of `alpha`."""
        del alpha
        decision = self._shadow(experiment).verdict()
        decision.evidence.setdefault("until_ms", until_ms)
        return decision

    def passes(self, decision: GateDecision) -> bool:
        """Whether the challenger goes on: it was not rejected, and did not run out of time."""
        return decision.verdict is not Verdict.REJECT and "expired" not in decision.evidence

    def outcomes(self, experiment: Experiment, decision: GateDecision, now_ms: int) -> list[Outcome]:
        """A row for each estimator."""
        evidence: Mapping[str, object] = decision.evidence
        if "estimates" not in evidence:
            return []
        return outcomes.shadow(experiment.experiment_id, evidence, decision.reasons, now_ms)

    def _shadow(self, experiment: Experiment) -> Shadow:
        reading = self._policy.reading
        satisfied_ms = int(experiment.progress.get(METRIC, {}).get("satisfied_ms", reading.satisfied_ms))
        policy = replace(self._policy, reading=replace(reading, satisfied_ms=satisfied_ms))
        return Shadow(self._store.shadows, experiment.experiment_id, policy, self._seconds)


def shadow_policy(config: Config) -> ShadowPolicy:
    """The settings that a shadow follows."""
    settings, signals = config.promotion, config.signals
    reading = PageRules(
        satisfied_ms=signals.satisfied_ms,
        cap=max(1, int(signals.user_cap)),
        depth=config.serving.default_k,
        unknown=signals.ambiguous_threshold,
    )
    return ShadowPolicy(pages=settings.shadow_pages, days=settings.shadow_days, reading=reading)
