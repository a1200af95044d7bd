"""Click models of the literature, to hold ours against: PBM, UBM and DBN, fitted to pages by EM.

Attraction is one number for each pair with a Beta(1, 1) prior. Nothing is shared between pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.evidence import sums
from flywheel.clicks.pages import LAST_RANK, RANKS, Bools, ClickLog, Floats, Ints

_CELLS = RANKS * LAST_RANK
_ROUNDS = 100
_DBN_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Examined:
    """PBM or UBM: a click is attraction (pairs,) times examination (ranks, distances from the last click above).

    PBM's examination is the same at all distances.
    """

    attraction: Floats
    examination: Floats

    def rates(self, log: ClickLog) -> Floats:
        """Chance of a click at each place given the clicks above it: (pages, width); 0 where nothing is shown."""
        looked = self.examination[np.maximum(log.rank, 1) - 1, np.minimum(log.distance(), LAST_RANK - 1)]
        return np.where(log.shown, self.attraction[log.pair] * looked, 0.0)


def fit_pbm(log: ClickLog) -> Examined:
    """Position-based model (Craswell, Zoeter, Taylor & Ramsey, WSDM 2008, eq. 1)."""
    return _examined(log, np.zeros(log.pair.shape, np.int64))


def fit_ubm(log: ClickLog) -> Examined:
    """User browsing model (Dupret & Piwowarski, SIGIR 2008, eq. 2 and 3): examination by rank and distance."""
    return _examined(log, np.minimum(log.distance(), LAST_RANK - 1))


def _examined(log: ClickLog, distance: Ints) -> Examined:
    """EM over distinct (pair, rank, distance); a Beta(1, 1) on each attraction and examination."""
    shown = log.shown
    own = (log.rank[shown] - 1) * LAST_RANK + distance[shown]
    key, row = np.unique(log.pair[shown] * _CELLS + own, return_inverse=True)
    n, c = np.bincount(row).astype(np.float64), sums(row, log.clicked[shown].astype(np.float64), len(key))
    pair, cell = key // _CELLS, key % _CELLS
    attraction, examination = np.full(log.pairs, 0.2), np.full(_CELLS, 0.5)
    of_pair, of_cell = sums(pair, n, log.pairs), sums(cell, n, _CELLS)
    for _ in range(_ROUNDS):
        a, e = attraction[pair], examination[cell]
        skipped = (n - c) / np.maximum(1 - a * e, 1e-12)
        attraction = (1 + sums(pair, c + skipped * a * (1 - e), log.pairs)) / (2 + of_pair)
        examination = (1 + sums(cell, c + skipped * e * (1 - a), _CELLS)) / (2 + of_cell)
    table = examination.reshape(RANKS, LAST_RANK)
    if not distance.any():
        table = np.repeat(table[:, :1], LAST_RANK, axis=1)
    return Examined(attraction, table)


@dataclass(frozen=True, slots=True)
class Dbn:
    """Dynamic Bayesian network: people go down the page until a clicked document satisfies them, or they give up.

    `attraction`, `satisfaction`: (pairs,); `going_on` is the chance to look at the next place if not satisfied.
    """

    attraction: Floats
    satisfaction: Floats
    going_on: float

    def rates(self, log: ClickLog) -> Floats:
        """Chance of a click at each place given the clicks above it: (pages, width); 0 where nothing is shown."""
        attraction = np.where(log.shown, self.attraction[log.pair], 0.0)
        satisfaction = np.where(log.shown, self.satisfaction[log.pair], 0.0)
        looking, rates = np.ones(len(log.pair)), np.zeros(log.pair.shape)
        for k in range(log.pair.shape[1]):
            a = attraction[:, k]
            rates[:, k] = looking * a
            skipped = looking * (1 - a) / np.maximum(1 - looking * a, 1e-12)
            looking = self.going_on * np.where(log.clicked[:, k], 1 - satisfaction[:, k], skipped)
        return rates


def fit_dbn(log: ClickLog) -> Dbn:
    """Chapelle & Zhang (WWW 2009, section 4 and appendix), EM with the exact chance to look at each place.

    Below the last click people were satisfied, or gave up, or went on and found nothing. `going_on` is fitted too.
    """
    shown, width = log.shown, log.pair.shape[1]
    found = Dbn(np.full(log.pairs, 0.2), np.full(log.pairs, 0.5), 0.9)
    clicks = np.bincount(log.pair[log.clicked], minlength=log.pairs).astype(np.float64)
    last = np.where(log.clicked.any(axis=1), width - 1 - np.argmax(log.clicked[:, ::-1], axis=1), -1)
    is_last = np.arange(width) == last[:, None]
    free = shown[:, :-1] & shown[:, 1:]
    for _ in range(_DBN_ROUNDS):
        looked, satisfied = _looked(log, found, last)
        attraction = (1 + clicks) / (2 + sums(log.pair[shown], looked[shown], log.pairs))
        done = np.broadcast_to(satisfied[:, None], log.pair.shape)[is_last]
        satisfaction = (1 + sums(log.pair[is_last], done, log.pairs)) / (2 + clicks)
        # those who could go on: they looked at a place that has a next one, and it did not satisfy them
        could = looked[:, :-1] * np.where(is_last[:, :-1], 1 - satisfied[:, None], 1.0)
        went = looked[:, 1:][free].sum() / max(float(could[free].sum()), 1e-9)
        found = Dbn(attraction, satisfaction, float(np.clip(went, 0.05, 0.999)))
    return found


def _looked(log: ClickLog, model: Dbn, last: Ints) -> tuple[Floats, Floats]:
    """Given all clicks: chance that each place was looked at, (pages, width), and that the last click satisfied.

    Up to the last click all was looked at. `quiet[:, k]` is the chance of no click from place k on if k is looked at.
    """
    shown, width, going_on = log.shown, log.pair.shape[1], model.going_on
    a = np.where(shown, model.attraction[log.pair], 0.0)
    s = np.where(shown, model.satisfaction[log.pair], 0.0)
    quiet = np.ones((len(log.pair), width + 1))
    for k in range(width - 1, -1, -1):
        quiet[:, k] = np.where(shown[:, k], (1 - a[:, k]) * (1 - going_on + going_on * quiet[:, k + 1]), 1.0)
    any_click: Bools = last >= 0
    after = np.take_along_axis(quiet, (last + 1)[:, None], 1)[:, 0]
    s_last = np.where(any_click, np.take_along_axis(s, np.maximum(last, 0)[:, None], 1)[:, 0], 0.0)
    whole = s_last + (1 - s_last) * (1 - going_on + going_on * after)
    satisfied = np.where(any_click, s_last / whole, 0.0)
    begin = np.where(any_click, (1 - s_last) * going_on / whole, 1.0 / quiet[:, 0])
    looked = np.ones(log.pair.shape)
    for k in range(width):
        below = k > last
        looked[:, k] = np.where(below, begin * quiet[:, k], 1.0)
        begin = np.where(below, begin * (1 - a[:, k]) * going_on, begin)
    return looked, satisfied
