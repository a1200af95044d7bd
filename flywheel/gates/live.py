"""The live verdict: sums by arm or users' preferences in; promote, reject, inconclusive or "go on" out, at any look.

Where a test may be repeated daily it goes by e-values and confidence sequences, or by planned looks with
group-sequential bounds. Only a test that is over and looked at this once (`Levels.once`) goes by a fixed-size p-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.doubts import adjusted, guardrails, rests_on_busiest
from flywheel.gates.levels import Levels, Tested, at_a_look, at_any_time, at_the_end, planned
from flywheel.gates.sentences import told
from flywheel.gates.void import IMPLAUSIBLE, broken_split
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.looks import Look, due
from flywheel.stats.ratio import ArmSums, compare, log_ratio
from flywheel.stats.sequential import sequence

Arms = tuple[ArmSums, ArmSums]
# the chance that a harmless challenger is ended for a loss, and as much for its guardrails together
GUARD_LEVEL = 0.05
# Kish's effective size sinks to about this where one user has a fifth of an arm's pages
LEAST_EFFECTIVE = 25.0
GOES_ON = "the experiment goes on"
# what one metric's test says, before doubts, guardrails and `min_effect` make a verdict of it
BETTER, WORSE, UNDECIDED = "better", "worse", "inconclusive"


@dataclass(frozen=True, slots=True)
class LiveEvidence:
    """What an experiment has gathered in closed windows: (champion, challenger) sums over users, by intention to treat.

    `metrics` holds the policy's live metric, its guardrails, and whatever else is reported (`ctr` tells clickbait).
    `steady` is the live metric again without the twentieth of users who saw the most pages. `users` counts users by the
    arm they were assigned to. `shares` is the split that was asked for. `crossed` counts users who met both arms.
    `preference` comes from interleaving. `days` is the event time since it went live. `looks` are the planned looks
    taken so far, as in the last decision's evidence. The caller may cap a user's pages.
    """

    metrics: Mapping[str, Arms] = field(default_factory=dict)
    steady: Arms | None = None
    preference: PreferenceSums | None = None
    users: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    crossed: int = 0
    days: float = 0.0
    looks: tuple[Look, ...] = ()


def decide_live(evidence: LiveEvidence, policy: PromotionPolicy, alpha: float) -> GateDecision:
    """Look once at a running split or interleaving. Looks cost nothing; `alpha` is spent when it ends.

    1. A sample ratio mismatch, too many users in both arms, or a gain beyond all experience, voids it: inconclusive,
       alert.
    2. A guardrail beyond its margin, or the live metric worse than the champion's, by their e-values: reject.
    3. Promote when all of these hold: the e-value of a gain is at least 1 / `alpha` (where the policy plans `looks`,
       the z-value is above the bound of the look that is due); the effect is at least `min_effect`; `min_days` are
       over; no guardrail is in doubt; at least a third of the gain is there without the most active users. With
       `preference` alone, the effect is the users' preference.
    4. After `max_days`: inconclusive, expired. Before: inconclusive and not final.
    """
    return decide_at(evidence, policy, Levels(alpha, GUARD_LEVEL))


def decide_rollback(evidence: LiveEvidence, policy: PromotionPolicy, alpha: float) -> GateDecision:
    """Look once at a new champion (as challenger) beside a holdback that keeps the one before (as champion).

    REJECT means: roll back. However often one looks, a promotion that was right is taken back with a chance of at most
    `alpha` for its metric, and as much for its guardrails together. PROMOTE means confirmed: a gain at `alpha`.
    """
    return decide_at(evidence, policy, Levels(alpha, alpha))


def decide_at(evidence: LiveEvidence, policy: PromotionPolicy, levels: Levels) -> GateDecision:
    """`decide_live` at the levels at which a gain promotes, and losses and broken guardrails end it."""
    if not 0 < levels.gain < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {levels.gain}")
    return told(_decide(evidence, policy, levels))


def _decide(evidence: LiveEvidence, policy: PromotionPolicy, levels: Levels) -> GateDecision:
    facts, alpha = _facts(evidence, levels.gain), levels.gain
    void = broken_split(evidence.users, evidence.shares, evidence.crossed)
    if void:
        return GateDecision(Verdict.INCONCLUSIVE, (void,), facts | {"void": void}, alpha)
    tripped, unsure = guardrails(evidence.metrics, policy, levels, facts)
    facts["doubts"] = list(unsure)
    # before the guardrails reject, so that the record of a rejection holds the live metric too
    verdict, reason = _primary(evidence, policy, levels, facts)
    if tripped:
        return GateDecision(Verdict.REJECT, tripped, facts | {"broken": list(tripped)}, alpha)
    if verdict is Verdict.REJECT:
        return GateDecision(verdict, (reason, *_clickbait(evidence, policy)), facts, alpha)
    if facts.get("void"):
        return GateDecision(Verdict.INCONCLUSIVE, (reason,), facts, alpha)
    narrow = _narrow(evidence, policy) if verdict is Verdict.PROMOTE else ()
    holds = (*unsure, *narrow, *_early(evidence, policy))
    if verdict is Verdict.PROMOTE and not holds:
        return GateDecision(verdict, (reason,), facts, alpha)
    facts["holds"] = list(holds)
    if evidence.days >= policy.max_days:
        return GateDecision(
            Verdict.INCONCLUSIVE,
            (f"expired after {evidence.days:.0f} days", reason, *_clickbait(evidence, policy), *holds),
            facts | {"expired": True},
            alpha,
        )
    return GateDecision(Verdict.INCONCLUSIVE, (reason, *holds, GOES_ON), facts, 0.0, final=False)


def _estimate(evidence: LiveEvidence, policy: PromotionPolicy) -> Estimate | Inconclusive:
    """The effect that decides: the logarithm of the ratio for a split, the mean preference for an interleaving."""
    if policy.live_metric in evidence.metrics:
        return log_ratio(*adjusted(evidence.metrics[policy.live_metric], policy))
    if evidence.preference is not None:
        return evidence.preference.compare()
    return Inconclusive("no page of this experiment has been counted yet")


def _users(evidence: LiveEvidence, policy: PromotionPolicy) -> int:
    """Users in the smaller arm, or with a preference."""
    if policy.live_metric in evidence.metrics:
        return min(arm.users for arm in evidence.metrics[policy.live_metric])
    return evidence.preference.users if evidence.preference else 0


def _too_few(evidence: LiveEvidence, policy: PromotionPolicy) -> str | None:
    """Why a normal approximation does not hold yet: too few users in the smaller arm, or with a preference."""
    users, arms = _users(evidence, policy), evidence.metrics.get(policy.live_metric, ())
    if users < policy.min_users:
        return f"{users} users {'in an arm' if arms else 'with a preference'}; {policy.min_users} needed"
    worth = min((arm.effective for arm in arms), default=math.inf)
    if worth < LEAST_EFFECTIVE:
        return f"few users see most of an arm's pages: it is worth {worth:.1f} users; {LEAST_EFFECTIVE:g} needed"
    return None


def effects(estimate: Estimate, expected: float, *, split: bool) -> tuple[float, float, float]:
    """An effect and the ends of its 95 % sequence. A split's estimate is a logarithm; its effect is made relative."""
    low, high = sequence(estimate, expected=expected)
    return (math.expm1(estimate.effect), math.expm1(low), _expm1(high)) if split else (estimate.effect, low, high)


