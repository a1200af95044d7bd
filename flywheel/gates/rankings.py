"""How good a model is on a judged collection: exact search over all of it, one score a query, seen and unseen apart.

It decides nothing; `flywheel.gates.offline` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Inconclusive
from flywheel.stats.metrics import judged_only as condensed
from flywheel.stats.metrics import parse_metric
from flywheel.stats.paired import PairedSums

Vectors = npt.NDArray[np.float32]
METRICS = ("ndcg@10", "recall@10", "mrr@10")
DEPTH = 10
_CHUNK = 256  # queries at a time, which bounds the matrix of scores


@dataclass(frozen=True, slots=True)
class Scored:
    """One model on one split: `scores[metric]` float64 (queries,), `ranked[i]` the first hits of query i."""

    scores: Mapping[str, npt.NDArray[np.float64]]
    ranked: tuple[tuple[str, ...], ...]
    seen: npt.NDArray[np.bool_]


def score(
    queries: Vectors,
    documents: Vectors,
    doc_ids: Sequence[str],
    judgements: Sequence[Mapping[str, float]],
    seen: Collection[str],
    *,
    judged_only: bool = False,
) -> Scored:
    """Rank all documents for each query by inner product, and score the first ten."""
    # taking documents out moves others up, so then all are ranked
    ranked = rank(queries, documents, doc_ids, depth=len(doc_ids) if judged_only else DEPTH)
    if judged_only:
        ranked = condensed(ranked, judgements)
    positives = seen if isinstance(seen, (set, frozenset)) else set(seen)
    touched = [any(grade > 0 and doc in positives for doc, grade in grades.items()) for grades in judgements]
    return Scored(
        scores={name: parse_metric(name)(ranked, judgements) for name in METRICS},
        ranked=tuple(tuple(hits[:DEPTH]) for hits in ranked),
        seen=np.array(touched, dtype=bool),
    )


def rank(queries: Vectors, documents: Vectors, doc_ids: Sequence[str], *, depth: int) -> list[list[str]]:
    """The `depth` best documents of each query, best first; equal scores keep the order of the corpus."""
    depth = min(depth, len(doc_ids))
    ranked: list[list[str]] = []
    for start in range(0, len(queries), _CHUNK):
        scores = queries[start : start + _CHUNK] @ documents.T
        if depth == len(doc_ids):
            order = np.argsort(-scores, axis=1, kind="stable")
        else:
            # columns in the order of the corpus, so that the stable sort keeps it among equal scores
            best = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
            inner = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
            order = np.take_along_axis(best, inner, axis=1)
        ranked.extend([doc_ids[column] for column in row] for row in order)
    return ranked


def summary(scored: Scored) -> dict[str, Any]:
    """Means over all, seen and unseen queries; queries without a relevant document are not counted."""
    judged = ~np.isnan(scored.scores[METRICS[0]])
    parts = {"all": judged, "seen": judged & scored.seen, "unseen": judged & ~scored.seen}
    result: dict[str, Any] = {"queries": {name: int(mask.sum()) for name, mask in parts.items()}}
    for metric, values in scored.scores.items():
        result[metric] = {name: float(values[mask].mean()) if mask.any() else None for name, mask in parts.items()}
    return result


def differences(ours: Scored, theirs: Scored) -> dict[str, dict[str, dict[str, Any]]]:
    """Ours less theirs by metric and part, paired by query: effect with its 95 % interval, and how many queries moved.

    `{effect, low, high, p_value, better, worse, equal}`; `inconclusive` says why where there is no interval.
    """
    judged = ~np.isnan(ours.scores[METRICS[0]])
    parts = {"all": judged, "seen": judged & ours.seen, "unseen": judged & ~ours.seen}
    return {
        metric: {
            name: _difference(theirs.scores[metric][rows], ours.scores[metric][rows]) for name, rows in parts.items()
        }
        for metric in ours.scores
    }


def _difference(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> dict[str, Any]:
    change = after - before
    counts = {"better": int((change > 0).sum()), "worse": int((change < 0).sum()), "equal": int((change == 0).sum())}
    estimate = PairedSums.of(before, after).compare()
    if isinstance(estimate, Inconclusive):
        return {"inconclusive": estimate.reason, **counts}
    low, high = estimate.interval()
    return {"effect": estimate.effect, "low": low, "high": high, "p_value": estimate.p_value(), **counts}


def moved(ours: Scored, theirs: Scored, metric: str = METRICS[0], *, most: int = 10) -> list[dict[str, Any]]:
    """The queries whose score changed most from `theirs` to `ours`: row, scores before and after, both rankings."""
    change = np.nan_to_num(ours.scores[metric] - theirs.scores[metric])
    rows = [int(row) for row in np.argsort(-np.abs(change), kind="stable")[:most] if change[row] != 0]
    return [
        {
            "row": row,
            "before": float(theirs.scores[metric][row]),
            "after": float(ours.scores[metric][row]),
            "ranked_before": list(theirs.ranked[row]),
            "ranked_after": list(ours.ranked[row]),
        }
        for row in rows
    ]
