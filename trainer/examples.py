"""Pairs as numbers: for each query its targets, what its softmax leaves out, its weight, and whether it is held out.

Refuses nothing: what cannot teach (no target, not held out) simply takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset import Snapshot
from trainer.softmax import Sparse

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Query i of every array is `queries[i]`; documents are rows of the snapshot's vectors."""

    queries: tuple[str, ...]
    targets: Sparse  # positives that train, with shares that sum to 1
    judged: Sparse  # every positive, held out or not: what a ranking of the development queries is scored by
    masked: Sparse  # neither target nor negative: ambiguous, or a positive that is held out
    weight: npt.NDArray[np.float32]
    new: Rows
    replayed: Rows
    dev_seen: Rows  # held-out queries; documents that train elsewhere
    dev_unseen: Rows  # held-out queries about documents that no target touches
    trained_documents: int


def build(snapshot: Snapshot) -> Examples:
    """Examples of a snapshot's pairs."""
    pairs = _merged(snapshot.pairs)
    names, query = np.unique(pairs["query"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    place = {doc_id: row for row, doc_id in enumerate(snapshot.doc_ids)}
    rows = np.asarray([place[doc_id] for doc_id in pairs["doc_id"].to_pylist()], np.int64)
    label = pairs["label"].to_numpy(zero_copy_only=False).astype(str)
    weight = pairs["weight"].to_numpy().astype(np.float32)
    positive, held = label == "positive", pairs["split"].to_numpy(zero_copy_only=False).astype(str) == "dev"
    count, teaches = len(names), positive & ~held & (weight > 0)

    strongest = np.zeros(count, np.float32)
    np.maximum.at(strongest, query[teaches], weight[teaches])
    total = np.bincount(query[teaches], weights=weight[teaches], minlength=count)
    share = (weight / np.maximum(total[query], 1e-12)).astype(np.float32)
    out = (label == "ambiguous") | (positive & ~teaches)

    has_target, has_positive = strongest > 0, np.bincount(query[positive], minlength=count) > 0
    seen_document = np.zeros(len(snapshot.doc_ids), bool)
    seen_document[rows[teaches]] = True
    touches_seen = np.bincount(query[positive & seen_document[rows]], minlength=count) > 0
    fresh = np.bincount(query[pairs["source"].to_numpy(zero_copy_only=False).astype(str) == "new"], minlength=count) > 0
    dev = has_positive & ~has_target

    def table(chosen: npt.NDArray[np.bool_], values: npt.NDArray[np.float32]) -> Sparse:
        return Sparse.build(query[chosen], rows[chosen], values[chosen], entries=count)

    return Examples(
        queries=tuple(names.tolist()),
        targets=table(teaches, share),
        judged=table(positive, np.ones_like(weight)),
        masked=table(out, np.ones_like(weight)),
        weight=strongest,
        new=np.flatnonzero(has_target & fresh),
        replayed=np.flatnonzero(has_target & ~fresh),
        dev_seen=np.flatnonzero(dev & touches_seen),
        dev_unseen=np.flatnonzero(dev & ~touches_seen),
        trained_documents=int(seen_document.sum()),
    )


def _merged(pairs: pa.Table) -> pa.Table:
    """One row per (query, document): new evidence before replayed, then the greater weight; held out if any row is."""
    order = pc.sort_indices(
        pairs.append_column("old", pc.equal(pairs["source"], "replay").cast(pa.int8())),
        sort_keys=[
            ("query", "ascending"), ("doc_id", "ascending"), ("split", "ascending"),
            ("old", "ascending"), ("weight", "descending"),
        ],
    )  # fmt: skip
    ordered = pairs.take(order).combine_chunks()
    query, doc_id = (ordered[name].to_numpy(zero_copy_only=False) for name in ("query", "doc_id"))
    if not len(ordered):
        return ordered
    first = np.r_[True, (query[1:] != query[:-1]) | (doc_id[1:] != doc_id[:-1])]
    return ordered.filter(pa.array(first))


def dev_ndcg(scores: npt.NDArray[np.float32], judged: Sparse, *, k: int = 10) -> npt.NDArray[np.float64]:
    """nDCG@k (n,) of score rows (n, documents) against their judged documents, all of grade 1."""
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable"), 1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)
    result = np.zeros(len(scores))
    for entry, (start, end) in enumerate(zip(judged.start[:-1], judged.start[1:], strict=True)):
        hit = np.isin(best[entry], judged.rows[start:end])
        result[entry] = (hit * discount).sum() / ideal[min(k, end - start) - 1] if end > start else np.nan
    return result
