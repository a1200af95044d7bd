"""Precision of a population from a stratified sample of it, and what may be claimed of it. It draws no sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from flywheel.stats.estimate import Inconclusive

CONFIDENCE = 0.9
LEAST_ANSWERS = 10


@dataclass(frozen=True, slots=True)
class Stratum:
    """`size` units of which `answered` were drawn at random and judged; `right` of these hold."""

    size: int
    answered: int
    right: int


@dataclass(frozen=True, slots=True)
class Share:
    """The estimated `share` that holds, and its one-sided lower bound. `answers` judged units stand for `units`."""

    share: float
    bound: float
    confidence: float
    answers: int
    units: int


def share_that_holds(strata: Sequence[Stratum], confidence: float = CONFIDENCE) -> Share | Inconclusive:
    """Each answer counts as the inverse of its chance to be drawn and answered: size / answered of its stratum.

    Horvitz & Thompson (JASA 1952, eq. 4), with the variance of a stratified sample without replacement (Cochran,
    Sampling Techniques, 1977, eq. 5.12). A stratum's variance takes one answer more, as good as the estimate, so that
    few equal answers are not taken for certain. The bound is Clopper and Pearson's with the effective number of answers
    (Korn & Graubard, Survey Methodology 1998, section 2). Strata without an answer are left out of `units`.
    """
    told = [stratum for stratum in strata if stratum.answered > 0]
    answers, units = sum(stratum.answered for stratum in told), sum(stratum.size for stratum in told)
    if answers < LEAST_ANSWERS:
        return Inconclusive(f"{answers} answered pairs are too few for an estimate; it takes {LEAST_ANSWERS}")
    share = sum(stratum.size * stratum.right / stratum.answered for stratum in told) / units
    if all(stratum.answered == stratum.size for stratum in told):
        return Share(share, share, confidence, answers, units)
    variance = 0.0
    for stratum in told:
        near = (stratum.right + share) / (stratum.answered + 1)
        unseen = 1 - stratum.answered / stratum.size
        variance += (stratum.size / units) ** 2 * unseen * near * (1 - near) / max(1, stratum.answered - 1)
    return Share(share, _lower(share, variance, answers, len(told), confidence), confidence, answers, units)


def _lower(share: float, variance: float, answers: int, strata: int, confidence: float) -> float:
    """Clopper and Pearson's lower bound of `share` among as many answers as have that variance."""
    if share <= 0:
        return 0.0
    # where all are right the sample shows no variance, and counts as it is
    effective = float(answers) if share >= 1 else share * (1 - share) / variance
    degrees = max(1, answers - strata)
    normal = special.stdtrit(max(1, answers - 1), confidence) / special.stdtrit(degrees, confidence)
    effective *= float(normal) ** 2
    right = share * effective
    return min(share, float(special.betaincinv(right, effective - right + 1, 1 - confidence)))
