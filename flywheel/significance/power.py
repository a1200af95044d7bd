"""How many users or judged queries an effect needs, before anybody waits for them."""

from __future__ import annotations

import math

from scipy import special

from flywheel.significance.ratio import ArmSums
from flywheel.significance.sequential import z_to_win


def users_per_arm(arm: ArmSums, effect: float, *, alpha: float = 0.05, power: float = 0.8, watched: bool = True) -> int:
    """Users in each of two equal arms to find a relative `effect`, one-sided, from sums of a run or a past week.

    Lachin (1981), "Introduction to sample size determination", eq. 1, with the delta-method spread; `watched` takes the
    bound of the e-value at that size instead of the fixed-size z, since the experiment is looked at every day.

    Raises:
        ValueError: no effect, or an arm without pages or clicks.
    """
    if effect <= 0 or arm.users < 2 or arm.value <= 0:
        raise ValueError("planning needs an effect above 0 and an arm with at least two users and a value above 0")
    spread = arm.spread() * 2 / arm.ratio**2
    need = float(special.ndtri(power))

    def size(z: float) -> int:
        return max(2, math.ceil(spread * ((z + need) / effect) ** 2))

    users = size(float(special.ndtri(1 - alpha)))
    for _ in range(50 if watched else 0):
        again = size(z_to_win(math.sqrt(spread / users), expected=effect, alpha=alpha))
        if again == users:
            break
        users = again
    return users


def judged_queries(standard_deviation: float, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Judged queries to find a mean difference of `effect`, given the standard deviation of a query's difference.

    Lachin (1981), eq. 1, one sample, one-sided.
    """
    if effect <= 0 or standard_deviation <= 0:
        raise ValueError("planning needs an effect and a standard deviation above 0")
    z = float(special.ndtri(1 - alpha) + special.ndtri(power))
    return max(2, math.ceil((z * standard_deviation / effect) ** 2))
