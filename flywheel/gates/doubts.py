"""What speaks against a gain: guardrails that broke or may have, and the busiest users, where they alone gain.

The busiest are few, and one bot among them can carry a gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.gates.decision import Guardrail, PromotionPolicy
from flywheel.gates.levels import Levels, beside
from flywheel.gates.scores import lost
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.ratio import ArmSums, compare, log_ratio
from flywheel.stats.sequential import e_gain
from flywheel.stats.subset import covariance, falls_below

Arms = tuple[ArmSums, ArmSums]
LEAST_LEFT = 1 / 3


@dataclass(frozen=True, slots=True)
class Busiest:
    """A gain of which less than a third is left without the busiest users. Effects are logarithms of ratios.

    `mistaken`: the chance that a gain of this size which everybody shares looks as if it came from them.
    """

    whole: Estimate
    rest: Estimate
    mistaken: float


def rests_on_busiest(whole: Arms, rest: Arms) -> Busiest | None:
    """The doubt, or None where there is none. `rest` are the same arms without the twentieth who saw the most pages.

    It binds where less than `LEAST_LEFT` of the gain is left without them. Where nobody is busier than the others
    nobody is left out, and it never binds. Of gains that everybody shares and a plain test finds, it holds back
    about one in a hundred (`benchmarks/arms.py`, heavy-tailed users at z = 2.5); to ask for half of the gain would hold
    back one in twenty-five.
    """
    if all(some.users == every.users for some, every in zip(rest, whole, strict=True)):
        return None
    found, left = log_ratio(*whole), log_ratio(*rest)
    if isinstance(found, Inconclusive) or isinstance(left, Inconclusive) or found.effect <= 0:
        return None
    if left.effect >= LEAST_LEFT * found.effect:
        return None
    if min(arm.value for arm in (*whole, *rest)) <= 0:
        return Busiest(found, left, 0.0)
    shared = covariance(whole, rest)
    return Busiest(found, left, falls_below(LEAST_LEFT, found.effect, found, left, shared))


def guardrails(
    metrics: Mapping[str, Arms], policy: PromotionPolicy, levels: Levels, facts: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Guardrails that are surely broken (`levels.loss` is shared among them all), and those in doubt.

    `facts["guardrails"]` gets the figures of each.
    """
    tripped, unsure = [], []
    results: dict[str, dict[str, float | bool]] = {}
    facts["guardrails"] = results
    measured = [guard for guard in policy.guardrails if guard.metric in metrics]
    level = levels.loss / max(1, len(measured))
    for guard in measured:
        champion, challenger = adjusted(metrics[guard.metric], policy)
        moved = compare(*_downhill(guard, champion, challenger), relative=False)
        beyond = _beyond(guard, champion, challenger)
        few = min(champion.users, challenger.users) < policy.min_users
        if isinstance(beyond, Inconclusive) or few:
            continue
        tolerated = _tolerated(guard, champion)
        line = (
            f"guardrail {guard.metric}: {champion.ratio:.4g} to {challenger.ratio:.4g}, more than the tolerated "
            f"{'fall' if guard.falls else 'rise'} of {tolerated:.4g}"
        )
        e_value, p_value = e_gain(beyond, expected=tolerated or policy.expected_gain), beyond.p_gain()
        broken = p_value <= level if levels.once else e_value >= 1 / level
        results[guard.metric] = {"tolerated": tolerated, "e_value": e_value, "broken": broken}
        if broken and levels.once:
            tripped.append(f"{line} (p {beside(p_value, level)} needed)")
        elif broken:
            tripped.append(f"{line} (e-value {beside(e_value, 1 / level)} needed)")
        elif _perhaps(moved, tolerated, policy.loss_level):
            unsure.append(f"{line}, though not yet for sure")
    return tuple(tripped), tuple(unsure)


def adjusted(arms: Arms, policy: PromotionPolicy) -> Arms:
    """The arms, without what users did before where the policy does not take it into account."""
    return arms if policy.cuped else (arms[0].without_before(), arms[1].without_before())


def _downhill(guard: Guardrail, champion: ArmSums, challenger: ArmSums) -> Arms:
    """In the order in which a difference above 0 is for the worse."""
    return (challenger, champion) if guard.falls else (champion, challenger)


def _perhaps(found: Estimate | Inconclusive, tolerated: float, level: float) -> bool:
    """Whether it may be worse by more than what is tolerated; never, where users do not differ at all."""
    if isinstance(found, Inconclusive):
        return False
    return lost(Estimate(-found.effect, found.standard_error, found.degrees), tolerated, level)


def _tolerated(guard: Guardrail, champion: ArmSums) -> float:
    return max(guard.margin * abs(champion.ratio), guard.floor)


def _beyond(guard: Guardrail, champion: ArmSums, challenger: ArmSums) -> Estimate | Inconclusive:
    """How much worse than tolerated it became."""
    # a margin that is a share of the champion's rate has that rate's error, so the rate is scaled before comparing
    if guard.margin * abs(champion.ratio) > guard.floor:
        margin = -guard.margin if guard.falls else guard.margin
        least = champion.scaled(1 + margin)
        return compare(*_downhill(guard, least, challenger), relative=False, cautious=True)
    worse = compare(*_downhill(guard, champion, challenger), relative=False, cautious=True)
    if isinstance(worse, Inconclusive):
        return worse
    return Estimate(worse.effect - guard.floor, worse.standard_error, worse.degrees)
