"""Pages as arrays: what was shown to whom, at which rank, and what was clicked. Nothing here estimates anything.

`flywheel.clicks.evidence` has aggregates, which suffice to fit. Whoever asks if people agree, or how well a model
foretells a page, needs the pages themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flywheel.clicks.evidence import sums

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LAST_RANK = 50
"""What stands lower counts as this rank: hardly anybody looks there, and tables by rank stay small."""
GRID = LAST_RANK
"""Rank r of a grid is kept as rank GRID + r: nothing that is counted by rank takes a grid for a list."""
RANKS = GRID + LAST_RANK
"""All ranks that there are."""


@dataclass(frozen=True, slots=True)
class ShownPage:
    """One page as it was shown. `ranks` None: the documents stand at ranks 1, 2, ...; `clicked` are documents.

    `grid`: it was laid out as a grid.
    """

    query: str
    person: str
    ts_ms: int
    documents: Sequence[str]
    clicked: Collection[str]
    ranks: Sequence[int] | None = None
    grid: bool = False


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What is counted of each pair, all (pairs,).

    `mean_rank` is that of its impressions; of a pair without any it is the last rank of the log. `pages` are those of
    the pair's query. `expected` are the clicks that its places get on average over all documents.
    """

    impressions: Floats
    clicks: Floats
    mean_rank: Floats
    pages: Floats
    expected: Floats

    @property
    def ctr(self) -> Floats:
        """Clicks over impressions."""
        return self.clicks / np.maximum(self.impressions, 1.0)

    @property
    def coec(self) -> Floats:
        """Clicks over expected clicks (Zhang & Jones, WWW 2007 workshop on query log analysis, section 3)."""
        return self.clicks / np.maximum(self.expected, 1e-9)


@dataclass(frozen=True, slots=True)
class ClickLog:
    """Pages in the order in which they came, padded on the right to one width with pair -1 and rank 0.

    `query`, `person`, `ts_ms`: (pages,), the first two as numbers. `pair`, `rank`, `clicked`: (pages, width). Pair i is
    document `documents[pair_document[i]]` for `queries[pair_query[i]]`.
    """

    query: Ints
    person: Ints
    ts_ms: Ints
    pair: Ints
    rank: Ints
    clicked: Bools
    pair_query: Ints
    pair_document: Ints
    queries: tuple[str, ...]
    documents: tuple[str, ...]

    @staticmethod
    def of(pages: Sequence[ShownPage]) -> ClickLog:
        """Numbers are given in the order of names, so that the same pages give the same numbers.

        A document that a page lists twice counts once, at the better rank. Clicks on what a page does not list are
        left out.
        """
        queries = {name: row for row, name in enumerate(sorted({page.query for page in pages}))}
        people = {name: row for row, name in enumerate(sorted({page.person for page in pages}))}
        documents = {name: row for row, name in enumerate(sorted({doc for page in pages for doc in page.documents}))}
        shape = (len(pages), max((len(page.documents) for page in pages), default=0))
        document, rank = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        clicked = np.zeros(shape, np.bool_)
        for row, page in enumerate(pages):
            listed: dict[str, int] = {}
            for doc, place in zip(page.documents, page.ranks or range(1, len(page.documents) + 1), strict=True):
                listed[doc] = min(place, listed.get(doc, place))
            for column, (doc, place) in enumerate(sorted(listed.items(), key=lambda item: item[1])):
                document[row, column] = documents[doc]
                rank[row, column] = min(place, LAST_RANK) + GRID * page.grid
                clicked[row, column] = doc in page.clicked
        query = np.array([queries[page.query] for page in pages], np.int64)
        key = query[:, None] * len(documents) + document
        found, pair = np.unique(key[document >= 0], return_inverse=True)
        numbered = np.full(shape, -1, np.int64)
        numbered[document >= 0] = pair
        return ClickLog(
            query, np.array([people[page.person] for page in pages], np.int64),
            np.array([page.ts_ms for page in pages], np.int64), numbered, rank, clicked,
            found // max(1, len(documents)), found % max(1, len(documents)), tuple(queries), tuple(documents),
        )  # fmt: skip

    @property
    def shown(self) -> Bools:
        """Places that hold a document."""
        return np.asarray(self.pair >= 0, np.bool_)

    @property
    def pairs(self) -> int:
        return len(self.pair_query)

    def only(self, pages: Bools) -> ClickLog:
        """The same log with these pages alone; the numbers of queries, people and pairs stay."""
        columns = ("query", "person", "ts_ms", "pair", "rank", "clicked")
        return replace(self, **{name: getattr(self, name)[pages] for name in columns})

    def counts(self) -> PairCounts:
        """Sums over the log's pages."""
        shown, rank = self.shown, self.rank
        impressions = np.bincount(self.pair[shown], minlength=self.pairs).astype(np.float64)
        clicks = np.bincount(self.pair[self.clicked], minlength=self.pairs).astype(np.float64)
        places = np.where(rank > LAST_RANK, rank - GRID, rank)
        ranks = sums(self.pair[shown], places[shown].astype(np.float64), self.pairs)
        mean_rank = np.where(impressions > 0, ranks / np.maximum(impressions, 1), float(places.max(initial=1)))
        clicked = sums(rank[shown], self.clicked[shown].astype(np.float64), RANKS + 1)
        usual = clicked / np.maximum(np.bincount(rank[shown], minlength=RANKS + 1), 1)
        pages = np.bincount(self.query, minlength=len(self.queries)).astype(np.float64)[self.pair_query]
        expected = sums(self.pair[shown], usual[rank[shown]], self.pairs)
        return PairCounts(impressions, clicks, mean_rank, pages, expected)

    def distance(self) -> Ints:
        """(pages, width): places from the last click above, 1 for the next one; 0 where there is none."""
        column = np.arange(self.pair.shape[1])
        last = np.maximum.accumulate(np.where(self.clicked, column, -1), axis=1)
        before = np.concatenate([np.full((len(last), 1), -1), last[:, :-1]], axis=1)
        return np.where(before < 0, 0, column - before)
