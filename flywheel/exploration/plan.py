"""Directed exploration: which document is worth showing for which query, in whose place, and on what share of pages.

It never plans beyond two caps: a share of all slots, and a share of all clicks. A place costs clicks only where the
document that stood there is likelier to be clicked, so places of documents that people keep passing over are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import entr, expit, logit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
State = Literal["open", "confirmed", "dropped", "exhausted"]
MISSING = -1
_STAYING = 10.0
"""Nats that an open document's slot is worth beyond what it tells: more than any other, and still not every price."""


@dataclass(frozen=True, slots=True)
class ExplorationPolicy:
    """How much to explore. `share` and `max_ctr_cost` cap slots and clicks. A planned document is shown on
    `probability` of the query's pages; the other pages are the comparison. A document is explored until its posterior
    is above `confirm` or below `drop`, or until it had `max_impressions` without either."""

    share: float
    max_ctr_cost: float
    probability: float
    confirm: float
    drop: float
    max_impressions: float
    slots: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents that each query's page holds or could hold, a row each, ordered by query.

    `query` numbers the queries. `place` is the rank on the champion's page, 0 for a document off it. `impressions` are
    those it had, weighted. `open` marks the documents that have a slot in the last plan. `pages` (queries,): how many
    pages each query is expected to have, on the scale of `clicks`, the clicks of all pages together.
    """

    query: Ints
    place: Ints
    posterior: Floats
    impressions: Floats
    open: Bools
    pages: Floats
    clicks: float


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """Slots as columns: `row` of the pool takes the place of row `displaced` at `rank` on `probability` of the pages.

    A document from further down the page changes places with it. `cost` is the expected loss of clicks on such a page,
    below 0 where the newcomer is likelier to be clicked. `information` is what people's reaction tells, in nats.
    """

    query: Ints
    row: Ints
    displaced: Ints
    rank: Ints
    probability: Floats
    cost: Floats
    information: Floats

    def __len__(self) -> int:
        return len(self.row)


def state(posterior: float, impressions: float, policy: ExplorationPolicy) -> State:
    """The state of one document's sequential test: Wald (1945), with posterior odds in place of likelihood ratios."""
    if posterior >= policy.confirm:
        return "confirmed"
    if posterior < policy.drop:
        return "dropped"
    return "exhausted" if impressions >= policy.max_impressions else "open"


def information(chance: Floats, relevant: Floats, irrelevant: Floats) -> Floats:
    """Mutual information of relevance and one click-or-not, nats: H(click) - E H(click | relevance), Lindley (1956).

    `chance` of relevance (n,), click rates by rank (k,) of relevant and irrelevant documents; the answer is (n, k).
    """
    share = chance[:, None]
    mixed = share * relevant + (1 - share) * irrelevant
    each = share * _binary_entropy(relevant) + (1 - share) * _binary_entropy(irrelevant)
    return np.asarray(np.maximum(0.0, _binary_entropy(mixed) - each), dtype=np.float64)


def _binary_entropy(rate: Floats) -> Floats:
    return np.asarray(entr(rate) + entr(1 - rate), dtype=np.float64)


def plan(pool: Pool, relevant: Floats, irrelevant: Floats, policy: ExplorationPolicy) -> SlotPlan:
    """The most valuable slots within both caps, at most `policy.slots` a query; the same pool gives the same plan.

    `relevant`, `irrelevant`: click rates by rank (k,). Documents with a slot in the last plan come first until they are
    settled. A price on clicks is raised until the plan's losses fit `max_ctr_cost`; then the least informative slots
    are dropped until the rest fits `share`. A document keeps its place if it is more likely relevant than not, and more
    likely than the newcomer.
    """
    if not len(pool.query):
        return _empty()
    moves = _Moves(pool, relevant, irrelevant, policy)
    budget = policy.max_ctr_cost * pool.clicks
    chosen = moves.choose(0.0)
    if moves.loss(chosen) > budget:
        low, high = 0.0, 1.0
        while moves.loss(moves.choose(high)) > budget and high < 1e6:
            low, high = high, high * 8
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if moves.loss(moves.choose(middle)) > budget else (low, middle)
        chosen = moves.choose(high)
    return moves.within_share(chosen)


