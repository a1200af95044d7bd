"""The doubt about a gain that only the busiest users have: they are few, and one bot among them can carry it."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.ratio import ArmSums, log_ratio
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
