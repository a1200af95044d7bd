"""The offline verdict: evidence and policy in; promote, reject or inconclusive out, with reasons and their numbers.

It reads no clock, no store and no model. The live verdict is in `flywheel.gates.live`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.levels import beside
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
from flywheel.gates.sentences import told, wanting
from flywheel.stats.estimate import Estimate, Inconclusive, holm
from flywheel.stats.power import POINT, POWER, USUAL_SPREAD, judged_queries, smallest_gain, spread_limit


@dataclass(frozen=True, slots=True)
class OfflineEvidence:
    """Scores on judged queries: `metrics[name] = (champion, challenger)`, float64 (queries,) each, nan where none.

    `seen[i]`: training touched a relevant document of query i. `groups[i]`: who asked it, or the query's own number.
    `anchors[set][metric]` are pairs in the same form, on collections that must not get worse. Some may compare with the
    base model instead of the champion: small losses can then not add up over promotions.
    """

    metrics: Mapping[str, Pair]
    seen: npt.NDArray[np.bool_] | npt.NDArray[np.int8]
    groups: npt.NDArray[np.int64]
    anchors: Mapping[str, Mapping[str, Pair]] = field(default_factory=dict)
    feedback: HeldOutScores | None = None


def decide_offline(evidence: OfflineEvidence, policy: PromotionPolicy, alpha: float) -> GateDecision:
    """Promote on a significant gain without a loss elsewhere.

    1. Too few judged queries (groups of them), over all or on unseen documents: inconclusive, and nothing is spent; how
       many more a gain needs is in `needed` of the evidence. Yet a loss on held-out feedback rejects, and without any
       golden set a screen passes what loses nothing there. Below `min_queries`, from `exact_from` on, the gain of 3. is
       tested by flipping signs, unless so few queries moved that no signs could reach the level: then nothing is spent.
    2. A loss beyond the margins (`lost`) over all, on unseen documents, on an anchor set or held-out feedback: reject.
    3. A gain over all queries: promote. The test is one-sided and paired; the primary metrics share `alpha` by Holm
       (1979). The gain is at least `policy.min_effect`, and where `alpha` is small the bootstrap must confirm it.
    4. Else reject where every primary metric is significantly (5 %) short of a gain, inconclusive where one is open.

    Every decision that tested spends `alpha`, whatever the verdict: the guards look at the same queries as the test.

    Raises:
        ValueError: a primary metric of the policy is not in the evidence, or alpha is no probability.
    """
    return told(_decide(evidence, policy, alpha))


def _decide(evidence: OfflineEvidence, policy: PromotionPolicy, alpha: float) -> GateDecision:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    absent = [name for name in policy.metrics if name not in evidence.metrics]
    if absent or not policy.metrics:
        raise ValueError(f"no scores for the primary metrics {absent or 'of the policy, which names none'}")
    rng = np.random.default_rng(0)  # of the bootstrap, which may hold back a gain: the same scores, the same answer
    exact = {ALL: (policy.exact_from, policy.min_queries)}
    parts = {part: measure(metrics, groups, rng, exact.get(part)) for part, metrics, groups in _parts(evidence)}
    facts: dict[str, Any] = {
        "alpha": alpha,
        "primary": list(policy.metrics),
        "parts": {
            part: {name: measured.as_dict() for name, measured in metrics.items()} for part, metrics in parts.items()
        },
        "needed": needed(parts[ALL], policy, alpha),
    }
    feedback = _guard_feedback(parts, policy, evidence.feedback)
    losses, unharmed = _guards(parts, policy)
    missing = _missing(parts, policy) or _powerless(parts[ALL], policy, alpha)
    wanted = (wanting(facts["needed"]),)
    if missing:
        missing = (*missing, *wanted)
        passes = policy.screens and _unjudged(parts, policy) and not losses
        return _without_judgements(missing, feedback, facts, passes=passes)
    losses = (*losses, *feedback.worse)
    gains, shortfalls, hopeless = _gains(parts[ALL], policy, alpha)
    if losses:
        return GateDecision(Verdict.REJECT, (*losses, *gains), facts, alpha)
    if gains:
        return GateDecision(Verdict.PROMOTE, (*gains, *unharmed, *feedback.said), facts, alpha)
    verdict = Verdict.REJECT if hopeless else Verdict.INCONCLUSIVE
    return GateDecision(verdict, (*shortfalls, *(() if hopeless else wanted), *feedback.said), facts, alpha)


_Parts = Mapping[str, Mapping[str, Measured]]


def _parts(evidence: OfflineEvidence) -> Iterator[tuple[str, Mapping[str, Pair], npt.NDArray[np.int64] | None]]:
    seen = np.asarray(evidence.seen, dtype=bool)
    for part, rows in ((ALL, np.ones_like(seen)), (SEEN, seen), (UNSEEN, ~seen)):
        metrics = {name: (before[rows], after[rows]) for name, (before, after) in evidence.metrics.items()}
        yield part, metrics, evidence.groups[rows]
    for name, anchor in evidence.anchors.items():
        yield f"anchor {name}", anchor, None
    feedback = evidence.feedback
    if feedback is not None and len(feedback.champion):
        for part, rows in (
            ("", np.ones_like(feedback.seen)),
            (f" {SEEN}", feedback.seen),
            (f" {UNSEEN}", ~feedback.seen),
        ):
            yield FEEDBACK + part, {SHOWN: (feedback.champion[rows], feedback.challenger[rows])}, feedback.groups[rows]


def _missing(parts: _Parts, policy: PromotionPolicy) -> tuple[str, ...]:
    """Why nothing can be said yet: too few judged queries, or an anchor set too small to have a spread."""
    reasons = []
    all_judged = min(parts[ALL][name].sums.groups for name in policy.metrics)
    least_judged = min(policy.exact_from, policy.min_queries)
    # few queries need the same share of unseen ones as the least for a verdict has
    share = min(1.0, max(all_judged, least_judged) / policy.min_queries)
    for part, least in ((ALL, least_judged), (UNSEEN, math.ceil(policy.min_unseen * share))):
        judged = min(parts[part][name].sums.groups for name in policy.metrics)
        if judged < least:
            what = "judged queries" if part == ALL else "judged queries whose relevant documents training never touched"
            reasons.append(f"{judged} {what}; {least} are the least for a verdict: import more into the golden set")
    for part, metrics in parts.items():
        if part.startswith("anchor"):
            small = [
                measured.estimate.reason for measured in metrics.values() if isinstance(measured.estimate, Inconclusive)
            ]
            reasons.extend(f"{part}: {reason}" for reason in small[:1])
    return tuple(reasons)


def _powerless(metrics: Mapping[str, Measured], policy: PromotionPolicy, alpha: float) -> tuple[str, ...]:
    """Why the exact test cannot win whatever the signs are; it is then not made, and spends nothing."""
    flips = [metrics[name].flips for name in policy.metrics]
    best = min((found for found in flips if found is not None), key=lambda found: found.least, default=None)
    level = alpha / len(policy.metrics)
    if best is None or None in flips or best.least <= level:
        return ()
    judged = min(metrics[name].sums.groups for name in policy.metrics)
    why = f"{best.moved} of {judged} judged queries moved: even if all of them gained, p would be {best.least:.2g}"
    return (f"{why}, above the {level:.2g} that is needed; nothing was tested or spent",)


def needed(metrics: Mapping[str, Measured], policy: PromotionPolicy, alpha: float) -> dict[str, Any]:
    """How many judged queries find the smallest gain that matters, on the primary metric that needs the fewest.

    Lachin (1981) at alpha shared among the metrics, with the upper 80 % limit of the spread that was seen (Browne
    1995). `assumed`: nothing varied yet, so it is the usual spread. `smallest`: the gain that the present ones find.
    """
    effect, level = policy.min_effect or POINT, alpha / len(policy.metrics)
    plans = []
    for name in policy.metrics:
        measured = metrics[name]
        seen, groups = measured.spread, measured.sums.groups
        spread = USUAL_SPREAD if seen is None else spread_limit(seen, groups - 1)
        queries = judged_queries(spread, effect, alpha=level, power=POWER)
        plan = {
            "metric": name,
            "effect": effect,
            "queries": queries,
            "judged": groups,
            "more": max(0, queries - groups),
        }
        smallest = smallest_gain(spread, groups, alpha=level) if groups > 1 else None
        plans.append({**plan, "spread": spread, "assumed": seen is None, "power": POWER, "smallest": smallest})
    return min(plans, key=lambda plan: (plan["assumed"], plan["queries"]))


def _guards(parts: _Parts, policy: PromotionPolicy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is lost beyond its margin, and a line for each part that lost nothing."""
    losses: list[str] = []
    unharmed: list[str] = []
    for part, metrics in parts.items():
        if part == SEEN or part.startswith(FEEDBACK):
            continue
        margin = policy.anchor_margin if part.startswith("anchor") else policy.margin
        guarded = {
            name: result.estimate
            for name, result in metrics.items()
            if name in policy.metrics or part not in (ALL, UNSEEN)
        }
        estimates = {name: result for name, result in guarded.items() if isinstance(result, Estimate)}
        level = policy.loss_level / max(1, len(estimates))
        bad = [name for name, result in estimates.items() if lost(result, margin, level)]
        losses.extend(
            f"{name} on {where(part)}: {figures(estimates[name], metrics[name].sums)}: a loss beyond the margin of "
            f"{margin:g} that stands out of the noise (p {estimates[name].p_loss():.2g} below {level:.2g})"
            for name in bad
        )
        if estimates and not bad and part != ALL:
            shown = ", ".join(
                f"{name} {result.effect:+.4f} ± {result.standard_error:.4f}" for name, result in estimates.items()
            )
            unharmed.append(f"{where(part)}: nothing lost, {shown}, within the margin of {margin:g} or the noise")
    return tuple(losses), tuple(unharmed)


