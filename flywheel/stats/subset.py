"""Compares a ratio over all users with the same ratio over some of them, who count in both."""

from __future__ import annotations

import math

from scipy import special

from flywheel.stats.estimate import Estimate
from flywheel.stats.ratio import ArmSums

Arms = tuple[ArmSums, ArmSums]


def covariance(whole: Arms, part: Arms) -> float:
    """Covariance of the logarithm of the ratio over all users with the same over a `part` of them.

    Only users of the part contribute. Delta method, as in `flywheel.stats.ratio.log_ratio`: the linearised metric is
    (y - R x) / (R sum x), with each estimate's own R. Both arms need a value above 0.
    """
    total = 0.0
    for all_users, some in zip(whole, part, strict=True):
        rates = all_users.ratio + some.ratio
        product = some.value_squared - rates * some.value_pages + all_users.ratio * some.ratio * some.pages_squared
        total += product / (all_users.value * some.value)
    return total


def falls_below(share: float, effect: float, whole: Estimate, part: Estimate, shared: float) -> float:
    """The chance that the part's estimate is below a `share` of the whole's, where both have the same true `effect`.

    `shared` is their covariance. Normal approximation of part - share * whole, whose mean is (1 - share) * effect.
    """
    variance = part.standard_error**2 + (share * whole.standard_error) ** 2 - 2 * share * shared
    if variance <= 0:
        return 0.0
    return float(special.ndtr(-(1 - share) * effect / math.sqrt(variance)))
