"""Evidence and policy in; promote, reject or inconclusive out, each with reasons that carry their numbers.

The offline gate is here, the live one in `flywheel.gates.live`. Neither reads a clock, a store, or a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.gates.scores import (
    ALL,
    FEEDBACK,
    SEEN,
    SHOWN,
    UNSEEN,
    Guarded,
    HeldOutScores,
    Measured,
    Pair,
    figures,
    guard_feedback,
    lost,
    measure,
    where,
)
from flywheel.stats.budget import ErrorBudget
from flywheel.stats.estimate import Estimate, Inconclusive, holm

__all__ = [
    "ErrorBudget",
    "GateDecision",
    "HeldOutScores",
    "OfflineEvidence",
    "PromotionPolicy",
    "Verdict",
    "decide_offline",
    "lost",
]


class Verdict(StrEnum):
    """What a gate says. `INCONCLUSIVE` is an answer: not enough to tell, and why."""

    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A live metric that must not rise by more than `margin` of the champion's, nor by more than `floor` where that is
    larger (a rate near 0 has no relative change worth the name)."""

    metric: str
    margin: float
    floor: float


GUARDRAILS = (
    Guardrail("latency_ms", margin=0.10, floor=5.0),
    Guardrail("empty_rate", margin=0.02, floor=0.002),
    Guardrail("abandonment", margin=0.02, floor=0.002),
    Guardrail("thumbs_down", margin=0.10, floor=0.0005),
)


@dataclass(frozen=True, slots=True)
class PromotionPolicy:
    """`[promotion]` of the configuration, plus what nobody should need to touch.

    `loss_level` is the chance, for each part that is guarded (all, unseen, each anchor set, each live guardrail), of
    holding back a challenger that changes nothing there; `feedback_level` is that chance for held-out feedback, all its
    parts together. `screens`: live stages follow and decide. `expected_gain` (relative) and `expected_preference` are
    the live effects that are found soonest; any value keeps the error rate. `looks` are shares of `max_days` at which a
    live gain is tested, by group-sequential bounds; none: at any time, by e-values. `cuped` takes what users did before
    out of the live metric, where that is known. `seed` fixes the bootstrap, which is reported and decides nothing.
    """

    metrics: tuple[str, ...] = ("recall@10", "ndcg@10")
    min_effect: float = 0.0
    margin: float = 0.01
    anchor_margin: float = 0.01
    min_queries: int = 50
    min_unseen: int = 20
    feedback_margin: float = 0.02
    min_feedback: int = 50
    screens: bool = False
    min_users: int = 200
    min_days: float = 7.0
    max_days: float = 28.0
    looks: tuple[float, ...] = ()
    cuped: bool = True
    loss_level: float = 0.16
    feedback_level: float = 0.05
    live_metric: str = "satisfied_ctr"
    expected_gain: float = 0.03
    expected_preference: float = 0.05
    guardrails: tuple[Guardrail, ...] = GUARDRAILS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OfflineEvidence:
    """Scores on judged queries: `metrics[name] = (champion, challenger)`, float64 (queries,) each, nan where none.

    `seen[i]` says that training touched a relevant document of query i; `groups[i]` who asked it (or the query's own
    number). `anchors[set][metric]` are pairs in the same form, on collections that must not get worse; one of them may
    compare with the base model instead of the champion, so that small losses cannot add up over promotions.
    """

    metrics: Mapping[str, Pair]
    seen: npt.NDArray[np.bool_] | npt.NDArray[np.int8]
    groups: npt.NDArray[np.int64]
    anchors: Mapping[str, Mapping[str, Pair]] = field(default_factory=dict)
    feedback: HeldOutScores | None = None


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A verdict, why, the JSON-able sums that reproduce it, and the alpha that it used up.

    `final` is false only for a live experiment that goes on: nothing to tell yet, and nothing spent.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    spent: float
    final: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The same, as plain values."""
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "evidence": self.evidence,
            "spent": self.spent,
            "final": self.final,
        }


def decide_offline(evidence: OfflineEvidence, policy: PromotionPolicy, alpha: float) -> GateDecision:
    """Promote on a significant gain that costs nothing elsewhere.

    1. Too few judged queries (groups of them), over all or on unseen documents: inconclusive, and nothing is spent;
       but a loss on held-out feedback rejects, and without any golden set a screen passes what loses nothing there.
    2. A loss beyond the margins (`lost`) over all, on unseen documents, on an anchor set or held-out feedback: reject.
    3. A gain over all queries, one-sided paired test, `alpha` shared among the primary metrics by Holm (1979), and of
       at least `policy.min_effect`, that the bootstrap does not doubt (its 95 % interval lies above 0): promote.
    4. Else reject where every primary metric is significantly (5 %) short of a gain, inconclusive where one is open.

    Every decision that tested spends `alpha`, whatever came of it: the guards look at the same queries as the test.

    Raises:
        ValueError: a primary metric of the policy is not in the evidence, or alpha is no probability.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    absent = [name for name in policy.metrics if name not in evidence.metrics]
    if absent or not policy.metrics:
        raise ValueError(f"no scores for the primary metrics {absent or 'of the policy, which names none'}")
    rng = np.random.default_rng(policy.seed)
    parts = {part: measure(metrics, groups, rng) for part, metrics, groups in _parts(evidence)}
    facts = {
        "alpha": alpha,
        "primary": list(policy.metrics),
        "parts": {part: {name: found.as_dict() for name, found in metrics.items()} for part, metrics in parts.items()},
    }
    feedback = _guard_feedback(parts, policy, evidence.feedback)
    losses, held = _guards(parts, policy)
    missing = _missing(parts, policy)
    if missing:
        passes = policy.screens and _unjudged(parts, policy) and not losses
        return _without_judgements(missing, feedback, facts, passes=passes)
    losses = (*losses, *feedback.worse)
    gains, shortfalls, hopeless = _gains(parts[ALL], policy, alpha)
    if losses:
        return GateDecision(Verdict.REJECT, (*losses, *gains), facts, alpha)
    if gains:
        return GateDecision(Verdict.PROMOTE, (*gains, *held, *feedback.said), facts, alpha)
    return GateDecision(
        Verdict.REJECT if hopeless else Verdict.INCONCLUSIVE, (*shortfalls, *feedback.said), facts, alpha
    )