def _empty() -> SlotPlan:
    none, zero = np.empty(0, np.int64), np.empty(0)
    return SlotPlan(none, none, none, none, zero, zero, zero)


class _Moves:
    """All exchanges of a document with one at a higher place: what each tells and costs, in arrays (rows, ranks)."""

    def __init__(self, pool: Pool, relevant: Floats, irrelevant: Floats, policy: ExplorationPolicy) -> None:
        self.pool, self.policy = pool, policy
        ranks = len(relevant)
        on_page = np.flatnonzero((pool.place > 0) & (pool.place <= ranks))
        self.page = np.full((len(pool.pages), ranks), MISSING, np.int64)
        self.page[pool.query[on_page], pool.place[on_page] - 1] = on_page
        self.there = self.page[pool.query]
        settled = (
            (pool.posterior >= policy.confirm)
            | (pool.posterior < policy.drop)
            | (pool.impressions >= policy.max_impressions)
        )
        telling = np.where(settled[:, None], 0.0, information(pool.posterior, relevant, irrelevant))
        pull = relevant - irrelevant
        place = np.where(pool.place <= ranks, pool.place, 0)
        padded = np.concatenate([np.zeros((len(telling), 1)), telling], axis=1)
        told_now = padded[np.arange(len(place)), place][:, None]
        told_by_displaced = padded[self.there, place[:, None]]
        self.tells = telling + told_by_displaced - telling[self.there, np.arange(ranks)] - told_now
        posterior_lost = pool.posterior[self.there] - pool.posterior[:, None]
        self.costs = (pull - np.concatenate([[0.0], pull])[place][:, None]) * posterior_lost
        higher = (place == 0)[:, None] | (np.arange(1, ranks + 1) < place[:, None])
        protected = (pool.posterior[self.there] > 0.5) & (posterior_lost > 0)
        # evidence spread over many documents settles none, so open documents come before new ones
        self.worth = self.tells + np.where(pool.open, _STAYING, 0.0)[:, None]
        self.allowed = (self.there != MISSING) & higher & ~protected & ~settled[:, None] & (self.worth > 0)
        self.starts = np.flatnonzero(np.diff(pool.query, prepend=-1))

    def choose(self, price: float) -> SlotPlan:
        """The best slots of each query where a click costs `price` nats."""
        worth = np.where(self.allowed, self.worth - price * np.maximum(0.0, self.costs), -np.inf)
        parts = []
        for _ in range(self.policy.slots):
            part = self._best(worth)
            if not len(part):
                break
            parts.append(part)
            self._close(worth, part)
        if not parts:
            return _empty()
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in SlotPlan.__slots__]
        return SlotPlan(*columns)

    def _best(self, worth: Floats) -> SlotPlan:
        best_rank = worth.argmax(axis=1)
        best_worth = worth[np.arange(len(best_rank)), best_rank]
        ranked = np.where(best_worth > 0, best_worth, -np.inf)
        best = np.maximum.reduceat(ranked, self.starts)
        winners = np.flatnonzero((ranked == best[self._segment()]) & np.isfinite(ranked))
        _, first = np.unique(self.pool.query[winners], return_index=True)
        rows = winners[first]
        rank = best_rank[rows]
        chance = np.full(len(rows), self.policy.probability)
        cells = rows, rank
        return SlotPlan(
            self.pool.query[rows], rows, self.there[cells], rank + 1, chance, self.costs[cells], self.tells[cells]
        )

    def _segment(self) -> Ints:
        return np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.pool.query)))

    def _close(self, worth: Floats, taken: SlotPlan) -> None:
        """Bar both documents of each slot, and their ranks, from the query's next slot."""
        worth[taken.row] = -np.inf
        worth[taken.displaced] = -np.inf
        rank_of = np.full(len(self.pool.pages), MISSING, np.int64)
        other_of = rank_of.copy()
        rank_of[taken.query] = taken.rank
        other_of[taken.query] = self.pool.place[taken.row]  # the displaced document moves there
        ranks = np.arange(1, worth.shape[1] + 1)
        for used in (rank_of, other_of):
            worth[used[self.pool.query][:, None] == ranks] = -np.inf

    def loss(self, chosen: SlotPlan) -> float:
        """Clicks that the plan is expected to lose over all pages, without subtracting what it may win."""
        weight = self.pool.pages[chosen.query] * chosen.probability
        return float((weight * np.maximum(0.0, chosen.cost)).sum())

    def within_share(self, chosen: SlotPlan) -> SlotPlan:
        """The most informative slots, open documents first, that fit the share of all slots; ordered by query, rank."""
        slots = self.pool.pages[chosen.query] * chosen.probability
        order = np.lexsort((chosen.row, -chosen.information, ~self.pool.open[chosen.row]))
        room = self.policy.share * self.pool.pages.sum() * self.page.shape[1]
        # newcomers leave 5 % free, so that shifting traffic does not push out documents whose test has not ended
        kept = order[np.cumsum(slots[order]) <= room * np.where(self.pool.open[chosen.row[order]], 1.0, 0.95)]
        kept = kept[np.lexsort((chosen.rank[kept], chosen.query[kept]))]
        return SlotPlan(*(getattr(chosen, name)[kept] for name in SlotPlan.__slots__))


