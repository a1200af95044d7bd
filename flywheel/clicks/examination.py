"""How examination shapes clicks: the click rate of a relevant and of an irrelevant document in each row of evidence.

It has three schemes with one interface and chooses none of them; `flywheel.clicks.model` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from flywheel.clicks.evidence import Counts, Evidence, Floats, sums

Rates = tuple[Floats, Floats]
# no rank's log ratio falls below this share of the line: two kinds of clicks that differ less show no relevance
LEAST = 0.75
MAX_RANK = 50
"""Lower ranks count as this one. A grid's ranks are the places after it."""
CONTEXTS = 3
"""0: no click above; 1: clicks above, none on a likely relevant document; 2: some on one."""


def place_name(place: int) -> str:
    """What people call a place of `Rows`: its rank, and of which layout."""
    return f"rank {place + 1}" if place < MAX_RANK else f"grid rank {place - MAX_RANK + 1}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Evidence as a scheme reads it: `place` is the rank from 0, ranks beyond the last counting as the last.

    Ranks of a grid are places of their own, from `grid_from` on; `ranks` counts all places.
    """

    evidence: Evidence
    ranks: int
    place: Counts
    ctr: Floats
    shown: Floats
    grid_from: int

    @staticmethod
    def of(evidence: Evidence, max_rank: int) -> Rows:
        """With click rates by rank that are shrunk towards one in ten."""
        deepest = int(min(evidence.rank.max(), max_rank))
        place = np.minimum(evidence.rank, deepest).astype(np.int64) - 1
        grid_from, ranks = deepest, deepest
        if evidence.grid is not None and evidence.grid.any():
            # at one place whatever is shown, so that a curve can be read without the evidence that it is from
            grid_from, ranks = max_rank, max_rank + deepest
            place = place + np.where(evidence.grid, max_rank, 0)
        shown = sums(place, evidence.impressions, ranks)
        ctr = (sums(place, evidence.clicks, ranks) + 1) / (shown + 10)
        return Rows(evidence, ranks, place, ctr, shown, grid_from)

    @property
    def layouts(self) -> tuple[slice, ...]:
        """The places of lists, and those of grids where there are any."""
        return (slice(0, self.grid_from), *([slice(self.grid_from, self.ranks)] if self.ranks > self.grid_from else []))

    def by_rank(self, weights: Floats) -> Floats:
        """Sum over the rows of each rank: (ranks,)."""
        return sums(self.place, weights, self.ranks)

    def by_pair(self, weights: Floats) -> Floats:
        """Sum over the rows of each pair: (pairs,)."""
        return sums(self.evidence.pair, weights, self.evidence.pairs)

    def contexts(self, likely: npt.NDArray[np.bool_]) -> Counts:
        """The context of each row (see `CONTEXTS`), given which pairs are likely relevant."""
        evidence, start = self.evidence, self.evidence.set_start
        hits = np.concatenate([[0], np.cumsum(likely[evidence.set_pairs])])
        some = hits[start[1:]] > hits[start[:-1]]
        return np.where(evidence.above == 0, 0, np.where(some[evidence.above], 2, 1)).astype(np.int64)


class Scheme(Protocol):
    """Click rates of every row if its document is relevant and if it is not, learned from soft labels."""

    name: ClassVar[str]

    @property
    def parameters(self) -> int:
        """How many numbers were fitted."""

    def rates(self) -> Rates:
        """(rows,) each: the click rate if relevant, and if not."""

    def update(self, posterior: Floats, pull: Floats) -> None:
        """Fit the rates to the posterior of each pair; `pull` is its chance of a click that ignores relevance."""


@dataclass
class Ranks:
    """Rates by rank alone: examination and trust in one, as free rates of the position-based model.

    b_k = (Σ(1-r)c + 6 ctr_k)/(Σ(1-r)n + 6), ρ = max(1.5, Σrc/Σ r n b_k), a_k = (Σrc + 20 min(.95, ρ b_k))/(Σrn + 20),
    for relevant (a) and irrelevant (b) documents at rank k. a_k is smoothed over the ranks and at least
    min(.97, 1.2 b_k). Free a_k and b_k hold both the examination hypothesis (Craswell et al., WSDM 2008) and trust bias
    (Agarwal et al., WWW 2019).
    """

    rows: Rows
    lent: Mapping[int, Rates] = field(default_factory=dict)
    name: ClassVar[str] = "rank"

    def __post_init__(self) -> None:
        self.relevant = np.minimum(0.95, 2 * self.rows.ctr)
        self.irrelevant = 0.5 * self.rows.ctr

    @property
    def parameters(self) -> int:
        return 2 * int((self.rows.shown > 0).sum())

    def rates(self) -> Rates:
        return self.relevant[self.rows.place], self.irrelevant[self.rows.place]

    def update(self, posterior: Floats, pull: Floats) -> None:
        rows, evidence = self.rows, self.rows.evidence
        share, shown = posterior[evidence.pair], evidence.impressions
        clicks = own_clicks(evidence, share, pull, self.rates()[1])
        bad = rows.by_rank((1 - share) * clicks), rows.by_rank((1 - share) * shown)
        good = rows.by_rank(share * clicks), rows.by_rank(share * shown)
        b = (bad[0] + 6 * rows.ctr) / (bad[1] + 6)
        ratio = max(1.5, good[0].sum() / max(1e-9, float(good[1] @ b)))
        clicked = good[0] + 20 * np.minimum(0.95, ratio * b)
        a = clicked / (good[1] + 20)
        a = np.concatenate([smoothed(a[part], b[part], clicked[part]) for part in rows.layouts])
        for rank, (relevant, irrelevant) in self.lent.items():
            a[rank], b[rank] = relevant[0], irrelevant[0]
        self.relevant, self.irrelevant = ordered(a, b)


@dataclass
class Contexts:
    """Rates by rank and by what was clicked further up, shrunk to the rank's own with a weight of 50 impressions."""

    rows: Rows
    ranks: Ranks
    likely: npt.NDArray[np.bool_]
    weight: float = 50.0
    name: ClassVar[str] = "context"

    def __post_init__(self) -> None:
        self.cell = self.rows.place * CONTEXTS + self.rows.contexts(self.likely)
        self.relevant, self.irrelevant = (
            np.repeat(rates[:, None], CONTEXTS, axis=1) for rates in (self.ranks.relevant, self.ranks.irrelevant)
        )

    @property
    def parameters(self) -> int:
        return 2 * int((self._sum(self.rows.evidence.impressions) > 0).sum())

    def _sum(self, weights: Floats) -> Floats:
        return sums(self.cell, weights, self.rows.ranks * CONTEXTS).reshape(-1, CONTEXTS)

    def rates(self) -> Rates:
        return self.relevant.ravel()[self.cell], self.irrelevant.ravel()[self.cell]

    def update(self, posterior: Floats, pull: Floats) -> None:
        self.ranks.update(posterior, pull)
        evidence = self.rows.evidence
        share, shown = posterior[evidence.pair], evidence.impressions
        clicks = own_clicks(evidence, share, pull, self.rates()[1])
        bad = self._sum((1 - share) * clicks), self._sum((1 - share) * shown)
        good = self._sum(share * clicks), self._sum(share * shown)
        a = (good[0] + self.weight * self.ranks.relevant[:, None]) / (good[1] + self.weight)
        b = (bad[0] + self.weight * self.ranks.irrelevant[:, None]) / (bad[1] + self.weight)
        for rank, (relevant, irrelevant) in self.ranks.lent.items():
            a[rank], b[rank] = relevant, irrelevant
        self.relevant, self.irrelevant = ordered(a, b)


