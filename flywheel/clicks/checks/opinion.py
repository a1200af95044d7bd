"""Do people click what the champion prefers, beyond the rank? It tells where nothing was shown to two people.

A permutation test like `agreement`, with the champion's scores as the second witness. It says that documents matter to
these people, not that the champion is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.pages import Bools, ClickLog, Floats, Ints

LEVEL = 0.005
PERMUTATIONS = 999
_LEAST_PLACES = 4


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the test found: `z` in standard deviations of the permutations, `p` one-sided and never 0.

    `queries` have clicks on a list whose scores differ beyond the rank.
    """

    z: float
    p: float
    permutations: int
    queries: int

    @property
    def holds(self) -> bool:
        """Whether chance is ruled out."""
        return self.p <= LEVEL


def opinion(log: ClickLog, score: Floats, rng: np.random.Generator) -> Opinion:
    """Whether clicks go to documents of higher `score`, (pairs,), NaN or equal where there is none.

    Each query is one witness, by the pages that show its most usual list: people may browse one query otherwise than
    another, so pages of one query do not tell independently. Scores of a list are taken as what is left of them after a
    line in the log of the rank: how steeply they fall may go together with how people browse, which is no effect of
    documents. They are scaled to one spread a list, and centred by place. The statistic is their mean over a query's
    clicks times the root of the clicks, summed over queries. A permutation gives a query's whole row of clicks to
    another query with as many places. p is (1 + as telling) / (1 + permutations) (Davison & Hinkley, Bootstrap Methods,
    1997, eq. 4.11).
    """
    page, clicks = _usual_lists(log)
    told = _beyond_rank(log, score, page)
    kept = np.abs(told).max(axis=1, initial=0.0) > 0
    told, clicks, places = told[kept], clicks[kept], log.shown[page[kept]].sum(axis=1)
    if not len(told):
        return Opinion(0.0, 1.0, 0, 0)
    clicks = clicks / np.sqrt(clicks.sum(axis=1, keepdims=True))
    order = np.argsort(places, kind="stable")
    told, clicks, places = told[order], clicks[order], places[order]
    observed = float((clicks * told).sum())
    values = np.empty(PERMUTATIONS)
    for number in range(PERMUTATIONS):
        values[number] = (clicks * told[np.argsort(places + rng.random(len(places)))]).sum()
    deviation = float(values.std(ddof=1))
    z = (observed - float(values.mean())) / deviation if deviation > 0 else 0.0
    as_telling = int((values >= observed - 1e-9).sum())
    return Opinion(z, (1 + as_telling) / (1 + PERMUTATIONS), PERMUTATIONS, len(told))


def _usual_lists(log: ClickLog) -> tuple[Ints, Floats]:
    """Of each query with clicks on its most usual list, a page of that list, and the list's clicks by place."""
    key = np.concatenate([log.query[:, None], log.pair], axis=1)
    _, page, which = np.unique(key, axis=0, return_index=True, return_inverse=True)
    which = which.ravel()
    pages = np.bincount(which)
    clicks = np.zeros((len(page), log.pair.shape[1]))
    np.add.at(clicks, which, log.clicked)
    order = np.lexsort((np.arange(len(page)), -pages, log.query[page]))
    _, first = np.unique(log.query[page][order], return_index=True)
    usual = order[first]
    usual = usual[clicks[usual].sum(axis=1) > 0]
    return page[usual], clicks[usual]


def _beyond_rank(log: ClickLog, score: Floats, pages: Ints) -> Floats:
    """(pages, width): scores beyond a line in log rank, of one spread a page, centred by place; else 0."""
    pair, rank = log.pair[pages], log.rank[pages]
    known: Bools = (pair >= 0) & np.isfinite(score[np.maximum(pair, 0)])
    known &= known.sum(axis=1, keepdims=True) >= _LEAST_PLACES
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)

    def centred(values: Floats) -> Floats:
        values = np.where(known, values, 0.0)
        return np.where(known, values - values.sum(axis=1, keepdims=True) / count, 0.0)

    told, line = centred(score[np.maximum(pair, 0)]), centred(np.log(np.maximum(rank, 1)))
    slope = (told * line).sum(axis=1) / np.maximum((line**2).sum(axis=1), 1e-12)
    told = told - slope[:, None] * line
    spread = np.sqrt((told**2).sum(axis=1, keepdims=True) / count)
    used: Bools = known & (spread > 1e-6)
    told = np.where(used, told / np.maximum(spread, 1e-6), 0.0)
    by_place = told.sum(axis=0) / np.maximum(used.sum(axis=0), 1)
    return np.where(used, told - by_place, 0.0)
