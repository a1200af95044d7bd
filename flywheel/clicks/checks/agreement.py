"""Do clicks mean anything here: do different people click the same documents, beyond rank and query?

A permutation test. No click model is behind it, so that none can be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from flywheel.clicks.evidence import sums
from flywheel.clicks.pages import Bools, ClickLog, Floats, Ints

LEVEL = 0.01
"""With 3,000 pages of a web search log this finds agreement in nine draws of ten; 0.005 does in eight."""
PERMUTATIONS = 999
ENOUGH = 40
"""So many permutations that are as telling as the log end the test: with 999 that is p ≥ 0.04."""
MOST_VISITS = 50_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the test found. `z` is in standard deviations of the permutations; `p` is one-sided and never 0.

    `clicks` lie where documents changed places between people. They are the only ones that can tell. `queries` have
    such clicks.
    """

    z: float
    p: float
    permutations: int
    clicks: int
    queries: int

    @property
    def holds(self) -> bool:
        """Whether chance is ruled out."""
        return self.p <= LEVEL


def agreement(log: ClickLog, rng: np.random.Generator) -> Agreement:
    """Whether people click the same documents, against each query's people exchanging all their clicks.

    Each person is one visit of a query, see `_Visits`. A permutation gives the whole row of a visit's clicks to another
    visit of the query that saw the same ranks. So clicks stay at their (query, rank), each query keeps its browsing,
    and each visit its dependences. Shuffling more widely takes different browsing for agreement.

    The statistic is the log likelihood of each pair's clicks if documents differ, negative binomial with shape 1 (an
    exponential attraction: Greenwood & Yule, JRSS 1920), around what the pair's places in the query get on average, and
    what a look is worth at places that were skipped above a click, since those were examined for sure (Joachims et al.,
    SIGIR 2005, section 4.1). A visit's skips move with its clicks. What no permutation changes is left out. The p-value
    is (1 + as telling) / (1 + permutations) (Davison & Hinkley, Bootstrap Methods, 1997, eq. 4.11). The test ends early
    where it cannot become small (Besag & Clifford, Biometrika 1991). Of a large log whole queries are drawn, of up to
    50,000 visits.
    """
    told = _Telling.of(_Visits.of(log), rng)
    if told is None:
        return Agreement(0.0, 1.0, 0, 0, 0)
    observed = told.statistic(told.unmoved())
    values: list[float] = []
    as_telling = 0
    while len(values) < PERMUTATIONS and as_telling < ENOUGH:
        values.append(told.statistic(told.shuffled(rng)))
        as_telling += values[-1] >= observed - 1e-9
    spread = float(np.std(values, ddof=1))
    z = (observed - float(np.mean(values))) / spread if spread > 0 else 0.0
    return Agreement(z, (1 + as_telling) / (1 + len(values)), len(values), told.clicks, told.queries)


@dataclass(frozen=True, slots=True)
class _Visits:
    """What each person saw and clicked of each query: one row a visit, one column a place.

    `query`, `shape`: (visits,). Visits of one shape list the same ranks. `pair`, `clicked`: (visits, width). A person
    who sees a page again is one visit: agreement is between people, and one person agrees with herself.
    """

    query: Ints
    shape: Ints
    pair: Ints
    clicked: Bools

    @staticmethod
    def of(log: ClickLog) -> _Visits:
        """Each person's first page of a query, with a click wherever she ever clicked that document for that query.

        Clicks on documents that only a later page of the same visit shows are left out.
        """
        key = log.query * (int(log.person.max(initial=0)) + 1) + log.person
        _, page, visit = np.unique(key, return_index=True, return_inverse=True)
        rows, columns = np.nonzero(log.clicked)
        did = np.unique(visit[rows] * log.pairs + log.pair[rows, columns])
        shown = log.pair[page]
        mine = np.arange(len(page))[:, None] * log.pairs + shown
        _, shape = np.unique(log.rank[page], axis=0, return_inverse=True)
        return _Visits(log.query[page], shape.ravel().astype(np.int64), shown, np.isin(mine, did) & (shown >= 0))