def believe(query: Ints, features: Floats, evidence: Floats, shown: Bools, start: Floats) -> tuple[Floats, Floats]:
    """Prior and posterior relevance of every row, shown or not: regression EM with the click rates held fixed.

    The prior is logistic in the features and in how relevant the query's other documents are. It is fitted on the rows
    that were shown and applied to the others. `evidence`: log likelihood ratio of each row's clicks, 0 without any.
    `start`: posteriors to begin with. `query` is sorted.
    """
    posterior = np.where(shown, start, 0.0)
    prior = posterior
    centre, spread = features[shown].mean(axis=0), features[shown].std(axis=0)
    # clipped: documents off the page lie far outside the features on which the prior is fitted
    scaled = np.clip((features - centre) / np.where(spread > 1e-9, spread, 1.0), -4, 4)
    weights = np.zeros(scaled.shape[1] + 2)
    weights[0] = logit(0.1)
    for _ in range(6):
        others = _best_other(query, np.where(shown, posterior, 0.0))
        design = np.column_stack([np.ones(len(scaled)), others, scaled])
        weights = _logistic(design[shown], posterior[shown], weights)
        prior = np.clip(expit(design @ weights), 1e-4, 0.95)
        posterior = expit(np.clip(logit(prior) + evidence, -30, 30))
    return prior, posterior


def _best_other(query: Ints, posterior: Floats) -> Floats:
    """For each row the highest posterior among the query's other rows."""
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(query)))
    best = np.maximum.reduceat(posterior, starts)[segment]
    top = np.flatnonzero(posterior == best)
    _, first = np.unique(segment[top], return_index=True)
    leader = np.zeros(len(query), np.bool_)
    leader[top[first]] = True
    second = np.maximum.reduceat(np.where(leader, 0.0, posterior), starts)[segment]
    return np.where(leader, second, best)


def _logistic(design: Floats, target: Floats, start: Floats, ridge: float = 1.0) -> Floats:
    """Ridge logistic regression on soft labels."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        score = design @ weights
        value = np.logaddexp(0, score).sum() - target @ score + 0.5 * ridge * weights @ weights
        return float(value), design.T @ (expit(score) - target) + ridge * weights

    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B").x, dtype=np.float64)
