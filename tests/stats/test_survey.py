"""What a sample may claim of a population, against populations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flywheel.stats.estimate import Inconclusive
from flywheel.stats.survey import Share, Stratum, share_that_holds

WORLDS = [
    ((2000, 500, 200, 50), (0.99, 0.93, 0.8, 0.6), 200),
    ((2000, 500, 200, 50), (0.99, 0.93, 0.8, 0.6), 60),
    ((5000, 3000), (0.9, 0.7), 300),
    ((60, 40, 30), (0.95, 0.9, 0.8), 60),
    ((800, 700, 600, 300, 100, 80, 50, 20), (0.99, 0.98, 0.97, 0.95, 0.9, 0.9, 0.85, 0.7), 150),
]


def sampled(sizes: tuple[int, ...], rates: tuple[float, ...], n: int, rng: np.random.Generator) -> tuple[float, Share]:
    """A population drawn by the rates, a sample of it with unequal shares, and the estimate."""
    people = [rng.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]
    worth = np.array([size * np.sqrt(rate * (1 - rate) + 0.01) for size, rate in zip(sizes, rates, strict=True)])
    strata = []
    for size, units, share in zip(sizes, people, worth / worth.sum(), strict=True):
        drawn = int(min(size, max(2, round(n * share))))
        strata.append(Stratum(size, drawn, int(rng.choice(units, drawn, replace=False).sum())))
    found = share_that_holds(strata)
    assert isinstance(found, Share)
    return float(np.concatenate(people).mean()), found


@pytest.mark.parametrize(("sizes", "rates", "n"), WORLDS)
def test_the_bound_holds_as_often_as_it_says(sizes: tuple[int, ...], rates: tuple[float, ...], n: int) -> None:
    """In 1,000 populations the estimate is right on average, and the truth above the 90 % bound in 87 % at least."""
    rng = np.random.default_rng(1)
    found = [sampled(sizes, rates, n, rng) for _ in range(1_000)]
    assert np.mean([share.share - truth for truth, share in found]) == pytest.approx(0, abs=0.004)
    assert np.mean([share.bound <= truth for truth, share in found]) >= 0.87
    tight = np.mean([truth - share.bound for truth, share in found])
    assert tight < 0.1, "else a bound of 0 would pass"


def test_one_large_stratum_is_the_plain_bound() -> None:
    """Of a stratum without end the bound is Clopper and Pearson's, as scipy has it, within a hundredth."""
    for right in (60, 90, 95, 99, 100):
        found = share_that_holds([Stratum(10**9, 100, right)])
        low = binomtest(right, 100).proportion_ci(0.8, "exact").low
        assert isinstance(found, Share)
        assert found.bound == pytest.approx(low, abs=0.01)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8))
def test_a_bound_is_never_above_its_estimate(rows: list[tuple[int, int, int]]) -> None:
    """Whatever the strata, 0 ≤ bound ≤ estimate ≤ 1; all judged and the estimate is the bound; few answers, none."""
    strata = [Stratum(size, min(size, n), min(size, n, right)) for size, n, right in rows]
    found = share_that_holds(strata)
    if isinstance(found, Inconclusive):
        assert sum(stratum.answered for stratum in strata) < 10
        return
    assert 0 <= found.bound <= found.share <= 1
    if all(stratum.answered == stratum.size for stratum in strata):
        assert found.bound == found.share
    assert found.units == sum(stratum.size for stratum in strata if stratum.answered)
