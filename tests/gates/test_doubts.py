"""The doubt about gains of the busiest: whom it holds back, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.arms import heavy
from flywheel.gates.doubts import LEAST_LEFT, Arms, rests_on_busiest
from flywheel.stats.estimate import Estimate
from flywheel.stats.ratio import ArmSums, log_ratio
from flywheel.stats.subset import covariance, falls_below


def _arms(rng: np.random.Generator, gain: float = 0.0, heavy_gain: float = 0.0) -> tuple[Arms, Arms]:
    whole, rest = [], []
    for more in (0.0, 1.0):
        pages, clicks = heavy(rng, 0.1 * (1 + gain * more))
        clicks = clicks + np.where(pages > 8, rng.binomial(pages.astype(int), 0.1 * heavy_gain * more), 0)
        whole.append(ArmSums.of(clicks, pages))
        rest.append(ArmSums.of(clicks[pages <= 8], pages[pages <= 8]))
    return (whole[0], whole[1]), (rest[0], rest[1])


def test_it_binds_where_little_is_left_without_them() -> None:
    """Where only the busiest gain it mostly binds, and what it quotes is less than a third of the whole."""
    rng = np.random.default_rng(0)
    found = [rests_on_busiest(*_arms(rng, heavy_gain=1.5)) for _ in range(100)]
    bound = [one for one in found if one]
    assert len(bound) > 80
    assert all(one.rest.effect < LEAST_LEFT * one.whole.effect for one in bound)


def test_it_never_binds_where_nobody_is_left_out() -> None:
    """Equal arms of one page a user are never said to gain by their busiest."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        one, other = (ArmSums.of((rng.random(500) < 0.1).astype(float)) for _ in range(2))
        assert rests_on_busiest((one, other), (one, other)) is None


def test_its_chance_of_being_mistaken_is_that_of_a_simulation() -> None:
    """The covariance of whole and rest, and the chance that a shared gain looks like theirs, are what is drawn."""
    rng = np.random.default_rng(2)
    pairs, shared, below, told = [], [], 0, []
    for _ in range(1_500):
        whole, rest = _arms(rng, gain=0.15)
        found, left = log_ratio(*whole), log_ratio(*rest)
        assert isinstance(found, Estimate)
        assert isinstance(left, Estimate)
        pairs.append((found.effect, left.effect))
        shared.append(covariance(whole, rest))
        below += left.effect < LEAST_LEFT * found.effect
        told.append(falls_below(LEAST_LEFT, math.log(1.15), found, left, shared[-1]))
    assert np.mean(shared) == pytest.approx(np.cov(np.array(pairs).T)[0, 1], rel=0.15)
    assert np.mean(told) == pytest.approx(below / 1_500, abs=0.02)
