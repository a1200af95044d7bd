"""Which precision may be promised of clicked pairs where judged queries have clicks too, from aggregates alone.

It reads `Evidence` of the judged queries, and applies what it finds to the evidence that is learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.clicks.checks.promise import (
    CONFIDENCE,
    Promise,
    calibrate,
    columns_of,
    cross_fitted,
    pairs_needed,
    promise,
)
from flywheel.clicks.evidence import Evidence, Floats
from flywheel.clicks.pages import PairCounts

_SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Verified:
    """What judged queries with clicks show.

    `promise` is None where nothing can be shown; then the expected precision is unverified. `chance`, (pairs,), is the
    calibrated chance of each pair of the evidence that is learned from, NaN without a promise. `pairs_needed` is how
    many judged pairs above a threshold would show what was asked if 2 points more were true.
    """

    asked: float
    judged_pairs: int
    judged_queries: int
    promise: Promise | None
    chance: Floats
    pairs_needed: int | None

    @property
    def promised(self) -> Floats:
        """(pairs,): true where the promise holds of a pair."""
        if self.promise is None:
            return np.zeros(len(self.chance), np.bool_)
        return np.asarray(self.chance > self.promise.threshold)

    @property
    def sentence(self) -> str:
        """What may be said, and what would allow to say more."""
        if self.promise is None:
            having = f"{self.judged_pairs} judged pairs with clicks or impressions" if self.judged_pairs else "none yet"
            return (
                f"unverified: nothing shows that positives are right in {self.asked:.0%}; about {self.pairs_needed} "
                f"judged pairs of queries that people search would ({having}); `flywheel export labels --sample` draws "
                f"them"
            )
        made = self.promise
        told = (
            f"promised right in {made.level:.1%} (lower bound with a confidence of {CONFIDENCE:.0%}, from {made.pairs} "
            f"judged pairs of {made.queries} queries)"
        )
        if made.pairs_needed is None:
            return told
        return f"{told}; to show {self.asked:.0%} it would take about {made.pairs_needed} judged pairs"


def counts_of(evidence: Evidence) -> PairCounts:
    """Counts of each pair, weighted by age and caps. A query has as many pages as its most shown pair."""
    shown = evidence.pair_impressions()
    pages = np.zeros(len(evidence.queries))
    np.maximum.at(pages, evidence.pair_query, shown)
    return PairCounts(
        shown, evidence.pair_clicks(), evidence.mean_rank(), pages[evidence.pair_query], np.ones(len(shown))
    )


def grades_of(evidence: Evidence, judged: Iterable[tuple[str, Mapping[str, float]]], relevant_from: float) -> Floats:
    """(pairs,): 1, 0, or NaN where nobody judged the pair; `judged` are (normalised query, document -> grade).

    Several sets may judge a query: the higher grade counts. A set that lists relevant documents alone means that the
    others are not.
    """
    known = list(judged)
    number = {name: row for row, name in enumerate(evidence.queries)}
    told: dict[tuple[int, str], float] = {}
    for key, grades in known:
        for doc_id, grade in grades.items():
            if key in number:
                known_as = number[key], doc_id
                told[known_as] = max(grade, told.get(known_as, grade))
    alone = all(grade >= relevant_from for _, grades in known for grade in grades.values())
    asked = {number[key] for key, grades in known if key in number and grades}
    found = np.full(evidence.pairs, np.nan)
    for pair, (query, doc) in enumerate(
        zip(evidence.pair_query.tolist(), evidence.pair_document.tolist(), strict=True)
    ):
        place = query, evidence.documents[doc]
        judged_alone = alone and query in asked and place not in told
        value = 0.0 if judged_alone else told.get(place)
        if value is not None:
            found[pair] = float(value >= relevant_from)
    return found


def verify(judged: Evidence, relevant: Floats, learned: Evidence, asked: float, rng: np.random.Generator) -> Verified:
    """Promise `asked`, or the highest level that can be shown, of pairs of `learned`.

    `relevant` (pairs of `judged`,) as `grades_of` gives it. Queries that are judged are not among those of `learned`.
    """
    counts = counts_of(judged)
    known = ~np.isnan(relevant) & (counts.impressions > 0)
    query, columns = judged.pair_query[known].astype(np.int64), columns_of(counts)[known]
    needed = pairs_needed(asked, min(0.999, asked + _SLACK))
    nothing = np.full(learned.pairs, np.nan)
    queries = len(np.unique(query))
    if not known.any() or len(np.unique(relevant[known])) < 2:
        return Verified(asked, int(known.sum()), queries, None, nothing, needed)
    chance = cross_fitted(columns, relevant[known], query, rng)
    made = promise(chance, relevant[known], query, asked, rng)
    if made is None:
        return Verified(asked, int(known.sum()), queries, None, nothing, needed)
    of = counts_of(learned)
    shown = of.impressions > 0
    calibrated = np.where(shown, calibrate(columns, relevant[known]).probabilities(columns_of(of)), np.nan)
    return Verified(asked, int(known.sum()), queries, made, calibrated, made.pairs_needed)
