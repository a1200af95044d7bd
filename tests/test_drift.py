"""The drift distance is 0 for the same mixture, 1 for nothing in common, and the formula's own value in between."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.drift import jensen_shannon


def test_the_distance_runs_from_the_same_to_nothing_in_common() -> None:
    """Counts are normalised, and disjoint queries are as far apart as can be."""
    assert jensen_shannon(np.array([1.0, 3.0]), np.array([10.0, 30.0])) == pytest.approx(0, abs=1e-8)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == pytest.approx(1)


def test_the_distance_is_the_root_of_the_mean_divergence_to_the_mixture() -> None:
    """It equals the definition computed by hand."""
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    mixture = (p + q) / 2
    divergence = 0.5 * (p * np.log2(p / mixture)).sum() + 0.5 * (q * np.log2(q / mixture)).sum()
    assert jensen_shannon(p, q) == pytest.approx(np.sqrt(divergence))


def test_nothing_to_compare_is_an_error() -> None:
    """An empty count is no distribution."""
    with pytest.raises(ValueError, match="count"):
        jensen_shannon(np.zeros(2), np.ones(2))