def _guard_feedback(parts: _Parts, policy: PromotionPolicy, feedback: HeldOutScores | None) -> Guarded:
    least = {FEEDBACK: policy.min_feedback, f"{FEEDBACK} {UNSEEN}": policy.min_unseen}
    guarded = guard_feedback(parts, least, margin=policy.feedback_margin, level=policy.feedback_level)
    note = (f"held-out feedback: {feedback.note}",) if feedback is not None and feedback.note else ()
    said = () if note and not guarded.enough else guarded.said  # the note already says why they are too few
    return Guarded(guarded.worse, (*note, *said), guarded.enough)


def _unjudged(parts: _Parts, policy: PromotionPolicy) -> bool:
    """Whether there is no golden set at all, and every anchor set has an estimate."""
    anchors = [measured.estimate for part in parts if part.startswith("anchor") for measured in parts[part].values()]
    judged = any(parts[ALL][name].sums.groups for name in policy.metrics)
    return not judged and all(isinstance(estimate, Estimate) for estimate in anchors)


def _without_judgements(
    missing: tuple[str, ...], feedback: Guarded, facts: dict[str, Any], *, passes: bool
) -> GateDecision:
    """The decision with too few judged queries: nothing is tested or spent; held-out feedback alone may decide."""
    if feedback.worse:
        return GateDecision(Verdict.REJECT, (*feedback.worse, *missing), facts, 0.0)
    if passes and feedback.enough:
        reason = "no golden set to screen with: nothing is lost on held-out feedback, and live feedback decides"
        return GateDecision(Verdict.PROMOTE, (reason, *feedback.said), facts, 0.0)
    return GateDecision(Verdict.INCONCLUSIVE, (*missing, *feedback.said), facts, 0.0)