@dataclass(frozen=True, slots=True)
class _Telling:
    """Visits of strata (query, shape) with two lists and two clickers, in order of stratum.

    `pair`: (visits, width), numbers from 0. `expected`: of each pair, what its places get. `row`: of each clicking
    visit. `which` of them, and `column`: of each click. `passed`, `passed_column`: the same of each place skipped above
    a click, and `look` what clicks an examined place of that column gets.
    """

    pair: Ints
    stratum: Ints
    expected: Floats
    row: Ints
    which: Ints
    column: Ints
    passed: Ints
    passed_column: Ints
    look: Floats
    clicks: int
    queries: int

    @staticmethod
    def of(visits: _Visits, rng: np.random.Generator) -> _Telling | None:
        """None where nothing can tell."""
        _, stratum = np.unique(np.stack([visits.query, visits.shape]), axis=1, return_inverse=True)
        stratum = stratum.ravel()
        telling = _can_tell(visits, stratum)
        inside = telling[stratum] if len(telling) else np.zeros(0, np.bool_)
        clicks, queries = int(visits.clicked[inside].sum()), len(np.unique(visits.query[inside]))
        kept = _drawn(telling, np.bincount(stratum, minlength=len(telling)), rng)
        order = np.argsort(stratum, kind="stable")
        rows = order[kept[stratum[order]]]
        if not len(rows):
            return None
        clicked, width = visits.clicked[rows], visits.pair.shape[1]
        numbers, stratum = np.unique(stratum[rows], return_inverse=True)
        by_place = np.zeros((len(numbers), width))
        np.add.at(by_place, stratum, clicked)
        rate = (by_place / np.bincount(stratum)[:, None])[stratum]
        _, pair = np.unique(visits.pair[rows], return_inverse=True)
        pair = pair.reshape(clicked.shape).astype(np.int64)
        row = np.flatnonzero(clicked.any(axis=1))
        which, column = np.nonzero(clicked[row])
        last = width - 1 - np.argmax(clicked[row][:, ::-1], axis=1)
        examined = (np.arange(width) <= last[:, None]) & (visits.pair[rows][row] >= 0)
        look = clicked.sum(axis=0) / np.maximum(examined.sum(axis=0), 1)
        passed, passed_column = np.nonzero(examined & ~clicked[row])
        return _Telling(
            pair, stratum, sums(pair.ravel(), rate.ravel(), int(pair.max()) + 1), row, which, column,
            passed, passed_column, look[passed_column], clicks, queries,
        )  # fmt: skip

    def statistic(self, order: Ints) -> float:
        """Σ log Γ(1 + c) - (1 + c) log(1 + e) over pairs when visit i's clicks and skips fall on visit `order[i]`."""
        to, count = order[self.row], len(self.expected)
        clicks = np.bincount(self.pair[to[self.which], self.column], minlength=count)
        skipped = sums(self.pair[to[self.passed], self.passed_column], self.look, count)
        return float(gammaln(1.0 + clicks).sum() - (1.0 + clicks) @ np.log1p(self.expected + skipped))

    def shuffled(self, rng: np.random.Generator) -> Ints:
        """Where the visits' rows go: each to a visit of the same stratum."""
        return np.argsort(self.stratum + rng.random(len(self.stratum)))

    def unmoved(self) -> Ints:
        """Each visit's row where it is."""
        return np.arange(len(self.stratum))


def _can_tell(visits: _Visits, stratum: Ints) -> Bools:
    """Strata in which two lists were shown and two people clicked."""
    count = int(stratum.max(initial=-1)) + 1
    order = np.argsort(stratum, kind="stable")
    first = order[np.searchsorted(stratum[order], np.arange(count))]
    moved = np.bincount(stratum, (visits.pair != visits.pair[first[stratum]]).any(axis=1), count) > 0
    clicking = np.bincount(stratum, visits.clicked.any(axis=1), count) > 1
    return np.asarray(moved & clicking, np.bool_)


def _drawn(telling: Bools, sizes: Ints, rng: np.random.Generator) -> Bools:
    """Strata to keep: all that can tell, or at random as many as have `MOST_VISITS` together."""
    if sizes[telling].sum() <= MOST_VISITS:
        return telling
    order = rng.permutation(np.flatnonzero(telling))
    kept = np.zeros_like(telling)
    kept[order[np.cumsum(sizes[order]) <= MOST_VISITS]] = True
    return kept
