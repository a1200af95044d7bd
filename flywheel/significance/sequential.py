"""Tests that may be looked at whenever one likes: confidence sequences and e-values from an estimate and its error.

An asymptotic guarantee: it holds once the estimate is near normal, so nothing is decided below `min_users` users.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from flywheel.significance.estimate import Estimate


def e_gain(estimate: Estimate, *, expected: float) -> float:
    """E-value of "the effect is at most 0": above 1/alpha at any look, it is a gain at level alpha.

    One-sided normal mixture, Howard, Ramdas, McAuliffe & Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic
    confidence sequences", Prop. 6, over effects |N(0, `expected`^2)|: with z the effect in standard errors and
    v = (expected / standard error)^2,

        E = 2 (1 + v)^(-1/2) exp(z^2 v / (2 (1 + v))) Phi(z sqrt(v / (1 + v)))

    Time runs in information (1 / variance), not in users, so that users who come back do not break it. `expected` is
    the size of effect for which it waits least; any value is valid, as long as it is fixed beforehand.
    """
    if estimate.standard_error == 0:
        return 1.0
    v = (expected / estimate.standard_error) ** 2
    z = estimate.effect / estimate.standard_error
    log_e = math.log(2) - 0.5 * math.log1p(v) + z * z * v / (2 * (1 + v))
    log_e += float(special.log_ndtr(z * math.sqrt(v / (1 + v))))
    return math.exp(min(log_e, 700.0))


def e_loss(estimate: Estimate, *, expected: float) -> float:
    """The same for "the effect is at least 0"."""
    return e_gain(Estimate(-estimate.effect, estimate.standard_error, estimate.degrees), expected=expected)


def p_always(estimate: Estimate, *, expected: float) -> float:
    """Two-sided p-value of "no effect" that holds at every look.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory and asymptotic confidence
    sequences", eq. 155 of version 7, with rho^2 N = (expected / standard error)^2.
    """
    if estimate.standard_error == 0:
        return 1.0
    v = (expected / estimate.standard_error) ** 2
    z = estimate.effect / estimate.standard_error
    return min(1.0, math.sqrt(1 + v) * math.exp(-min(z * z * v / (2 * (1 + v)), 700.0)))


def sequence(estimate: Estimate, *, expected: float, level: float = 0.95) -> tuple[float, float]:
    """Confidence sequence: intervals that all cover the truth at once, with a chance of `level`.

    Waudby-Smith et al. (2024), eq. 9 of version 7, two-sided. Never narrower than the fixed interval.
    """
    alpha = 1 - level
    if estimate.standard_error == 0:
        return estimate.effect, estimate.effect
    v = (expected / estimate.standard_error) ** 2
    reach = estimate.standard_error * math.sqrt(2 * (1 + v) / v * math.log(math.sqrt(1 + v) / alpha))
    fixed = estimate.quantile(0.5 + level / 2) * estimate.standard_error
    reach = max(reach, fixed)
    return estimate.effect - reach, estimate.effect + reach


def expected_for(users: int, spread: float, *, alpha: float = 0.05) -> float:
    """The `expected` effect for which the sequence is narrowest at so many users, with `spread` the standard deviation
    of the estimate at one user (standard error times the square root of users).

    Waudby-Smith et al. (2024), eq. 161 of version 7: rho = sqrt((-2 log alpha + log(-2 log alpha + 1)) / users).
    """
    rho = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / users)
    return rho * spread


def z_to_win(standard_error: float, *, expected: float, alpha: float) -> float:
    """How many standard errors a gain has to be for `e_gain` to reach 1/alpha: for planning."""

    def short(z: float) -> float:
        return math.log(e_gain(Estimate(z * standard_error, standard_error), expected=expected)) + math.log(alpha)

    return float(optimize.brentq(short, 0.0, 50.0))
