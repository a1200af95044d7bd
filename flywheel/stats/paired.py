"""Two models on the same queries: the mean difference, grouped by user or query, from ten sums that SQL can keep.

It tests pairs alone; for arms with different users see `flywheel.stats.ratio`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Estimate, Inconclusive

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedSums:
    """Sums over groups. A group has n queries, and the sums x and y of the champion's and the challenger's scores.

    Adding two records merges disjoint groups.
    """

    groups: int = 0
    queries: float = 0.0
    queries_squared: float = 0.0
    champion: float = 0.0
    champion_squared: float = 0.0
    challenger: float = 0.0
    challenger_squared: float = 0.0
    champion_challenger: float = 0.0
    champion_queries: float = 0.0
    challenger_queries: float = 0.0

    @classmethod
    def of(cls, champion: Scores, challenger: Scores, groups: npt.ArrayLike | None = None) -> PairedSums:
        """From one score per query, float64 (queries,) each; a query without a score (nan) of either model drops out.

        `groups` (queries,) names who asked, or what else makes queries dependent; None: every query stands alone.
        """
        scored = ~(np.isnan(champion) | np.isnan(challenger))
        names = np.arange(len(scored)) if groups is None else np.asarray(groups)
        _, group = np.unique(names[scored], return_inverse=True)
        n = np.bincount(group).astype(np.float64)
        x = np.bincount(group, weights=champion[scored]).astype(np.float64)
        y = np.bincount(group, weights=challenger[scored]).astype(np.float64)
        return cls.of_groups(n, x, y)

    @classmethod
    def of_groups(cls, n: Scores, x: Scores, y: Scores) -> PairedSums:
        """From each group's queries (or pages) and totals under champion and challenger, float64 (groups,) each."""
        return cls(
            groups=len(n),
            queries=float(n.sum()),
            queries_squared=float(n @ n),
            champion=float(x.sum()),
            champion_squared=float(x @ x),
            challenger=float(y.sum()),
            challenger_squared=float(y @ y),
            champion_challenger=float(x @ y),
            champion_queries=float(x @ n),
            challenger_queries=float(y @ n),
        )

    def __add__(self, other: PairedSums) -> PairedSums:
        return PairedSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def as_dict(self) -> dict[str, float]:
        """The sums by name, for the record of a decision."""
        return asdict(self)

    def compare(self) -> Estimate | Inconclusive:
        """Mean over queries of challenger minus champion, with an error that allows for groups of dependent queries.

        The mean is a ratio of group sums D/N; its variance is the delta method's, G/(G-1) sum (d_g - mean n_g)^2 / N^2:
        Deng, Knoblich & Lu (2018), "Applying the Delta Method in Metric Analytics", §3.1, with G - 1 degrees of
        freedom. With one query a group it is the paired t-test (Student 1908).
        """
        if self.groups < 2:
            return Inconclusive(f"{self.groups} judged groups of queries; two are the least that have a spread")
        mean = (self.challenger - self.champion) / self.queries
        squares = self.challenger_squared - 2 * self.champion_challenger + self.champion_squared
        cross = self.challenger_queries - self.champion_queries
        spread = max(0.0, squares - 2 * mean * cross + mean * mean * self.queries_squared)
        # where every query moved alike, differences of large sums leave only rounding: that is no spread
        spread = 0.0 if spread < 1e-12 * (self.champion_squared + self.challenger_squared) else spread
        variance = spread * self.groups / (self.groups - 1) / self.queries**2
        return Estimate(effect=mean, standard_error=float(np.sqrt(variance)), degrees=self.groups - 1)


@dataclass(frozen=True, slots=True)
class SignFlips:
    """The one-sided p-value of a gain by flipping signs, and the smallest that so many groups which moved allow.

    `least` does not depend on the signs, so that a test which cannot win is known before it is made.
    """

    p_gain: float
    least: float
    moved: int


def flip_signs(
    champion: Scores, challenger: Scores, groups: npt.ArrayLike | None, rng: np.random.Generator
) -> SignFlips:
    """The exact test of "the difference is symmetric about 0": fit for few queries, many of which do not move.

    Each group's total difference keeps its size and gets either sign: Fisher (1935), "The Design of Experiments", §21;
    Pitman (1937), "Significance tests which may be applied to samples from any populations". Up to 40 groups that moved
    it counts every assignment, by sorting the sums of one half against those of the other. Above, it is 99,999 draws
    and the one that was seen: Phipson & Smyth (2010), "Permutation p-values should never be zero".
    """
    scored = ~(np.isnan(champion) | np.isnan(challenger))
    names = np.arange(len(scored)) if groups is None else np.asarray(groups)
    difference = (challenger - champion)[scored]
    _, group = np.unique(names[scored], return_inverse=True)
    totals = np.bincount(group, weights=difference) if len(group) else np.zeros(0)
    # what is left of a difference that cancels is rounding, and no move
    totals = totals[np.abs(totals) > 1e-12 * max(1.0, float(np.abs(totals).max(initial=0.0)))]
    moved = len(totals)
    reached = float(totals.sum()) - 1e-9 * float(np.abs(totals).sum())  # sums of equal sizes are equal to rounding
    sizes = np.abs(totals)
    if moved <= 2 * _HALF:
        left, right = _signed(sizes[: moved // 2]), np.sort(_signed(sizes[moved // 2 :]))
        found = int((len(right) - np.searchsorted(right, reached - left)).sum())
        p_value = found / 2**moved
    else:
        found, draws = 0, 99_999
        for size in _parts(draws, moved):
            found += int((rng.choice((-1.0, 1.0), size=(size, moved)) @ sizes >= reached).sum())
        p_value = (found + 1) / (draws + 1)
    return SignFlips(p_value, 0.5**moved, moved)


_HALF = 20  # 2^20 sums are 8 MB


def _signed(sizes: Scores) -> Scores:
    """The sums of `sizes` under all assignments of signs, (2 ** len(sizes),)."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def bootstrap_interval(
    champion: Scores,
    challenger: Scores,
    rng: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    samples: int = 1_000,
    level: float = 0.95,
) -> tuple[float, float] | Inconclusive:
    """Percentile interval of the mean difference, drawing whole groups with replacement.

    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", eq. 13.4; groups as in Davison & Hinkley (1997) §3.8.
    """
    scored = ~(np.isnan(champion) | np.isnan(challenger))
    names = np.arange(len(scored)) if groups is None else np.asarray(groups)
    _, group = np.unique(names[scored], return_inverse=True)
    n = np.bincount(group).astype(np.float64)
    if len(n) < 2:
        return Inconclusive(f"{len(n)} judged groups of queries; two are the least that can be drawn again")
    d = np.bincount(group, weights=(challenger - champion)[scored])
    draws = (rng.integers(0, len(n), size=(size, len(n)), dtype=np.int32) for size in _parts(samples, len(n)))
    means = np.concatenate([d[drawn].sum(axis=1) / n[drawn].sum(axis=1) for drawn in draws])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _parts(samples: int, groups: int, cells: int = 4_000_000) -> Iterator[int]:
    """Sizes of batches that add up to `samples`; at most `cells` draws at a time bound the memory."""
    step = max(1, cells // max(1, groups))
    yield from (min(step, samples - start) for start in range(0, samples, step))
