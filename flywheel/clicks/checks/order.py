"""How well a score orders documents: AUC among pairs that were shown alike, and rankings of what was shown.

Rank and exposure predict grades by themselves. A score is only better than they are if it is so where they are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.clicks.pages import Floats, Ints, PairCounts

_DRAWS = 1_000
_MOST = 400


@dataclass(frozen=True, slots=True)
class Couples:
    """A good and a bad pair that were shown alike, by row; `query` is that of the good one, by which rows resample."""

    good: Ints
    bad: Ints
    query: Ints

    def one_clicked(self, clicks: Floats) -> Couples:
        """Those of whose two pairs just one has a click: where clicks say anything."""
        told = (clicks[self.good] > 0) != (clicks[self.bad] > 0)
        return Couples(self.good[told], self.bad[told], self.query[told])


@dataclass(frozen=True, slots=True)
class Auc:
    """Share of couples in the right order, ties half; `apart` from the first score's, with its 95 % interval."""

    value: float
    apart: float
    low: float
    high: float


def couples_within(relevant: Floats, query: Ints, counts: PairCounts) -> Couples:
    """Couples of one query and one rounded mean rank, impressions within the same power of √2.

    `relevant`, (pairs,), is 1, 0, or NaN where nobody judged the pair.
    """
    known = np.flatnonzero(~np.isnan(relevant) & (counts.impressions > 0))
    return _couples(known, np.stack([query[known], *_alike(counts, known)]), relevant, query)


def couples_across(relevant: Floats, query: Ints, counts: PairCounts, rng: np.random.Generator) -> Couples:
    """The same over all queries. Of each cell at most 400 good and 400 bad ones, drawn at random."""
    known = rng.permutation(np.flatnonzero(~np.isnan(relevant) & (counts.impressions > 0)))
    return _couples(known, np.stack(_alike(counts, known)), relevant, query)


def _alike(counts: PairCounts, known: Ints) -> list[Ints]:
    rank = np.round(counts.mean_rank[known]).astype(np.int64)
    return [rank, np.round(2 * np.log2(counts.impressions[known])).astype(np.int64)]


def _couples(pairs: Ints, key: Ints, relevant: Floats, query: Ints) -> Couples:
    cell = np.unique(key, axis=1, return_inverse=True)[1].ravel()
    good, bad = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    order = np.argsort(cell, kind="stable")
    for members in np.split(pairs[order], np.flatnonzero(np.diff(cell[order])) + 1):
        yes, no = members[relevant[members] > 0][:_MOST], members[relevant[members] <= 0][:_MOST]
        good.append(np.repeat(yes, len(no)))
        bad.append(np.tile(no, len(yes)))
    found = np.concatenate(good)
    return Couples(found, np.concatenate(bad), query[found])


def auc(couples: Couples, scores: Mapping[str, Floats], rng: np.random.Generator) -> dict[str, Auc]:
    """AUC of each score, and its difference from the first score's, paired: queries resampled, the same for all.

    It is the Mann-Whitney statistic over the couples (Hanley & McNeil, Radiology 1982). Empty without couples.
    """
    if not len(couples.query):
        return {}
    queries, which = np.unique(couples.query, return_inverse=True)
    count = np.bincount(which).astype(np.float64)
    right = np.stack(
        [np.bincount(which, 0.5 + 0.5 * np.sign(score[couples.good] - score[couples.bad])) for score in scores.values()]
    )
    weights = rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=_DRAWS)
    drawn = (weights @ right.T) / (weights @ count)[:, None]
    found = {}
    for row, name in enumerate(scores):
        low, high = np.quantile(drawn[:, row] - drawn[:, 0], [0.025, 0.975])
        apart = (right[row] - right[0]).sum() / count.sum()
        found[name] = Auc(float(right[row].sum() / count.sum()), float(apart), float(low), float(high))
    return found


def ranked(score: Floats, query: Ints, among: Ints, rng: np.random.Generator) -> dict[int, Ints]:
    """The pairs `among` by query, the best score first; ties in an order by chance, which owes nothing to names."""
    shuffled = rng.permutation(among)
    order = shuffled[np.lexsort((-score[shuffled], query[shuffled]))]
    queries, start = np.unique(query[order], return_index=True)
    return dict(zip(queries.tolist(), np.split(order, start[1:]), strict=True))
