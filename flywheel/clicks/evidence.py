"""What was shown and what people did, aggregated: the click model's input and the facts that explain each pair.

Plain columns, which the store and simulations build alike; nothing here computes a posterior.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flywheel.clicks.dwell import Threshold

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


def sums(groups: npt.NDArray[np.integer], weights: Floats, count: int) -> Floats:
    """Sum of the weights in each of `count` groups."""
    return np.bincount(groups, weights=weights, minlength=count).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Aggregated impressions, a row for each distinct (pair, rank, set of pairs clicked above on the page).

    Pairs: `pair_query`, `pair_document` index into `queries` (normalised texts) and `documents` (ids).
    How their clicks ended: `measured` weighted clicks with a dwell, of them `satisfied` and `bounced`.
    Rows: `pair` indexes the pairs; `rank` is 1-based; `above` numbers the click set, 0 for none; `impressions` and
    `clicks` are weighted counts. Set s holds `set_pairs[set_start[s]:set_start[s + 1]]` in the order of the page; set 0
    is empty. `distance` counts the places from the last click above, or from the page's top, to the row: 1 is the next
    result, or rank 1. The cascade cannot be fitted without it. `idle` (documents,) are the log odds that the document's
    clickers are people who click nothing else (see `flywheel.clicks.colluders`). `grid` marks rows of pages laid out as
    a grid, which people do not read from the top down; None: there are none.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    pair_query: Ints
    pair_document: Ints
    measured: Floats
    satisfied: Floats
    bounced: Floats
    pair: Ints
    rank: Ints
    above: Ints
    impressions: Floats
    clicks: Floats
    set_start: npt.NDArray[np.int64]
    set_pairs: Ints
    distance: Ints | None = None
    idle: Floats | None = None
    grid: npt.NDArray[np.bool_] | None = None

    @staticmethod
    def nothing() -> Evidence:
        """No page, no pair."""
        ints, floats = np.zeros(0, np.int32), np.zeros(0)
        return Evidence(
            (), (), ints, ints, floats, floats, floats, ints, ints, ints, floats, floats, np.zeros(2, np.int64), ints
        )

    @property
    def pairs(self) -> int:
        return len(self.pair_query)

    def pair_impressions(self) -> Floats:
        """Weighted impressions of each pair, over all ranks."""
        return sums(self.pair, self.impressions, self.pairs)

    def pair_clicks(self) -> Floats:
        """Weighted clicks of each pair, over all ranks."""
        return sums(self.pair, self.clicks, self.pairs)

    def mean_rank(self) -> Floats:
        """Impression-weighted mean rank of each pair; 1 where nothing was shown."""
        shown = self.pair_impressions()
        total = sums(self.pair, self.impressions * self.rank, self.pairs)
        return np.where(shown > 0, total / np.maximum(shown, 1e-12), 1.0)

    def moved(self) -> int:
        """Pairs seen at two ranks or more: the interventions that tie the ranks' rates together."""
        seen = np.unique(np.stack([self.pair, self.rank]), axis=1)
        return int((np.bincount(seen[0], minlength=self.pairs) > 1).sum()) if len(self.pair) else 0


@dataclass(frozen=True, slots=True)
class ScoreFeatures:
    """The champion's opinion of each pair: its score, the gap to the query's best score, and its rank.

    `rank` is None where only the ranks at which the pair was shown are known. `words` is a second opinion from the
    words that query and document share: 1 for the query's best pair, 0 for none; None where it was not computed.
    """

    score: Floats
    gap: Floats
    rank: Floats | None = None
    words: Floats | None = None

    @staticmethod
    def of(evidence: Evidence, score: Floats, words: Floats | None = None) -> ScoreFeatures:
        """From the scores of the pairs: gap to the best of the query's pairs, and rank among them.

        `words` (pairs,) are scores by words, of any scale. Only documents that were shown have a rank here, so that it
        may be better than in the whole index.
        """
        score = np.asarray(score, dtype=np.float64)
        top = np.full(len(evidence.queries), -np.inf)
        np.maximum.at(top, evidence.pair_query, score)
        order = np.lexsort((-score, evidence.pair_query))
        query = evidence.pair_query[order]
        place = np.arange(len(order))
        first = np.maximum.accumulate(np.where(np.diff(query, prepend=-1) != 0, place, 0)) if len(order) else place
        rank = np.empty(len(order))
        rank[order] = place - first + 1
        if words is not None:
            most = np.zeros(len(evidence.queries))
            np.maximum.at(most, evidence.pair_query, words)
            words = words / np.maximum(most, 1e-12)[evidence.pair_query]
        return ScoreFeatures(score, top[evidence.pair_query] - score, rank, words)


@dataclass(frozen=True, slots=True)
class Explicit:
    """People who voted (by their latest vote), put a pair's document into a cart or bought it, (pairs,) each.

    A person counts 1 on a page of now, and half with each half-life of the page's age, as clicks do.
    """

    up: Floats
    down: Floats
    carts: Floats
    purchases: Floats


@dataclass(frozen=True, slots=True)
class PairFacts:
    """Unweighted counts behind each pair of an `Evidence`, in its order, for provenance.

    `thumbs_up`, `thumbs_down` count people by their latest vote; `carts`, `purchases` and `users` count people too.
    Times are those of the earliest and the latest page or event, in epoch milliseconds. `aged` are the votes, carts and
    purchases as they count now; None: all in full.
    """

    impressions: Counts
    clicks: Counts
    satisfied: Counts
    bounced: Counts
    thumbs_up: Counts
    thumbs_down: Counts
    carts: Counts
    purchases: Counts
    users: Counts
    first_ms: Counts
    last_ms: Counts
    model_versions: tuple[tuple[str, ...], ...]
    aged: Explicit | None = None

    def explicit(self) -> Explicit:
        """What people said and bought, as it counts now."""
        if self.aged is not None:
            return self.aged
        counts = (self.thumbs_up, self.thumbs_down, self.carts, self.purchases)
        return Explicit(*(count.astype(np.float64) for count in counts))


@dataclass(frozen=True, slots=True)
class ExcludedUser:
    """A user whose pages and events were left out, and why."""

    user_key: str
    reason: str
    impressions: int
    clicks: int
    dwells: int


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything that one pass over the feedback up to `until_ms` yields; `texts` are the queries as people typed them.

    `unplaced_clicks`: clicks on documents that their page does not list; they are not counted.
    """

    evidence: Evidence
    facts: PairFacts
    texts: tuple[str, ...]
    until_ms: int
    excluded: tuple[ExcludedUser, ...] = field(default=())
    unplaced_clicks: int = 0
    dwell: tuple[Threshold, ...] = field(default=())
