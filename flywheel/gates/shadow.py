"""What a shadow proves: it rejects a challenger for latency or a clear loss, or passes it on. It never promotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.gates.decision import GUARDRAILS, GateDecision, Guardrail, Verdict
from flywheel.stats.counterfactual import Contrast, RankWeights, robust, self_normalised
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.paired import PairedSums

Column = npt.NDArray[np.float64]
# what a log must be worth before a shadow believes an estimate: pages, and the share of what would be shown
MIN_EFFECTIVE, MIN_COVERAGE = 100.0, 0.8
LATENCY = next(guard for guard in GUARDRAILS if guard.metric == "latency_ms")


@dataclass(frozen=True, slots=True)
class PageRules:
    """How pages are read.

    `satisfied_ms`: the dwell that satisfies. `cap`: how many pages of a person count for a query in one window.
    `depth`: how many ranks matter. `unknown`: the relevance of a document that the click model does not know.
    """

    satisfied_ms: int
    cap: int
    depth: int
    unknown: float


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Everything that a shadow has counted.

    `pages`, `champion`, `challenger`: float64 (groups,), the pages of each group of users, and its totals under either
    model by the click model. `slots`, `weights`: float64 (groups, ranks), from pages with propensities. `times`: (timed
    queries, 2) milliseconds, champion first. `overlap`, `rbo` are means over pages. `changed` is the share of pages
    that would look different.
    """

    pages: Column
    champion: Column
    challenger: Column
    effective: float
    coverage: float
    slots: Column
    weights: tuple[RankWeights, RankWeights]
    times: Column
    overlap: float
    rbo: float
    changed: float
    queries: int


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """When a shadow speaks, and what it may say.

    It waits for `pages`, or for `days` of event time where there are fewer, and looks once. It rejects where the whole
    95 % interval of satisfied clicks lies more than `margin` (relative) below the champion's, or where `latency` is
    surely broken. `step_pages`, `step_queries` and `step_timed` bound one step; `timed` queries are timed in all.
    """

    pages: int
    days: float
    reading: PageRules
    margin: float = 0.02
    min_effective: float = MIN_EFFECTIVE
    min_coverage: float = MIN_COVERAGE
    latency: Guardrail = LATENCY
    step_pages: int = 20_000
    step_queries: int = 64
    step_timed: int = 16
    timed: int = 200


def decide_shadow(shadowed: Shadowed, policy: ShadowPolicy) -> GateDecision:
    """Reject or pass on. It never promotes, and spends nothing of the error budget.

    1. Latency of encoding and search above the guardrail with its whole 95 % interval: reject.
    2. The interval of the first estimator that the log supports (doubly robust, SNIPS, click model) lies wholly below
       -`margin` of the champion's: reject. One interval alone decides, so it is wrong in at most 2.5 % of cases.
    3. Else inconclusive and final: it passes on to the next stage, which can tell.
    """
    contrasts = _contrasts(shadowed)
    answers = {name: _answer(found, policy) for name, found in contrasts.items()}
    latency = PairedSums.of(shadowed.times[:, 0], shadowed.times[:, 1])
    evidence = _facts(shadowed) | {
        "latency": _measured(latency, latency.compare()) if latency.groups else None,
        "estimates": {name: _described(contrasts[name], answers[name]) for name in contrasts},
    }
    slow = _slow(latency, policy.latency)
    lines, worse = _worse(contrasts, answers, policy)
    found = (*slow, *worse)
    if found:
        return GateDecision(Verdict.REJECT, (*found, *lines), evidence, 0.0)
    passed = f"passed on: on {evidence['pages']:.0f} pages the shadow found nothing to reject it for"
    return GateDecision(Verdict.INCONCLUSIVE, (passed, *lines), evidence, 0.0)


def _contrasts(shadowed: Shadowed) -> dict[str, Contrast | Inconclusive]:
    """By estimator; the first that has an answer decides."""
    champion, challenger = shadowed.weights
    sums = PairedSums.of_groups(shadowed.pages, shadowed.champion, shadowed.challenger)
    return {
        "doubly_robust": robust(shadowed.slots, champion, challenger),
        "snips": self_normalised(shadowed.slots, champion, challenger),
        "click_model": Contrast(sums, shadowed.effective, shadowed.coverage),
    }


def _answer(found: Contrast | Inconclusive, policy: ShadowPolicy) -> Estimate | Inconclusive:
    if isinstance(found, Inconclusive):
        return found
    return found.estimate(min_effective=policy.min_effective, min_coverage=policy.min_coverage)


def _facts(shadowed: Shadowed) -> dict[str, Any]:
    return {
        "pages": float(shadowed.pages.sum()),
        "queries": shadowed.queries,
        "overlap": shadowed.overlap,
        "rbo": shadowed.rbo,
        "changed_pages": shadowed.changed,
    }


def _measured(sums: PairedSums, answer: Estimate | Inconclusive) -> dict[str, Any]:
    facts: dict[str, Any] = {"n": sums.groups, "sums": sums.as_dict()}
    if isinstance(answer, Inconclusive):
        return facts | {"inconclusive": answer.reason}
    low, high = answer.interval()
    facts |= {"effect": answer.effect, "standard_error": answer.standard_error, "low": low, "high": high}
    return facts | {"p_gain": answer.p_gain()}


def _described(found: Contrast | Inconclusive, answer: Estimate | Inconclusive) -> dict[str, Any]:
    if isinstance(found, Inconclusive):
        return _measured(PairedSums(), found) | {"effective": 0.0, "coverage": 0.0}
    return _measured(found.sums, answer) | {"effective": found.effective, "coverage": found.coverage}


def _slow(latency: PairedSums, guard: Guardrail) -> tuple[str, ...]:
    estimate = latency.compare()
    if isinstance(estimate, Inconclusive):
        return ()
    before, after = latency.champion / latency.queries, latency.challenger / latency.queries
    tolerated = max(guard.margin * before, guard.floor)
    if estimate.interval()[0] <= tolerated:
        return ()
    return (
        f"latency of encoding and search: {before:.1f} to {after:.1f} ms over {latency.groups} queries, more than the "
        f"tolerated rise of {tolerated:.1f} ms",
    )


def _worse(
    contrasts: dict[str, Contrast | Inconclusive], answers: dict[str, Estimate | Inconclusive], policy: ShadowPolicy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A line for each estimator, and a reason to reject where the first supported one is clearly below the margin."""
    lines: list[str] = []
    worse: tuple[str, ...] | None = None
    for name, answer in answers.items():
        contrast = contrasts[name]
        if isinstance(answer, Inconclusive) or isinstance(contrast, Inconclusive):
            lines.append(f"{name.replace('_', ' ')}: refused: {getattr(answer, 'reason', 'no answer')}")
            continue
        low, high = answer.interval()
        before = contrast.sums.champion / contrast.sums.queries
        lines.append(
            f"{name.replace('_', ' ')}: satisfied clicks a page {before:.4f} to {before + answer.effect:.4f}, "
            f"{answer.effect:+.4f} (95 % {low:+.4f} to {high:+.4f}; worth {contrast.effective:.0f} pages, "
            f"{contrast.coverage:.0%} covered)"
        )
        if worse is None:
            floor = -policy.margin * before
            reason = f"clearly worse: the whole interval lies below {floor:+.4f}, {policy.margin:.0%} of the champion's"
            worse = (reason,) if high < floor else ()
    return tuple(lines), worse or ()