_Parts = Mapping[str, Mapping[str, Measured]]


def _parts(evidence: OfflineEvidence) -> Iterator[tuple[str, Mapping[str, Pair], npt.NDArray[np.int64] | None]]:
    seen = np.asarray(evidence.seen, dtype=bool)
    for part, rows in ((ALL, np.ones_like(seen)), (SEEN, seen), (UNSEEN, ~seen)):
        metrics = {name: (before[rows], after[rows]) for name, (before, after) in evidence.metrics.items()}
        yield part, metrics, evidence.groups[rows]
    for name, anchor in evidence.anchors.items():
        yield f"anchor {name}", anchor, None
    held = evidence.feedback
    if held is not None and len(held.champion):
        for part, rows in (("", np.ones_like(held.seen)), (f" {SEEN}", held.seen), (f" {UNSEEN}", ~held.seen)):
            yield FEEDBACK + part, {SHOWN: (held.champion[rows], held.challenger[rows])}, held.groups[rows]


def _missing(parts: _Parts, policy: PromotionPolicy) -> tuple[str, ...]:
    """Reasons why nothing can be said yet; an anchor set too small to have a spread is one."""
    reasons = []
    for part, least in ((ALL, policy.min_queries), (UNSEEN, policy.min_unseen)):
        judged = min(parts[part][name].sums.groups for name in policy.metrics)
        if judged < least:
            what = "judged queries" if part == ALL else "judged queries whose relevant documents training never touched"
            reasons.append(f"{judged} {what}; {least} are the least for a verdict: import more into the golden set")
    for part, metrics in parts.items():
        if part.startswith("anchor"):
            small = [found.estimate.reason for found in metrics.values() if isinstance(found.estimate, Inconclusive)]
            reasons.extend(f"{part}: {reason}" for reason in small[:1])
    return tuple(reasons)


