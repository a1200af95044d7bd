"""Which metric judges a live experiment, by what the feedback before it supports. It is fixed before the first page.

A metric that nobody can move decides nothing, and one that is chosen after a look is chosen for its answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flywheel.settings.load import Config
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.own import OwnRule
from flywheel.store.store import Store

METRIC = "metric"
"""Under this name an experiment's progress keeps `live_metric`, `satisfied_ms`, `why`, and the `own` metrics' rules."""
DAY_MS = 86_400_000
_BEFORE_DAYS = 28
_EXPLICIT_ALONE_MS = 2**62
"""Longer than any dwell: what satisfies then is a vote, a cart or a purchase."""
_LEAST_CLICKED, _LEAST_SHARE = 100, 0.05


def fixed(store: Store, config: Config, from_ms: int) -> dict[str, Any]:
    """`live_metric`, `satisfied_ms`, and `why` in words, for an experiment that begins at `from_ms` (event time).

    `promotion.live_metric = "ctr"`, a metric of the product's own, and limits that somebody set stand as they are. Else
    the last run's click model decides: where dwell goes with relevance its learned limit satisfies; where it does not,
    votes, carts and purchases do, if at least one in twenty pages with a click has one; else clicks are all there is.
    """
    wanted, given = config.promotion.live_metric, config.signals.satisfied_ms

    def told(metric: str, satisfied_ms: int, why: str) -> dict[str, Any]:
        own = {name: asdict(rule) for name, rule in own_rules(config).items()}
        return {METRIC: {"live_metric": metric, "satisfied_ms": satisfied_ms, "why": why, "own": own}}

    if wanted == "ctr" or wanted in config.metrics.own:
        return told(wanted, given, "promotion.live_metric says so")
    if "satisfied_ms" in config.signals.model_fields_set:
        return told(wanted, given, "signals.satisfied_ms says what satisfies")
    dwell = store.pairs.dwell_told()
    if dwell is None:
        return told(wanted, given, "no run has told yet whether dwell goes with relevance")
    if dwell.separates and dwell.satisfied_ms is not None:
        return told(wanted, dwell.satisfied_ms, f"dwell goes with relevance, from {dwell.satisfied_ms} ms on")
    before = store.traffic.rates(from_ms - _BEFORE_DAYS * DAY_MS, from_ms, satisfied_ms=_EXPLICIT_ALONE_MS)
    if before.clicked >= _LEAST_CLICKED and before.satisfied >= _LEAST_SHARE * before.clicked:
        return told(wanted, _EXPLICIT_ALONE_MS, "dwell does not go with relevance: votes, carts and purchases satisfy")
    return told("ctr", given, "dwell does not go with relevance, and votes, carts and purchases are too few: clicks")


def own_rules(config: Config) -> dict[str, OwnRule]:
    """The product's own metrics as they are counted."""
    return {
        name: OwnRule(metric.event, metric.page, metric.value, metric.over, metric.winsorise)
        for name, metric in config.metrics.own.items()
    }


def rules_of(experiment: Experiment, config: Config) -> dict[str, OwnRule]:
    """Those of an experiment: as they were when its stage began, whatever the settings say by now."""
    kept = experiment.progress.get(METRIC, {}).get("own")
    return own_rules(config) if kept is None else {name: OwnRule(**rule) for name, rule in kept.items()}