class Cascade:
    """People who go down from the top and stop: examination of a row given the last click and all skips since.

    Dynamic Bayesian network (Chapelle & Zhang, WWW 2009, section 3) with its filter written out. Right after the last
    click the next result is examined with `after[R]`, R the clicked document's relevance. From there on, and from the
    top, Bayes' rule gives after a skip of j  e_{j+1} = `onward` e_j (1 - α_j)/(1 - e_j α_j)  (their eq. 6 without the
    click). α_j is the attraction of the query's documents at rank j, averaged over its pages, which is exact while a
    query's ranking does not change. Given e, clicks follow a_k e and b_k e, with a_k and b_k shrunk to one attraction
    for all ranks by 100 impressions. The dependent click model and the click chain are near enough to fit as well.
    """

    name: ClassVar[str] = "cascade"
    weight = 100.0

    def __init__(self, rows: Rows, distance: npt.NDArray[np.integer]) -> None:
        evidence = rows.evidence
        self.rows = rows
        self.after, self.onward = np.array([1.0, 1.0]), 0.9
        self.relevant, self.irrelevant = np.full(rows.ranks, 0.8), np.full(rows.ranks, 0.1)
        first = np.maximum(0, rows.place - distance + 1)
        self.skips = rows.place - first
        self.none = evidence.above == 0
        self.last = np.concatenate([[0], evidence.set_pairs[evidence.set_start[2:] - 1]])[evidence.above]
        query = evidence.pair_query[evidence.pair].astype(np.int64) * rows.ranks
        self.at, self.first = query + rows.place, query + first
        self.shown_at = np.maximum(sums(self.at, evidence.impressions, len(evidence.queries) * rows.ranks), 1e-9)
        # the rows that skipped most come first: after t skips those still going are a prefix
        self.order = np.argsort(-self.skips, kind="stable")
        self.going = np.searchsorted(-self.skips[self.order], -np.arange(rows.ranks), side="left")
        self.examined = np.ones(len(rows.place))

    @property
    def parameters(self) -> int:
        return 2 * int((self.rows.shown > 0).sum()) + 3

    def rates(self) -> Rates:
        place = self.rows.place
        return np.minimum(0.98, self.relevant[place] * self.examined), self.irrelevant[place] * self.examined

    def update(self, posterior: Floats, pull: Floats) -> None:
        rows, evidence = self.rows, self.rows.evidence
        share, looked = posterior[evidence.pair], evidence.impressions * self.examined
        clicks = own_clicks(evidence, share, pull, self.rates()[1])
        bad = rows.by_rank((1 - share) * clicks), rows.by_rank((1 - share) * looked)
        good = rows.by_rank(share * clicks), rows.by_rank(share * looked)
        b = (bad[0].sum() + 3) / (bad[1].sum() + 30)
        a = min(0.98, max(1.5 * b, (good[0].sum() + 6) / (good[1].sum() + 10)))
        self.relevant, self.irrelevant = ordered(
            (good[0] + self.weight * a) / (good[1] + self.weight), (bad[0] + self.weight * b) / (bad[1] + self.weight)
        )
        self._continue(posterior, share, clicks)
        self._examine(posterior)

    def _continue(self, posterior: Floats, share: Floats, clicks: Floats) -> None:
        """Fit `after` to clicks right after a click of either kind, and `onward` to clicks after skips."""
        evidence, place = self.rows.evidence, self.rows.place
        drawn = evidence.impressions * (share * self.relevant[place] + (1 - share) * self.irrelevant[place])
        at_once = np.flatnonzero(~self.none & (self.skips == 0))
        good = posterior[self.last[at_once]]
        for kind, weight in enumerate((1 - good, good)):
            got, most = weight @ clicks[at_once], weight @ drawn[at_once]
            self.after[kind] = np.clip((got + 2 * self.after[kind]) / (most + 2), 1e-3, 1.0)
        later = np.flatnonzero(self.skips > 0)
        expected = drawn[later] * self.examined[later]
        steps = float(self.skips[later] @ expected) / max(1e-9, float(expected.sum()))
        wrong = (clicks[later].sum() + 1) / (expected.sum() + 1)
        self.onward = float(np.clip(self.onward * wrong ** (1 / max(1.0, steps)), 0.2, 1.0))

    def _examine(self, posterior: Floats) -> None:
        rows, evidence = self.rows, self.rows.evidence
        good = sums(self.at, evidence.impressions * posterior[evidence.pair], len(self.shown_at)) / self.shown_at
        good = good.reshape(-1, rows.ranks)
        draws = (good * self.relevant + (1 - good) * self.irrelevant).ravel()
        last = posterior[self.last]
        start = np.where(self.none, 1.0, last * self.after[1] + (1 - last) * self.after[0])
        examined, first = start[self.order], self.first[self.order]
        for step, going in enumerate(self.going):
            e, drawn = examined[:going], draws[first[:going] + step]
            examined[:going] = self.onward * e * (1 - drawn) / (1 - e * drawn)
        self.examined[self.order] = np.maximum(examined, 1e-4)


