"""How far people's queries have moved: distances between counts, and the part of them that chance explains.

It sets no threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """`distance` is the Jensen-Shannon distance, 0 to 1. `noise` is what two samples of one source would show."""

    distance: float
    noise: float

    @property
    def excess(self) -> float:
        """Distance beyond the noise: sqrt(max(0, distance^2 - noise^2)). Thresholds go by this."""
        return float(np.sqrt(max(0.0, self.distance**2 - self.noise**2)))


def jensen_shannon(then: Column, now: Column) -> Drift:
    """Between two vectors of counts over the same buckets, float64 (buckets,).

    Lin (1991), "Divergence measures based on the Shannon entropy", eq. 3.1, square root, base 2. Between two samples of
    one source its square is about chi-squared with (buckets - 1) degrees of freedom over 8 ln 2 n m / (n + m): its mean
    is the noise (Grosse et al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence", eq. 14).

    Raises:
        ValueError: different buckets, or nothing counted on one side.
    """
    n, m = float(then.sum()), float(now.sum())
    if then.shape != now.shape or n <= 0 or m <= 0:
        raise ValueError(
            f"two counts over the same buckets are needed, not {then.shape} with {n:g}, {now.shape} with {m:g}"
        )
    p, q = then / n, now / m
    middle = (p + q) / 2
    divergence = (_entropy_to(p, middle) + _entropy_to(q, middle)) / 2
    buckets = int(np.count_nonzero(then + now))
    noise = (buckets - 1) * (1 / n + 1 / m) / (8 * np.log(2))
    return Drift(float(np.sqrt(max(0.0, divergence))), float(np.sqrt(noise)))


def query_drift(then: Mapping[str, float], now: Mapping[str, float], *, buckets: int = 100) -> Drift:
    """Between counts by query: each of the most frequent is a bucket, and all the others share one.

    `then` and `now` together say which are frequent, so that a query that appears or dies out is seen.
    """
    names = sorted({*then, *now}, key=lambda name: (-(then.get(name, 0.0) + now.get(name, 0.0)), name))
    head, tail = names[:buckets], names[buckets:]

    def counts(of: Mapping[str, float]) -> Column:
        return np.array([*(of.get(name, 0.0) for name in head), sum(of.get(name, 0.0) for name in tail)])

    return jensen_shannon(counts(then), counts(now))


def _entropy_to(p: Column, q: Column) -> float:
    positive = p > 0
    return float(np.sum(p[positive] * np.log2(p[positive] / q[positive])))