def _gains(
    metrics: Mapping[str, Measured], policy: PromotionPolicy, alpha: float
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Gains that count, lines for metrics without one, and whether every metric is significantly short of a gain."""
    estimates = {name: metrics[name].estimate for name in policy.metrics}
    tested = {name: estimate for name, estimate in estimates.items() if isinstance(estimate, Estimate)}
    chances = {name: metrics[name].p_gain for name in tested}
    won = holm(chances, alpha)
    ranked = sorted(tested, key=lambda name: chances[name])
    gains, shortfalls = [], []
    for name, estimate in tested.items():
        line = f"{name} on all queries: {figures(estimate, metrics[name].sums)}"
        # Holm: each gain leaves a larger level to the rest, and the first that falls short ends it for all of them
        level = alpha / (len(tested) - min(ranked.index(name), len(won)))
        shared = f" for one of {len(tested)} metrics" if len(tested) > 1 else ""
        exact = "" if metrics[name].flips is None else ", by the exact sign-flip test"
        share = f"p {beside(chances[name], level)} at most needed: alpha {alpha:.2g}{shared}{exact}"
        bootstrap = metrics[name].bootstrap
        # the lower end of a 95 % interval is a test at 0.025: it may doubt only what was tested at that level or below
        if (
            name in won
            and alpha / len(tested) <= 0.025
            and not isinstance(bootstrap, Inconclusive)
            and bootstrap[0] <= 0
        ):
            shortfalls.append(f"{line}: a gain to the t-test, not to the bootstrap (from {bootstrap[0]:+.4f})")
        elif name in won and estimate.effect >= policy.min_effect:
            gains.append(f"{line}: a gain ({share})")
        elif name in won:
            shortfalls.append(f"{line}: a gain, but smaller than min_effect {policy.min_effect:g}")
        else:
            shortfalls.append(f"{line}: no significant gain ({share})")
    hopeless = all(estimate.p_loss(under=policy.min_effect) < 0.05 for estimate in tested.values())
    return tuple(gains), tuple(shortfalls), hopeless
