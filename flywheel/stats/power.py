"""How many users or judged queries an effect needs, before anybody waits for them. It judges no results."""

from __future__ import annotations

import math

from scipy import special

from flywheel.stats.ratio import ArmSums
from flywheel.stats.sequential import z_to_win

POINT = 0.01
"""The gain that is planned for where nobody has set a smallest one that matters."""
USUAL_SPREAD = 0.16
"""The usual standard deviation of a query's difference after fine-tuning on clicks, until a verdict has measured it."""
POWER = 0.8  # chance to find the effect if it is there: the usual one (Cohen 1988, "Statistical power analysis", 2.4)


def users_per_arm(
    arm: ArmSums,
    effect: float,
    *,
    alpha: float,
    power: float = POWER,
    watched: bool = True,
    expected: float | None = None,
) -> int:
    """Users in each of two equal arms to find a relative `effect`, one-sided, from sums of a run or a past week.

    Lachin (1981), "Introduction to sample size determination", eq. 1, with the delta-method spread of the logarithm.
    `watched`: the experiment is looked at every day, so the bound is the e-value's at that size instead of the
    fixed-size z. `expected` is the effect that the e-value is tuned to (None: this one).

    Raises:
        ValueError: no effect, an arm without pages or clicks, or one in which everybody did the same.
    """
    if effect <= 0 or arm.users < 2 or arm.value <= 0:
        raise ValueError("planning needs an effect above 0 and an arm with at least two users and a value above 0")
    if arm.spread() <= 0:
        raise ValueError("everybody did the same share so far, so nothing says how much people vary")
    spread = math.sqrt(arm.spread() * 2) / arm.ratio
    return _units(spread, math.log1p(effect), alpha, power, (expected or effect) if watched else None)


def users_to_find(
    effect: float, *, standard_error: float, users: int, alpha: float, expected: float | None = None
) -> int:
    """Users in the smaller arm at which a test like one that has run finds `effect` with the usual power, one-sided.

    Lachin (1981), eq. 1, with the error that `users` gave: it falls with the square root of users. `effect` is on the
    estimate's scale, and should be the smallest that matters, not the one that was seen (Hoenig & Heisey 2001, "The
    abuse of power"). `expected`: the test may be looked at any time, tuned to that effect.
    """
    return _units(standard_error * math.sqrt(users), effect, alpha, POWER, expected)


def preferring_users(
    preference: float, *, alpha: float, power: float = POWER, expected: float | None = None, spread: float = 1.0
) -> int:
    """How many users with a preference an interleaving needs to find a mean `preference`, with looks at any time.

    Lachin (1981), eq. 1, one sample, one-sided. A preference lies between -1 and 1, so that its standard deviation is
    at most 1, the default `spread`. For users with one click each it is nearly that.

    Raises:
        ValueError: no preference, or one above 1.
    """
    if not 0 < preference <= 1:
        raise ValueError("planning needs a preference above 0 and at most 1")
    return _units(spread, preference, alpha, power, expected or preference)


def _units(spread: float, effect: float, alpha: float, power: float, expected: float | None) -> int:
    """Units that find an effect whose standard error is `spread` over the square root of units."""
    need = float(special.ndtri(power))

    def size(z: float) -> int:
        return max(2, math.ceil((spread * (z + need) / effect) ** 2))

    units = size(float(special.ndtri(1 - alpha)))
    # the e-value's bound depends on the size, and the size on the bound: iterate to the fixed point
    for _ in range(0 if expected is None else 50):
        again = size(z_to_win(spread / math.sqrt(units), expected=expected or effect, alpha=alpha))
        if again == units:
            break
        units = again
    return units


def judged_queries(standard_deviation: float, effect: float, *, alpha: float, power: float = POWER) -> int:
    """Judged queries to find a mean difference of `effect`, given the standard deviation of a query's difference.

    Lachin (1981), eq. 1, one sample, one-sided.
    """
    if effect <= 0 or standard_deviation <= 0:
        raise ValueError("planning needs an effect and a standard deviation above 0")
    return _units(standard_deviation, effect, alpha, power, None)


def smallest_gain(standard_deviation: float, queries: int, *, alpha: float, power: float = POWER) -> float:
    """The reverse of `judged_queries`: the mean difference that so many judged queries find."""
    if queries < 2 or standard_deviation <= 0:
        raise ValueError("planning needs two queries at least, and a standard deviation above 0")
    return float((special.ndtri(1 - alpha) + special.ndtri(power)) * standard_deviation / math.sqrt(queries))


def spread_limit(standard_deviation: float, degrees: float, *, confidence: float = 0.8) -> float:
    """The one-sided upper limit of a standard deviation that `degrees` degrees of freedom have measured.

    By the chi-square distribution of a variance. A size that is planned with it is enough in `confidence` of cases;
    with the standard deviation itself it is too small in half of them: Browne (1995), "On the use of a pilot sample for
    sample size determination". Scores with many ties have longer tails, and make it a guide.
    """
    if standard_deviation <= 0 or degrees < 1 or not 0 < confidence < 1:
        raise ValueError("a limit needs a standard deviation above 0, a degree of freedom, and 0 < confidence < 1")
    # chdtri is the inverse of the upper tail
    return float(standard_deviation * math.sqrt(degrees / special.chdtri(degrees, confidence)))
