"""Checks that the split sent each arm its share of users. If it did not, nothing measured on it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Users counted against users asked for. `deviation` is the largest relative one of any arm."""

    p_value: float
    deviation: float
    mismatch: bool
    reason: str


def sample_ratio(
    users: Mapping[str, int], shares: Mapping[str, float], *, level: float, min_deviation: float = 0.002
) -> SampleRatio:
    """Chi-squared test on users by arm. A mismatch also needs `min_deviation`: with millions of users any p is tiny.

    Pearson (1900); Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", §3, for
    the level. `shares` need not add up to 1.

    Raises:
        ValueError: an arm has no share above 0.
    """
    if set(users) - set(shares) or min(shares.values(), default=0.0) <= 0:
        raise ValueError(f"every arm needs a share above 0: users {dict(users)}, shares {dict(shares)}")
    total, whole = sum(users.values()), sum(shares.values())
    if total == 0 or len(shares) < 2:
        return SampleRatio(1.0, 0.0, mismatch=False, reason="no users in two arms yet")
    asked = {arm: total * share / whole for arm, share in shares.items()}
    counted = {arm: users.get(arm, 0) for arm in shares}
    statistic = sum((counted[arm] - asked[arm]) ** 2 / asked[arm] for arm in shares)
    p_value = float(special.chdtrc(len(shares) - 1, statistic))
    deviation = max(abs(counted[arm] / asked[arm] - 1) for arm in shares)
    mismatch = p_value < level and deviation > min_deviation
    figures = ", ".join(f"{arm} {counted[arm]} of {asked[arm]:.0f} asked" for arm in shares)
    reason = f"users by arm: {figures} (chi-squared p {p_value:.2g}, {deviation:.2%} off)"
    return SampleRatio(p_value, deviation, mismatch, f"sample ratio mismatch: {reason}" if mismatch else reason)
