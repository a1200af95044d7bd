"""Ranked ids and judgements in, one score per query out. It never averages: two models are compared by pairs.

Definitions are trec_eval's, so that figures can be checked against it. A document is relevant when its grade is above
zero. A document that nobody judged counts as not relevant (`judged_only` leaves such documents out instead).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Ranked = Sequence[Sequence[str]]
Judged = Sequence[Mapping[str, float]]
Metric = Callable[[Ranked, Judged], Scores]


def recall(ranked: Ranked, judged: Judged, k: int) -> Scores:
    """Share of a query's relevant documents among its first `k` (trec_eval `recall_k`).

    Returns float64 (queries,), nan where a query has no relevant document.
    """
    return _each(ranked, judged, lambda hits, grades: _found(hits[:k], grades) / _relevant(grades))


def mrr(ranked: Ranked, judged: Judged, k: int) -> Scores:
    """One over the rank of the first relevant document within `k`, else 0 (trec_eval `recip_rank`, cut at `k`).

    Returns float64 (queries,), nan where a query has no relevant document.
    """

    def score(hits: Sequence[str], grades: Mapping[str, float]) -> float:
        return next((1.0 / rank for rank, doc in enumerate(hits[:k], 1) if grades.get(doc, 0.0) > 0), 0.0)

    return _each(ranked, judged, score)


def ndcg(ranked: Ranked, judged: Judged, k: int) -> Scores:
    """Discounted cumulative gain over that of the ideal ranking, both cut at `k` (trec_eval `ndcg_cut_k`).

    Gain is the grade itself, discount log2(rank + 1): Järvelin & Kekäläinen (2002), eq. 2, as trec_eval reads it.
    Returns float64 (queries,), nan where a query has no relevant document.
    """

    def score(hits: Sequence[str], grades: Mapping[str, float]) -> float:
        ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        return _dcg([max(grades.get(doc, 0.0), 0.0) for doc in hits[:k]]) / _dcg(ideal[:k])

    return _each(ranked, judged, score)


def judged_only(ranked: Ranked, judged: Judged) -> list[list[str]]:
    """The rankings without documents that nobody judged: for collections with few judgements per query.

    Sakai (2007), "Alternatives to Bpref": condensed lists. They flatter rankings with many unjudged documents, so say
    when they are used.
    """
    return [[doc for doc in hits if doc in grades] for hits, grades in zip(ranked, judged, strict=True)]


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Documents that both lists have in their first `k`, as a share of the longer one; 1 for two empty lists."""
    longest = max(len(one[:k]), len(other[:k]))
    return len(set(one[:k]) & set(other[:k])) / longest if longest else 1.0


def rbo(one: Sequence[str], other: Sequence[str], p: float = 0.9) -> float:
    """Rank-biased overlap of two rankings without repeats, 0 to 1, extrapolated beyond the depth that both reach.

    Webber, Moffat & Zobel (2010), "A similarity measure for indefinite rankings", eq. 30: with X_d common documents
    among the first d, (X_k / k) p^k + (1 - p) / p * sum of (X_d / d) p^d up to k. At p = 0.9 the first ten places
    carry 86 % of the weight.
    """
    depth = min(len(one), len(other))
    if not depth:
        return 1.0 if not one and not other else 0.0
    common, total, agreement = 0, 0.0, 0.0
    ours: set[str] = set()
    theirs: set[str] = set()
    for d, (a, b) in enumerate(zip(one, other, strict=False), 1):
        common += 1 if a == b else (a in theirs) + (b in ours)
        ours.add(a)
        theirs.add(b)
        agreement = common / d
        total += agreement * p**d
    return agreement * p**depth + (1 - p) / p * total


METRICS: Mapping[str, Callable[[Ranked, Judged, int], Scores]] = {"recall": recall, "mrr": mrr, "ndcg": ndcg}


def parse_metric(name: str) -> Metric:
    """The function behind a name such as `recall@10`.

    Raises:
        ValueError: the name is not `recall|mrr|ndcg` `@` a whole number above zero.
    """
    kind, _, cut = name.partition("@")
    if kind not in METRICS or not cut.isdecimal() or int(cut) < 1:
        examples = ", ".join(f"{metric}@10" for metric in METRICS)
        raise ValueError(f"unknown metric {name!r}: write one of {examples}, with any cut-off above 0")
    function = METRICS[kind]
    return lambda ranked, judged: function(ranked, judged, int(cut))


def _each(ranked: Ranked, judged: Judged, score: Callable[[Sequence[str], Mapping[str, float]], float]) -> Scores:
    """`score` for every query that has a relevant document; a repeated document counts at its first rank."""
    scores = np.full(len(judged), np.nan)
    for row, (hits, grades) in enumerate(zip(ranked, judged, strict=True)):
        if _relevant(grades):
            scores[row] = score(list(dict.fromkeys(hits)), grades)
    return scores


def _relevant(grades: Mapping[str, float]) -> int:
    return sum(grade > 0 for grade in grades.values())


def _found(hits: Sequence[str], grades: Mapping[str, float]) -> int:
    return sum(grades.get(doc, 0.0) > 0 for doc in hits)


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
