"""Measures what the retrain thresholds apply to: new evidence, satisfied CTR, query drift, and the golden sets.

It does not say whether to retrain; `flywheel.gates.triggers` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flywheel.experiments.metric import METRIC, fixed
from flywheel.gates.judged import JudgedSet, policy_of
from flywheel.gates.sentences import live_could
from flywheel.gates.triggers import Measurements
from flywheel.learning.tried import tried
from flywheel.settings.load import Config
from flywheel.stats.drift import query_drift
from flywheel.stats.metrics import parse_metric
from flywheel.stats.power import preferring_users, users_per_arm
from flywheel.stats.ratio import ArmSums
from flywheel.store.feedback.traffic import PageRates
from flywheel.store.published.questions import SIGNALS, people_sums
from flywheel.store.store import Store
from flywheel.store.training.novelty import Novelty
from flywheel.store.training.runs import TrainingRun

WEEK_MS = 7 * 86_400_000
DAY_MS = 86_400_000
_METRIC = "ndcg@10"
_FIRST_GOLDEN = "golden_at_promotion"
Ranker = Callable[[Sequence[str]], list[list[str]]]


class Meter:
    """Takes the measurements of one moment. The golden figure is kept until the champion or the sets change."""

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        judged_sets: Callable[[], list[JudgedSet]],
        ranker: Callable[[str], Ranker],
        paused: Callable[[], bool],
    ) -> None:
        self._store, self._config = store, config
        self._judged_sets, self._ranker, self._paused = judged_sets, ranker, paused
        self._golden: tuple[tuple[str, ...], float] | None = None

    def measure(self, now_ms: int) -> Measurements:
        """All measurements, by event time up to the watermark; `now_ms` is for cooldown and daily budget only."""
        runs = self._store.runs.all()
        trained = [run for run in runs if run.state in {"done", "refused"}]
        until = self._store.feedback.watermark_ms()
        since = max((run.until_ms or 0 for run in trained), default=0)
        metric = fixed(self._store, self._config, until)[METRIC]
        now, before = (self._rates(until - (ago + 1) * WEEK_MS, until - ago * WEEK_MS, metric) for ago in (0, 1))
        golden = self._golden_now()
        promoted = None if golden is None else self._golden_at_promotion(golden, now_ms)
        return Measurements(
            new_pairs=Novelty(self._store.database).new_pairs(since, until),
            waiting_pages=self._store.traffic.pages_since(until),
            watermark_minutes=self._config.signals.watermark_minutes,
            satisfied_ctr=_judged_by(metric, now),
            satisfied_ctr_before=_judged_by(metric, before),
            ctr=now.ctr,
            drift=self._drift(since, until),
            golden_now=golden,
            golden_at_promotion=promoted,
            last_finished_ms=_last_finished(runs),
            runs_last_day=sum(run.started_at_ms > now_ms - DAY_MS for run in runs),
            running=self._store.runs.active() is not None,
            paused=self._paused(),
            tried=tried(self._store, self._config, self._config.trainer.tier, until),
        )

    def overtaken(self, measured: Measurements) -> bool:
        """Whether a run has ended since this was measured: its cooldown counts, and the next check knows of it."""
        return _last_finished(self._store.runs.all()) != measured.last_finished_ms

    def _rates(self, from_ms: int, until_ms: int, metric: Mapping[str, Any]) -> PageRates:
        """Rates of pages by the same rule in both weeks."""
        return self._store.traffic.rates(from_ms, until_ms, satisfied_ms=metric["satisfied_ms"])

    def _drift(self, since: int, until: int) -> float | None:
        """Distance between the queries since the last training and those of the week before it."""
        if since <= 0:
            return None
        now = self._store.traffic.query_counts(since, until)
        before = self._store.traffic.query_counts(since - WEEK_MS, since)
        # with fewer queries the distance is mostly noise
        if sum(now.values()) < 100 or sum(before.values()) < 100:
            return None
        return query_drift(before, now).excess

    def _golden_now(self) -> float | None:
        sets = [judged for judged in self._judged_sets() if judged.kind == "golden" and len(judged)]
        champion = self._store.models.aliases().get("champion")
        if not sets or champion is None:
            return None
        documents = str(self._store.documents.last_change())
        key = (champion, documents, *(judged.version for judged in sets))
        if self._golden is None or self._golden[0] != key:
            score, rank = parse_metric(_METRIC), self._ranker(champion)
            values = np.concatenate([score(rank(judged.queries), judged.judgements) for judged in sets])
            self._golden = (key, float(np.nanmean(values)))
        return self._golden[1]

    def _golden_at_promotion(self, now: float, now_ms: int) -> float:
        """The golden figure when this champion was first measured; the store keeps it over restarts."""
        champion = self._store.models.aliases()["champion"]
        first = self._store.state.get(_FIRST_GOLDEN)
        if first is None or first["champion"] != champion:
            first = {"champion": champion, _METRIC: now}
            self._store.state.set(_FIRST_GOLDEN, first, now_ms)
        return float(first[_METRIC])


def _judged_by(metric: Mapping[str, Any], rates: PageRates) -> float | None:
    """Share of pages that satisfied; where none can be told, with a click."""
    return rates.ctr if metric["live_metric"] == "ctr" else rates.satisfied_ctr


def _last_finished(runs: Sequence[TrainingRun]) -> int | None:
    return max((run.finished_at_ms for run in runs if run.finished_at_ms is not None), default=None)


def live_outlook(store: Store, config: Config, alpha: float) -> str:
    """Which live stage could decide at the traffic so far, and in how many weeks: the arithmetic of `flywheel power`.

    `alpha` is what a live verdict may use. An interleaving counts people who click, a split all people in two arms.
    """
    sums = store.sql.query(people_sums(satisfied_ms=config.signals.satisfied_ms)).to_pylist()[0]
    policy, column = policy_of(config), SIGNALS.get(config.promotion.live_metric, "clicked")
    weekly, clickers = int(sums["weekly_users"] or 0), int(sums["weekly_clickers"] or 0)
    column = column if sums[column] else "clicked"
    if int(sums["users"] or 0) < 2 or not sums[column] or not clickers:
        return live_could((), weekly, config.promotion.max_days)
    preference, gain = policy.expected_preference, policy.expected_gain
    prefer = preferring_users(preference, alpha=alpha, expected=preference)
    stages = [{"stage": "interleaving", "effect": preference, "people": prefer, "weeks": prefer / clickers}]
    arm = ArmSums.of_people(sums, column)
    if arm.spread() > 0:
        both = 2 * users_per_arm(arm, gain, alpha=alpha, expected=gain)
        stages.append({"stage": "split", "effect": gain, "people": both, "weeks": both / weekly})
    return live_could(stages, weekly, config.promotion.max_days)
