"""What people preferred of two neighbours in a random order, and whether a score agrees.

No model of examination is behind it. Whoever clicks the document below, and not the one right above, prefers it: both
were read, and which one stood below was chance (Radlinski & Joachims, AAAI 2006, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.evidence import sums
from flywheel.clicks.pages import Floats, Ints

LEAST = 30


@dataclass(frozen=True, slots=True)
class Preferences:
    """Rows of `lower` and `upper`, numbers of pairs of one `query`: of `pages` that showed them so, `preferred` had a
    click below and none above."""

    query: Ints
    lower: Ints
    upper: Ints
    preferred: Floats
    pages: Floats


@dataclass(frozen=True, slots=True)
class Agreeing:
    """Of `preferred` preferences the `share` that a score agrees with, with its 95 % interval; 0.5 is chance."""

    preferred: float
    share: float
    low: float
    high: float


def agreeing(found: Preferences, score: Floats) -> Agreeing | None:
    """How often people preferred the document with the higher score, (pairs,); None with fewer than 30 preferences.

    Couples with equal scores, or with none (NaN), are left out. The error of the share is that of a ratio whose queries
    vary (linearised), at least a binomial one. Where documents do not matter either of a couple stands below, and is
    clicked there, as often as the other, so that every score has a share of one half.
    """
    apart = score[found.lower] - score[found.upper]
    told = np.isfinite(apart) & (apart != 0)
    total = float(found.preferred[told].sum())
    if total < LEAST:
        return None
    _, query = np.unique(found.query[told], return_inverse=True)
    right = found.preferred[told] * (apart[told] > 0)
    count = int(query.max()) + 1
    by_query, agreed = sums(query, found.preferred[told], count), sums(query, right, count)
    share = float(right.sum()) / total
    clustered = float(np.sqrt(((agreed - share * by_query) ** 2).sum())) / total
    error = 1.96 * max(clustered, float(np.sqrt((share + 1 / total) * (1 - share + 1 / total) / total)))
    return Agreeing(total, share, max(0.0, share - error), min(1.0, share + error))