def _expm1(value: float) -> float:
    return math.expm1(min(value, 700.0))  # exp overflows a float64 above 709


def _primary(
    evidence: LiveEvidence, policy: PromotionPolicy, levels: Levels, facts: dict[str, Any]
) -> tuple[Verdict, str]:
    split, lower = policy.live_metric in evidence.metrics, policy.live_metric in policy.lower
    name = policy.live_metric if split else "users' preference"
    estimate = _estimate(evidence, policy)
    facts["unknown"] = estimate.reason if isinstance(estimate, Inconclusive) else _too_few(evidence, policy)
    if isinstance(estimate, Inconclusive) or facts["unknown"]:
        return Verdict.INCONCLUSIVE, facts["unknown"]
    users = _users(evidence, policy)
    expected = policy.expected_gain if split else policy.expected_preference
    gain = Estimate(-estimate.effect, estimate.standard_error, estimate.degrees) if lower else estimate
    tested = _tested(gain, evidence, policy, levels, expected, facts)
    effect, low, high = effects(estimate, expected, split=split)
    facts["primary"] = {"metric": name, "effect": effect, "low": low, "high": high, "users": users, **tested.facts}
    facts["primary"] |= {"scale": "log ratio" if split else "difference", "standard_error": estimate.standard_error}
    bounds = [_expm1(end) if split else end for end in tested.bounds(mirrored=lower)]
    facts["primary"] |= {"interval": bounds, "confidence": levels.confidence, "level": levels.gain, "lower": lower}
    facts["primary"] |= planned(estimate, max(policy.min_effect, expected), levels, expected, users)
    facts["primary"]["verdict"] = WORSE if tested.worse else BETTER if tested.better else UNDECIDED
    line = f"{name} {effect:+.2%} ({levels.confidence:.3g} % {tested.kind} {bounds[0]:+.2%} to {bounds[1]:+.2%}, "
    line += f"{users} users {'in the smaller arm' if split else 'with a preference'}"
    line += "; less is better)" if lower else ")"
    return _said(tested, policy, facts, line)


