"""How often people click what they look at: one attraction for each pair, shrunk towards its query and its rank.

Examination depends on the rank and on the distance to the last click above. Nothing here says what is relevant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from flywheel.clicks.evidence import sums
from flywheel.clicks.pages import RANKS, ClickLog, Floats

FURTHEST = 12
_GRID = np.geomspace(0.3, 30.0, 15)
_MOST = 0.98
_ROUNDS = 60
_SETTLED = 1e-4


@dataclass(frozen=True, slots=True)
class Attraction:
    """The fit. Click rate = `examination[rank - 1, distance]` x `attraction`, which is 1 on average.

    `attraction`, `expected`: (pairs,), with and without the pair's own clicks. `liveliness`: (queries,), how much more
    a query's documents are clicked than others. `firmness` and `query_firmness` are the shapes of the gamma priors: as
    many expected clicks has a pair's, or a query's, own record to outweigh.
    """

    examination: Floats
    attraction: Floats
    expected: Floats
    liveliness: Floats
    firmness: float
    query_firmness: float

    def rates(self, log: ClickLog) -> Floats:
        """Chance of a click at each place given the clicks above it: (pages, width); 0 where nothing is shown."""
        looked = self.examination[np.clip(log.rank, 1, len(self.examination)) - 1, np.minimum(log.distance(), FURTHEST)]
        return np.where(log.shown, np.minimum(looked * self.attraction[log.pair], _MOST), 0.0)


def fit_attraction(log: ClickLog) -> Attraction:
    """Empirical Bayes: Poisson clicks with gamma attractions (Clayton & Kaldor, Biometrics 1987, section 3), by turns.

    The cells of examination are those of the user browsing model (Dupret & Piwowarski, SIGIR 2008, section 3.2), rank
    by distance to the last click. Attraction of pair i of query q is m_i u_q v_i: m_i log-linear in the log of the
    pair's mean rank, u_q and v_i gamma with mean 1. Posterior means are (shape + clicks) / (shape + expected clicks).
    Each cell is shrunk to rank x distance by 20 expected clicks, and a rank to its neighbours by 5. Shapes are the best
    of 15 by the marginal likelihood, negative binomial. So a pair without clicks is lowered by what the model expected
    of it and no more: a few impressions move nothing.
    """
    turn = _Turns(log)
    for done in range(1, _ROUNDS + 1):
        before = turn.attraction
        turn.step(shapes=done <= 3 or done % 5 == 0)
        if done > 5 and float(np.abs(turn.attraction - before).mean()) < _SETTLED:
            break
    expected = turn.mean * turn.lively[turn.query]
    return Attraction(turn.table, turn.attraction, expected, turn.lively, turn.shape, turn.query_shape)


class _Turns:
    """One fit between two steps, over impressions aggregated by pair, rank and distance."""

    def __init__(self, log: ClickLog) -> None:
        shown, self.query = log.shown, log.pair_query
        self.ranks = int(log.rank.max(initial=1))
        own = (log.rank[shown] - 1) * (FURTHEST + 1) + np.minimum(log.distance()[shown], FURTHEST)
        cells = RANKS * (FURTHEST + 1)
        key, row = np.unique(log.pair[shown] * cells + own, return_inverse=True)
        self.pair, self.cell = key // cells, key % cells
        self.impressions = np.bincount(row).astype(np.float64)
        clicks = sums(row, log.clicked[shown].astype(np.float64), len(key))
        self.clicks = sums(self.pair, clicks, log.pairs)
        self.cell_clicks = self._by_cell(clicks)
        rank = np.log(log.counts().mean_rank)
        self.columns = _standardised(np.stack([rank, np.maximum(0.0, rank - np.log(3))], axis=1))
        self.attraction, self.mean = np.ones(log.pairs), np.ones(log.pairs)
        self.lively = np.ones(len(log.queries))
        self.weights = np.zeros(self.columns.shape[1])
        self.shape = self.query_shape = 3.0
        self.table = self._examination()
        self.looks = np.zeros(log.pairs)

    def _by_cell(self, weights: Floats) -> Floats:
        """(ranks, distances)"""
        return sums(self.cell, weights, self.ranks * (FURTHEST + 1)).reshape(self.ranks, FURTHEST + 1)

    def step(self, *, shapes: bool) -> None:
        """Examination, then what is expected of queries and pairs, then attraction."""
        self.table = self._examination()
        self.looks = sums(self.pair, self.impressions * self.table.ravel()[self.cell], len(self.query))
        self._regress()
        base = self.looks * self.mean
        # pairs as they are but for their query: what the query's own number has to explain
        own = (self.shape + self.clicks) / (self.shape + base * self.lively[self.query])
        queries = len(self.lively)
        clicks, looks = sums(self.query, self.clicks, queries), sums(self.query, base * own, queries)
        plain = sums(self.query, base, queries)
        if shapes:
            self.query_shape = _shape(clicks, plain)
        self.lively = (self.query_shape + clicks) / (self.query_shape + np.maximum(looks, 0.5 * plain))
        expected = base * self.lively[self.query]
        if shapes:
            self.shape = _shape(self.clicks, expected)
        self.attraction = self.mean * self.lively[self.query] * (self.shape + self.clicks) / (self.shape + expected)
        self.attraction /= np.average(self.attraction, weights=np.maximum(self.looks, 1e-12))

    def _examination(self) -> Floats:
        """(ranks, distances): clicks over what attraction expects, shrunk to rank times distance."""
        shown = self._by_cell(self.impressions * self.attraction[self.pair])
        by_rank = _smoothed(self.cell_clicks.sum(axis=1), shown.sum(axis=1))
        by_distance = np.ones(FURTHEST + 1)
        for _ in range(4):  # rank and distance are not independent: each is found given the other
            expected = (shown * by_rank[:, None]).sum(axis=0)
            by_distance = (self.cell_clicks.sum(axis=0) + 5) / (expected + 5)
            by_rank = _smoothed(self.cell_clicks.sum(axis=1), (shown * by_distance).sum(axis=1))
        table = by_rank[:, None] * by_distance
        firm: Floats = table * (20 + self.cell_clicks) / (20 + shown * table)
        return np.minimum(firm, _MOST)

    def _regress(self) -> None:
        """A few steps of Newton for the weights of the mean rank, ridge 1."""
        live = self.looks * self.lively[self.query]
        for _ in range(2):
            mean = np.exp(np.clip(self.columns @ self.weights, -6, 6))
            firm = self.shape / (self.shape + live * mean)
            gradient = self.columns.T @ (firm * (self.clicks - live * mean)) - self.weights
            hessian = (self.columns * (firm * live * mean)[:, None]).T @ self.columns + np.eye(len(self.weights))
            self.weights = self.weights + np.clip(np.linalg.solve(hessian, gradient), -1, 1)
        self.mean = np.exp(np.clip(self.columns @ self.weights, -6, 6))


def _standardised(columns: Floats) -> Floats:
    spread = columns.std(axis=0)
    scaled: Floats = (columns - columns.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    return scaled


def _smoothed(clicks: Floats, expected: Floats) -> Floats:
    """Rates by rank, each with five clicks' worth of its neighbours'."""
    around = np.convolve(np.pad(clicks, 1, mode="edge"), np.ones(3), "valid") + 0.5
    of = np.convolve(np.pad(expected, 1, mode="edge"), np.ones(3), "valid") + 5.0
    rate: Floats = (clicks + 5 * around / around.clip(5)) / np.maximum(expected + 5 * of / around.clip(5), 1e-9)
    return rate


def _shape(clicks: Floats, expected: Floats) -> float:
    """The shape on the grid under which these clicks are likeliest (Clayton & Kaldor 1987, eq. 5)."""
    told = expected > 0
    c, e = clicks[told], expected[told]
    score = [
        float((gammaln(a + c) - gammaln(a) + a * np.log(a / (a + e)) + c * np.log(e / (a + e))).sum()) for a in _GRID
    ]
    return float(_GRID[int(np.argmax(score))])


def order_by_clicks(log: ClickLog, liveliness: Floats) -> Floats:
    """In which order documents stand by their clicks, where nobody judged any: (pairs,).

    log(1 + clicks) - ½ log impressions - log mean rank + ¼ log liveliness of the query. Among documents of equal rank
    and exposure clicks decide, and the rest breaks ties: the better mean rank, which the ranker knew, then queries that
    draw more clicks. Exposure counts half, because what is shown often is better than what is shown seldom. The weights
    are round numbers near those that order the graded documents of one public log best, on any cut of it.
    """
    of = log.counts()
    shown = np.log(np.maximum(of.impressions, 1e-9))
    found: Floats = np.log1p(of.clicks) - 0.5 * shown - np.log(of.mean_rank) + 0.25 * np.log(liveliness[log.pair_query])
    return found
