"""Tests that hold at any number of looks: confidence sequences and e-values from an estimate and its error.

The guarantee is asymptotic: callers must decide nothing before the estimate is near normal (`min_users`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize, special

from flywheel.stats.estimate import Estimate

Scales = tuple[tuple[float, float], ...]
# (multiple of the expected effect, weight): tuned to that effect, while few people are enough to find one ten times as
# large. It costs at most ln(1 / 0.6) of the log e-value where a single scale would have been right.
SCALES: Scales = ((1.0, 0.6), (4.0, 0.2), (16.0, 0.2))


def e_gain(estimate: Estimate, *, expected: float, scales: Scales = SCALES) -> float:
    """E-value of "the effect is at most 0": above 1/alpha at any look, it is a gain at level alpha.

    One-sided normal mixture, Howard, Ramdas, McAuliffe & Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic
    confidence sequences", Prop. 6, over effects |N(0, s^2)|: with z the effect in standard errors and
    v = (s / standard error)^2,

        E = 2 (1 + v)^(-1/2) exp(z^2 v / (2 (1 + v))) Phi(z sqrt(v / (1 + v)))

    averaged over s = `expected` times each of `scales`, by their weights: an average of e-values is an e-value (Vovk &
    Wang 2021, "E-values: calibration, combination and applications", Prop. 3.1). Time is information (1 / variance),
    not users, so that users who come back do not break it. `expected` is the size of effect that is found soonest; any
    value is valid that is fixed beforehand.
    """
    if estimate.standard_error == 0:
        return 1.0
    z = estimate.effect / estimate.standard_error

    def log_e(v: float) -> float:
        side = float(special.log_ndtr(z * math.sqrt(v / (1 + v))))
        return math.log(2) - 0.5 * math.log1p(v) + z * z * v / (2 * (1 + v)) + side

    return _average(log_e, expected / estimate.standard_error, scales)


def e_loss(estimate: Estimate, *, expected: float, scales: Scales = SCALES) -> float:
    """The same for "the effect is at least 0"."""
    mirrored = Estimate(-estimate.effect, estimate.standard_error, estimate.degrees)
    return e_gain(mirrored, expected=expected, scales=scales)


def lower_bound(estimate: Estimate, *, expected: float, level: float, scales: Scales = SCALES) -> float:
    """The smallest effect that no look has excluded: all below it are refuted at `level`, however often one looks.

    It inverts `e_gain`: it is above 0 exactly where that e-value exceeds 1 / `level`. The upper bound is the same of
    the mirrored estimate.
    """
    if estimate.standard_error == 0:
        return estimate.effect
    unit = expected / estimate.standard_error

    def short(z: float) -> float:
        return math.log(e_gain(Estimate(z, 1.0), expected=unit, scales=scales)) + math.log(level)

    z = float(optimize.brentq(short, -1.0, _farthest(unit, scales, level)))
    return estimate.effect - z * estimate.standard_error


def sequence(
    estimate: Estimate, *, expected: float, level: float = 0.95, scales: Scales = SCALES
) -> tuple[float, float]:
    """Confidence sequence: intervals that all cover the truth at once, with a chance of `level`.

    It holds every effect whose two-sided e-value is below 1 / (1 - level). With one scale it is Waudby-Smith et al.
    (2024), eq. 9 of version 7. It is never narrower than the fixed interval.
    """
    if estimate.standard_error == 0:
        return estimate.effect, estimate.effect
    unit = expected / estimate.standard_error

    def short(z: float) -> float:
        return math.log(_e_two_sided(z, unit, scales)) + math.log(1 - level)

    z = float(optimize.brentq(short, 0.0, _farthest(unit, scales, 1 - level)))
    reach = max(z, estimate.quantile(0.5 + level / 2)) * estimate.standard_error
    return estimate.effect - reach, estimate.effect + reach


def _e_two_sided(z: float, unit: float, scales: Scales) -> float:
    """Average over the scales of (1 + v)^(-1/2) exp(z^2 v / (2 (1 + v))), v = (`unit` * scale)^2."""
    return _average(lambda v: -0.5 * math.log1p(v) + z * z * v / (2 * (1 + v)), unit, scales)


def _average(log_e: Callable[[float], float], unit: float, scales: Scales) -> float:
    logs = [math.log(weight) + log_e((unit * scale) ** 2) for scale, weight in scales]
    return math.exp(min(float(special.logsumexp(logs)), 700.0))  # exp overflows a float64 above 709


def _farthest(unit: float, scales: Scales, alpha: float) -> float:
    """A z at which the two-sided e-value exceeds 1 / `alpha`: just beyond the one that its best scale alone needs."""
    return 1e-6 + min(
        math.sqrt(2 * (1 + v) / v * (0.5 * math.log1p(v) - math.log(weight * alpha)))
        for v, weight in (((unit * scale) ** 2, weight) for scale, weight in scales)
    )


def z_to_win(standard_error: float, *, expected: float, alpha: float) -> float:
    """How many standard errors a gain needs for `e_gain` to reach 1/alpha; for planning."""

    def short(z: float) -> float:
        return math.log(e_gain(Estimate(z * standard_error, standard_error), expected=expected)) + math.log(alpha)

    return float(optimize.brentq(short, 0.0, _farthest(expected / standard_error, SCALES, alpha)))