def pulled(rate: Floats, pull: Floats) -> Floats:
    """The click rate where some people click whatever is shown: with chance `pull` they do, else at `rate`."""
    rate_with_pull: Floats = rate + pull * (1 - rate)
    return rate_with_pull


def own_clicks(evidence: Evidence, share: Floats, pull: Floats, irrelevant: Floats) -> Floats:
    """The clicks (rows,) without those that pull explains: an irrelevant document keeps the share b/(b + p(1 - b))."""
    own = irrelevant / pulled(irrelevant, pull[evidence.pair])
    kept: Floats = evidence.clicks * (share + (1 - share) * own)
    return kept


def smoothed(relevant: Floats, irrelevant: Floats, clicks: Floats) -> Floats:
    """Relevant documents' rates with log(a_k / b_k) drawn to a line in log k, as far as chance explains the distance.

    Examination cancels out of the ratio and trust bends it slowly with the rank, while a_k alone rests on the few
    relevant documents at a low rank. The variance between ranks beyond sampling is DerSimonian and Laird's (Controlled
    Clinical Trials 1986, eq. 8), with the line's two degrees of freedom. Without such variance all ranks lie on the
    line. No rank falls below `LEAST` of the line.
    """
    if len(relevant) < 4:
        return relevant
    ratio = np.log(relevant / irrelevant)
    weight = clicks / np.maximum(1 - relevant, 0.02)
    columns = np.stack([np.ones(len(ratio)), np.log(np.arange(1, len(ratio) + 1))], axis=1)
    gram = columns.T @ (columns * weight[:, None])
    line = columns @ np.linalg.solve(gram, columns.T @ (weight * ratio))
    chi_squared = float(weight @ (ratio - line) ** 2)
    squares = np.linalg.solve(gram, columns.T @ (columns * (weight**2)[:, None]))
    between = max(0.0, (chi_squared - (len(ratio) - 2)) / max(1e-9, float(weight.sum() - np.trace(squares))))
    kept = between * weight / (1 + between * weight)
    drawn: Floats = irrelevant * np.exp(np.maximum(kept * ratio + (1 - kept) * line, LEAST * line))
    return drawn


def ordered(relevant: Floats, irrelevant: Floats) -> Rates:
    """Rates within bounds; a relevant document's is at least a fifth above an irrelevant one's."""
    b = np.clip(irrelevant, 1e-6, 0.9)
    return np.clip(np.maximum(relevant, np.minimum(0.97, 1.2 * b)), 1e-6, 0.98), b
