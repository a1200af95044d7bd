"""Which earlier pairs to keep, and which queries share a step: choices only, by a seeded generator, no I/O."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def keep(time_ms: npt.NDArray[np.int64], cluster: Rows, *, size: int, seed: int, periods: int = 8) -> Rows:
    """At most `size` rows (sorted) spread evenly over strata: `periods` quantiles of time, each by query cluster.

    A stratum smaller than its even share is kept whole and leaves its room to the others, so that a rare topic or an
    old period is not drowned by a frequent or recent one. `cluster` is any grouping of the queries.
    """
    if len(time_ms) <= size:
        return np.arange(len(time_ms))
    edges = np.quantile(time_ms, np.linspace(0, 1, periods + 1)[1:-1])
    stratum = np.unique(np.stack([np.searchsorted(edges, time_ms), cluster]), axis=1, return_inverse=True)[1].ravel()
    order = np.random.default_rng(seed).permutation(len(time_ms))
    order = order[np.argsort(stratum[order], kind="stable")]
    first = np.r_[0, np.cumsum(np.bincount(stratum))[:-1]]
    place = np.arange(len(order)) - first[stratum[order]]
    # Taking every stratum's first member, then every second, and so on, is the even share with the rest passed on.
    chosen: Rows = np.sort(order[np.argsort(place, kind="stable")][:size])
    return chosen


def clusters(vectors: npt.NDArray[np.float32], *, bits: int = 5, seed: int = 0) -> Rows:
    """A cheap grouping of query vectors (n, d) into at most `2 ** bits` cells: the signs of random projections.

    Source: Charikar, Similarity estimation techniques from rounding algorithms, 2002.
    """
    planes = np.random.default_rng(seed).standard_normal((vectors.shape[1], bits))
    centred = vectors - vectors.mean(axis=0)
    cells: Rows = ((centred @ planes > 0) @ (1 << np.arange(bits))).astype(np.int64)
    return cells


def schedule(new: Rows, replay: Rows, *, steps: int, batch_size: int, share: float, seed: int) -> list[Rows]:
    """The queries of each step: `share` of a batch from `replay` (where there are any), the rest from `new`.

    Each source is passed through in random order, again and again, so that no query is seen twice before all were once.
    """
    generator = np.random.default_rng(seed)
    from_replay = 0 if not len(replay) else batch_size if not len(new) else round(batch_size * share)
    old = _endless(replay, from_replay * steps, generator).reshape(steps, -1)
    fresh = _endless(new, (batch_size - from_replay) * steps, generator).reshape(steps, -1)
    # A small source may fill a batch more than once over; a query counts once in a step.
    return [np.unique(np.concatenate([fresh[step], old[step]])) for step in range(steps)]


def _endless(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if count == 0:
        return np.empty(0, np.int64)
    rounds = [generator.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(rounds)[:count].astype(np.int64)
