"""Sample ratio mismatch."""

import numpy as np
import pytest
from gbstats.utils import check_srm  # type: ignore[import-untyped]

from flywheel.gates.void import SRM_LEVEL
from flywheel.stats.srm import sample_ratio


def test_equals_gbstats() -> None:
    """The p-value is gbstats' for unequal shares of three arms."""
    users, shares = {"a": 9_870, "b": 5_100, "c": 5_020}, {"a": 0.5, "b": 0.25, "c": 0.25}
    theirs = check_srm(list(users.values()), list(shares.values()))
    assert sample_ratio(users, shares, level=SRM_LEVEL).p_value == pytest.approx(theirs, rel=1e-9)


def test_clean_splits_raise_no_alarm() -> None:
    """Clean splits of 200,000 users alarm in less than one of a hundred runs; one percent off is caught in most."""
    rng = np.random.default_rng(0)

    def alarms(share: float) -> float:
        drawn = rng.binomial(200_000, share, 1_000)
        found = [
            sample_ratio({"a": int(n), "b": int(200_000 - n)}, {"a": 1, "b": 1}, level=SRM_LEVEL).mismatch
            for n in drawn
        ]
        return sum(found) / 1_000

    assert alarms(0.5) <= 0.005
    assert alarms(0.505) >= 0.8
    assert alarms(0.51) == 1.0


def test_tiny_deviation_is_no_mismatch() -> None:
    """With a hundred million users a deviation of 0.1 % has a tiny p-value, and voids nothing."""
    found = sample_ratio({"a": 50_050_000, "b": 49_950_000}, {"a": 1, "b": 1}, level=SRM_LEVEL)
    assert found.p_value < 1e-6
    assert not found.mismatch


def test_missing_arm_is_a_mismatch() -> None:
    """An arm that got nobody at all is the worst mismatch, not one to leave out."""
    assert sample_ratio({"a": 500}, {"a": 1, "b": 1}, level=SRM_LEVEL).mismatch


def test_unknown_arm_is_an_error() -> None:
    """Users in an arm that nobody asked for cannot be judged."""
    with pytest.raises(ValueError, match="share"):
        sample_ratio({"a": 1, "x": 1}, {"a": 1}, level=SRM_LEVEL)
