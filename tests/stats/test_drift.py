"""Drift: scipy's distance, silence on samples of one source, an alarm on a shift."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from flywheel.stats.drift import jensen_shannon, query_drift


def test_equals_scipy() -> None:
    """The distance is scipy's, base 2."""
    then, now = np.array([5.0, 0.0, 3.0, 9.0]), np.array([1.0, 4.0, 0.0, 7.0])
    assert jensen_shannon(then, now).distance == pytest.approx(jensenshannon(then, now, base=2))
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])).distance == pytest.approx(1.0)


def test_one_source_is_noise() -> None:
    """Two samples of one source differ by the noise that is expected, so the excess stays small."""
    rng = np.random.default_rng(0)
    source = rng.dirichlet(np.full(50, 2.0))
    found = [jensen_shannon(*(rng.multinomial(n, source).astype(float) for n in (2_000, 500))) for _ in range(200)]
    assert np.mean([d.distance**2 for d in found]) == pytest.approx(np.mean([d.noise**2 for d in found]), rel=0.1)
    assert np.mean([d.excess > 0.15 for d in found]) == 0.0


def test_new_queries_are_drift() -> None:
    """A third of the traffic moving to queries never asked before is far beyond the noise."""
    then = {f"q{n}": 30.0 for n in range(60)}
    now = {**dict.fromkeys(then, 20.0), **{f"new{n}": 30.0 for n in range(20)}}
    assert query_drift(then, now).excess > 0.3
    assert query_drift(then, {name: 2 * count for name, count in then.items()}).excess == 0.0


def test_nothing_counted_is_an_error() -> None:
    """A side without queries has no distribution to compare."""
    with pytest.raises(ValueError, match="buckets"):
        jensen_shannon(np.zeros(3), np.ones(3))