def _guards(parts: _Parts, policy: PromotionPolicy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is lost beyond its margin, and a line for each part that held."""
    losses: list[str] = []
    held: list[str] = []
    for part, metrics in parts.items():
        if part == SEEN or part.startswith(FEEDBACK):
            continue
        margin = policy.anchor_margin if part.startswith("anchor") else policy.margin
        guarded = {
            name: found.estimate
            for name, found in metrics.items()
            if name in policy.metrics or part not in (ALL, UNSEEN)
        }
        known = {name: found for name, found in guarded.items() if isinstance(found, Estimate)}
        level = policy.loss_level / max(1, len(known))
        bad = [name for name, found in known.items() if lost(found, margin, level)]
        losses.extend(
            f"{name} on {where(part)}: {figures(known[name], metrics[name].sums)}: a loss beyond the margin of "
            f"{margin:g} that stands out of the noise (p {known[name].p_loss():.2g} below {level:.2g})"
            for name in bad
        )
        if known and not bad and part != ALL:
            shown = ", ".join(
                f"{name} {found.effect:+.4f} ± {found.standard_error:.4f}" for name, found in known.items()
            )
            held.append(f"{where(part)}: nothing lost, {shown}, within the margin of {margin:g} or the noise")
    return tuple(losses), tuple(held)


def _guard_feedback(parts: _Parts, policy: PromotionPolicy, feedback: HeldOutScores | None) -> Guarded:
    least = {FEEDBACK: policy.min_feedback, f"{FEEDBACK} {UNSEEN}": policy.min_unseen}
    found = guard_feedback(parts, least, margin=policy.feedback_margin, level=policy.feedback_level)
    note = (f"held-out feedback: {feedback.note}",) if feedback is not None and feedback.note else ()
    said = () if note and not found.enough else found.said  # what is wrong with them says it all
    return Guarded(found.worse, (*note, *said), found.enough)


def _unjudged(parts: _Parts, policy: PromotionPolicy) -> bool:
    """Whether there is no golden set at all, and no anchor set that cannot speak."""
    anchors = [found.estimate for part in parts if part.startswith("anchor") for found in parts[part].values()]
    judged = any(parts[ALL][name].sums.groups for name in policy.metrics)
    return not judged and all(isinstance(estimate, Estimate) for estimate in anchors)


def _without_judgements(
    missing: tuple[str, ...], feedback: Guarded, facts: dict[str, Any], *, passes: bool
) -> GateDecision:
    """Too few judged queries: nothing is tested or spent, and held-out feedback alone may say something."""
    if feedback.worse:
        return GateDecision(Verdict.REJECT, (*feedback.worse, *missing), facts, 0.0)
    if passes and feedback.enough:
        reason = "no golden set to screen with: nothing is lost on held-out feedback, and live feedback decides"
        return GateDecision(Verdict.PROMOTE, (reason, *feedback.said), facts, 0.0)
    return GateDecision(Verdict.INCONCLUSIVE, (*missing, *feedback.said), facts, 0.0)


def _gains(
    metrics: Mapping[str, Measured], policy: PromotionPolicy, alpha: float
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Gains that count, what is said where there is none, and whether every metric is significantly short of one."""
    known = {name: metrics[name].estimate for name in policy.metrics}
    tested = {name: found for name, found in known.items() if isinstance(found, Estimate)}
    won = holm({name: found.p_gain() for name, found in tested.items()}, alpha)
    gains, shortfalls = [], []
    for name, found in tested.items():
        line = f"{name} on all queries: {figures(found, metrics[name].sums)}, p {found.p_gain():.2g}"
        share = f"this challenger's alpha {alpha:.2g} (shared by {len(tested)})"
        drawn = metrics[name].bootstrap
        if name in won and alpha / len(tested) <= 0.025 and not isinstance(drawn, Inconclusive) and drawn[0] <= 0:
            shortfalls.append(f"{line}: a gain to the t-test, not to the bootstrap (from {drawn[0]:+.4f})")
        elif name in won and found.effect >= policy.min_effect:
            gains.append(f"{line}: a gain at {share}")
        elif name in won:
            shortfalls.append(f"{line}: a gain, but smaller than min_effect {policy.min_effect:g}")
        else:
            shortfalls.append(f"{line}: no significant gain at {share}")
    hopeless = all(found.p_loss(under=policy.min_effect) < 0.05 for found in tested.values())
    return tuple(gains), tuple(shortfalls), hopeless
