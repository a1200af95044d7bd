"""Are there two kinds of documents, relevant and not, or do documents attract people more and less without a gap?

Where there are two kinds, a posterior says which is which. Where there are not, it says less than it seems.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from flywheel.clicks.evidence import Floats, Ints, sums

CLEAR = 0.0
"""The lower end of the advantage above which there are two kinds."""
_SURE_BY = 1.64
MOST_PAIRS = 50_000
_GRID = np.linspace(-2.0, 3.0, 21)
_ROUNDS = 25
_LEAST_SPREAD = 0.05
_SETTLED = 0.01


def advantage(
    two_kinds: Floats, columns: Floats, pair: Ints, clicks: Floats, skips: Floats, rates: tuple[Floats, Floats]
) -> float:
    """Lower end of the log likelihood of two kinds of documents above that of a continuum between and beyond them.

    `two_kinds`, (pairs,), is the log likelihood of each pair's clicks with its kind summed out; `columns`, (pairs, n),
    are what its prior is made of. By row: `pair`, `clicks`, `skips`, and `rates` if relevant and if not. In the
    continuum the log click rate of pair i lies at t_i on the line through both rates' logs, 0 irrelevant and 1
    relevant, with t_i normal around a linear function of its columns. t_i is summed out over 21 points from -2 to 3,
    and mean and spread are found by EM. Both sides have the same rates.

    The lower end is one-sided, at 95 %. The difference is a sum over pairs, and its error their spread (Vuong,
    Econometrica 1989, eq. 5.1). The continuum's additional parameter earns two kinds nothing: where each pair was shown
    once, no click tells the two accounts apart, and a price for it (half the log of the pairs) would decide alone. Of
    more than 50,000 pairs as many are drawn by a fixed lot.
    """
    count = len(two_kinds)
    if not count:
        return 0.0
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:MOST_PAIRS])
    number = np.full(count, -1)
    number[chosen] = np.arange(len(chosen))
    taken = np.flatnonzero(number[pair] >= 0)
    pairs, of = len(chosen), number[pair[taken]]
    told = _told(of, clicks[taken], skips[taken], (rates[0][taken], rates[1][taken]), pairs)
    columns = columns[chosen]
    gram = columns.T @ columns + 0.1 * np.eye(columns.shape[1])
    middle, spread = np.full(pairs, 0.2), 0.5
    last, each = -np.inf, np.zeros(pairs)
    for _ in range(_ROUNDS):
        prior = -0.5 * ((_GRID - middle[:, None]) / spread) ** 2
        joint = prior - logsumexp(prior, axis=1, keepdims=True) + told
        each = logsumexp(joint, axis=1)
        total = float(each.sum())
        if total - last < _SETTLED:
            break
        last = total
        share = np.exp(joint - each[:, None])
        mean = share @ _GRID
        variance = share @ _GRID**2 - mean**2
        middle = columns @ np.linalg.solve(gram, columns.T @ mean)
        spread = max(_LEAST_SPREAD, float(np.sqrt(np.mean(variance + (mean - middle) ** 2))))
    apart = two_kinds[chosen] - each
    return float(apart.sum()) - _SURE_BY * float(apart.std()) * float(np.sqrt(pairs))


def _told(of: npt.NDArray[np.integer], clicks: Floats, skips: Floats, rates: tuple[Floats, Floats], n: int) -> Floats:
    """(pairs, points): log likelihood of each pair's clicks at each point of the line."""
    relevant, irrelevant = np.log(rates[0]), np.log(rates[1])
    found = np.empty((n, len(_GRID)))
    for column, point in enumerate(_GRID):
        rate = np.minimum(np.exp((1 - point) * irrelevant + point * relevant), 0.98)
        found[:, column] = sums(of, clicks * np.log(rate) + skips * np.log1p(-rate), n)
    return found