def _said(tested: Tested, policy: PromotionPolicy, facts: dict[str, Any], line: str) -> tuple[Verdict, str]:
    """The verdict on the metric alone, in words that begin with its figures."""
    found = facts["primary"]
    split, gained = found["scale"] == "log ratio", -found["effect"] if found["lower"] else found["effect"]
    if tested.worse:
        fault = (
            "; so large a loss is mostly a fault of that arm or its log" if split and tested.high < -IMPLAUSIBLE else ""
        )
        return Verdict.REJECT, f"{line}: worse ({tested.loss_words}){fault}"
    if tested.better and split and tested.low > IMPLAUSIBLE:
        facts["void"] = f"{line}: no product has seen such a gain, so it is a fault in the data, not in people"
        return Verdict.INCONCLUSIVE, facts["void"]
    if tested.better and gained >= policy.min_effect:
        return Verdict.PROMOTE, f"{line}: a gain ({tested.gain_words} at alpha {found['level']:.2g})"
    if tested.better:
        facts["small"] = policy.min_effect
        return Verdict.INCONCLUSIVE, f"{line}: a gain, but smaller than min_effect {policy.min_effect:g}"
    return Verdict.INCONCLUSIVE, f"{line}: no significant gain ({tested.gain_words})"


def _tested(
    found: Estimate,
    evidence: LiveEvidence,
    policy: PromotionPolicy,
    levels: Levels,
    expected: float,
    facts: dict[str, Any],
) -> Tested:
    if levels.once:
        return at_the_end(found, levels)
    if not policy.looks:
        return at_any_time(found, levels, expected)
    if not due(policy.looks, evidence.looks, evidence.days, policy.max_days):
        days = sorted(share * policy.max_days for share in policy.looks)
        facts["next_look"] = next((day for day in days if day > evidence.days), None)
        return at_any_time(found, levels, expected).waiting(facts["next_look"])
    taken = (*evidence.looks, Look(evidence.days, 1 / max(found.standard_error, 1e-12) ** 2))
    facts["looks"] = [asdict(look) for look in taken]
    return at_a_look(found, levels, expected, taken, policy.max_days)


def _early(evidence: LiveEvidence, policy: PromotionPolicy) -> tuple[str, ...]:
    """A doubt before `min_days` are over: weekdays differ, and people click what is new because it is new."""
    if evidence.days >= policy.min_days:
        return ()
    return (f"{evidence.days:.1f} days; {policy.min_days:g} are the least for a promotion",)


def _narrow(evidence: LiveEvidence, policy: PromotionPolicy) -> tuple[str, ...]:
    """A doubt where the gain rests on the most active users; see `flywheel.gates.doubts`."""
    if evidence.steady is None or policy.live_metric not in evidence.metrics:
        return ()
    arms, steady = adjusted(evidence.metrics[policy.live_metric], policy), adjusted(evidence.steady, policy)
    sign = -1.0 if policy.live_metric in policy.lower else 1.0  # with the arms exchanged, less is a gain
    found = rests_on_busiest(arms[::-1], steady[::-1]) if sign < 0 else rests_on_busiest(arms, steady)
    if found is None:
        return ()
    whole, rest = (math.expm1(sign * found.effect) for found in (found.whole, found.rest))
    return (
        f"less than a third of the gain of {whole:+.2%} is left without the most active twentieth of users: "
        f"{rest:+.2%} ± {found.rest.standard_error:.2%} (a gain that all share looks so in {found.mistaken:.1%})",
    )


def _clickbait(evidence: LiveEvidence, policy: PromotionPolicy) -> tuple[str, ...]:
    """A line where clicks rise, the live metric falls (one-sided 5 %), and the two differ by more than chance.

    It explains a verdict and decides none. Satisfied users have clicked, so the two errors are correlated: adding their
    squares is on the safe side.
    """
    if policy.live_metric in {"ctr", *policy.lower} or not {"ctr", policy.live_metric} <= evidence.metrics.keys():
        return ()
    clicks, metric = (compare(*adjusted(evidence.metrics[name], policy)) for name in ("ctr", policy.live_metric))
    if isinstance(clicks, Inconclusive) or isinstance(metric, Inconclusive):
        return ()
    apart = Estimate(clicks.effect - metric.effect, math.hypot(clicks.standard_error, metric.standard_error))
    if clicks.effect <= 0 or metric.p_loss() > 0.05 or apart.p_gain() > 0.05:
        return ()
    return (
        f"clickbait: clicks {clicks.effect:+.2%} ± {clicks.standard_error:.2%},"
        f" {policy.live_metric} {metric.effect:+.2%} ± {metric.standard_error:.2%}",
    )


def _facts(evidence: LiveEvidence, alpha: float) -> dict[str, Any]:
    arms = {name: {"champion": a.as_dict(), "challenger": b.as_dict()} for name, (a, b) in evidence.metrics.items()}
    return {
        "alpha": alpha,
        "metrics": arms,
        "steady": evidence.steady
        and {"champion": evidence.steady[0].as_dict(), "challenger": evidence.steady[1].as_dict()},
        "preference": evidence.preference and evidence.preference.as_dict(),
        "users": dict(evidence.users),
        "shares": dict(evidence.shares),
        "crossed": evidence.crossed,
        "days": evidence.days,
        "looks": [asdict(look) for look in evidence.looks],
    }
