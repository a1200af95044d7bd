"""Pairs as numbers: for each query its targets, what its softmax leaves out, its weight, and whether it is held out.

It refuses nothing: a query that cannot teach (no target, not held out) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data import replay
from trainer.data.dataset import Snapshot
from trainer.data.sparse import Sparse
from trainer.data.variants import variants as made_of
from trainer.outcome import NothingLearned

Rows = npt.NDArray[np.int64]
DEV_QUERIES = 1_000  # of each part: enough to tell half a point apart, and scored within seconds
DEV_SCORES = 50_000_000  # of each part in one evaluation: a large corpus gets fewer queries
CURATED_PASSES = 2  # more would memorise a handful of votes
ANCHOR_SHARE = 0.25  # of a step's queries: as many anchors join it, as many probes, and as many variants


@dataclass(frozen=True)
class Examples:
    """Query i of every array is `queries[i]`; documents are rows of the snapshot's vectors."""

    queries: tuple[str, ...]
    targets: Sparse  # positives that train, with shares that sum to 1
    judged: Sparse  # every positive, held out or not: rankings of the development queries are scored by them
    masked: Sparse  # neither target nor negative: ambiguous, or a positive that is held out
    rejected: Sparse  # people said no: true hard negatives, with their weights
    curated: Sparse  # the targets that people named themselves: votes, purchases, annotations
    weight: npt.NDArray[np.float32]
    new: Rows
    replayed: Rows
    dev_seen: Rows  # held-out queries; documents that train elsewhere
    dev_unseen: Rows  # held-out queries about documents that no target touches
    anchors: Rows  # queries without a pair, which stay where they are
    probes: Rows  # without a pair too; they stay where the base model has them
    variants: Rows  # made of replayed queries and anchors: they stay where the champion has them
    trained_documents: int

    def answers(self, row: int) -> Rows:
        """Documents that are, or may be, right for this query."""
        return np.concatenate([self.targets.of(row), self.masked.of(row)])

    def asked(self, rows: Rows) -> list[str]:
        """The texts of these queries."""
        return [self.queries[row] for row in rows]

    def take(self, rows: Rows) -> Examples:
        """The examples of these queries (sorted) alone."""

        def place(part: Rows) -> Rows:
            return np.searchsorted(rows, part[np.isin(part, rows)])

        return Examples(
            queries=tuple(self.queries[row] for row in rows),
            targets=self.targets.take(rows),
            judged=self.judged.take(rows),
            masked=self.masked.take(rows),
            rejected=self.rejected.take(rows),
            curated=self.curated.take(rows),
            weight=self.weight[rows],
            new=place(self.new),
            replayed=place(self.replayed),
            dev_seen=place(self.dev_seen),
            dev_unseen=place(self.dev_unseen),
            anchors=place(self.anchors),
            probes=place(self.probes),
            variants=place(self.variants),
            trained_documents=self.trained_documents,
        )


@dataclass(frozen=True)
class StepPlan:
    """The queries that a run touches, and those of each step; the last `curated_steps` steps are the curated stage."""

    examples: Examples
    steps: list[Rows]
    curated_steps: int = 0


def plan(
    snapshot: Snapshot, *, steps: int, batch_size: int | None = None, curated_share: float = 0.0, variants: int = 0
) -> StepPlan:
    """Choose every step's queries up front, so that a resumed run repeats no choice and no other query is read.

    The last `curated_share` of the steps draw half of each batch from queries with curated targets: first what clicks
    suggest, then what people said. They pass over these queries at most twice. At most `variants` of each replayed
    query and anchor join the steps.

    Raises:
        NothingLearned: no pair may be learned from.
    """
    recipe, seed, batch_size = snapshot.recipe, snapshot.header.seed, batch_size or snapshot.recipe.batch_size
    still_size = max(1, round(batch_size * ANCHOR_SHARE))
    data = build(snapshot, variants=variants, most=steps * still_size)
    if not len(data.new) + len(data.replayed):
        raise NothingLearned("every pair is held out or ambiguous: nothing to learn from; gather more feedback")
    size = {"steps": steps, "batch_size": batch_size}
    batches = replay.schedule(data.new, data.replayed, **size, share=recipe.replay_share, seed=seed)
    curated = np.flatnonzero(np.diff(data.curated.start) > 0)
    curated_steps = min(int(steps * curated_share), -(-CURATED_PASSES * 2 * len(curated) // size["batch_size"]))
    if curated_steps:
        others = np.setdiff1d(np.concatenate([data.new, data.replayed]), curated)
        size["steps"] = curated_steps
        batches[-curated_steps:] = replay.schedule(curated, others, **size, share=0.5, seed=seed + 1)
        size["steps"] = steps
    size["batch_size"] = still_size
    for number, still in enumerate((data.anchors, data.probes, data.variants)):
        if len(still):
            extra = replay.schedule(still, still[:0], **size, share=0, seed=seed + 10 * number)
            batches = [np.union1d(batch, more) for batch, more in zip(batches, extra, strict=True)]
    used = np.unique(np.concatenate([*batches, data.dev_seen, data.dev_unseen]))
    return StepPlan(data.take(used), [np.searchsorted(used, batch) for batch in batches], curated_steps)


def build(snapshot: Snapshot, *, variants: int = 0, most: int = 0) -> Examples:
    """Examples of a snapshot's pairs, and at most `variants` of each replayed query and anchor, `most` in all."""
    pairs = _merged(snapshot.pairs)
    anchored, probes = snapshot.anchors["query"].unique(), pa.array(snapshot.probes, pa.string())
    varied = _variants(pairs, anchored, variants=variants, most=most, seed=snapshot.header.seed)
    names, query = _numbered(pairs["query"], anchored, probes, varied)
    place = {doc_id: row for row, doc_id in enumerate(snapshot.doc_ids)}
    rows = np.asarray([place[doc_id] for doc_id in pairs["doc_id"].to_pylist()], np.int64)
    weight = pairs["weight"].to_numpy().astype(np.float32)
    positive, ambiguous = _is(pairs, "label", "positive"), _is(pairs, "label", "ambiguous")
    withheld = _is(pairs, "split", "dev")
    count, teaches = len(names), positive & ~withheld & (weight > 0)

    strongest = np.zeros(count, np.float32)
    np.maximum.at(strongest, query[teaches], weight[teaches])
    total = np.bincount(query[teaches], weights=weight[teaches], minlength=count)
    share = (weight / np.maximum(total[query], 1e-12)).astype(np.float32)
    excluded = ambiguous | (positive & ~teaches)
    refused = _is(pairs, "label", "negative") & ~withheld & (weight > 0)

    has_target, has_positive = strongest > 0, np.bincount(query[positive], minlength=count) > 0
    seen_document = np.zeros(len(snapshot.doc_ids), bool)
    seen_document[rows[teaches]] = True
    touches_seen = np.bincount(query[positive & seen_document[rows]], minlength=count) > 0
    fresh = np.bincount(query[teaches & _is(pairs, "source", "new")], minlength=count) > 0
    dev = has_positive & ~has_target

    def table(chosen: npt.NDArray[np.bool_], values: npt.NDArray[np.float32]) -> Sparse:
        return Sparse.build(query[chosen], rows[chosen], values[chosen], entries=count)

    return Examples(
        queries=tuple(names.to_pylist()),
        targets=table(teaches, share),
        judged=table(positive, np.ones_like(weight)),
        masked=table(excluded, np.ones_like(weight)),
        rejected=table(refused, weight),
        curated=table(teaches & ~_is(pairs, "origin", "clicks"), share),
        weight=strongest,
        new=np.flatnonzero(has_target & fresh),
        replayed=np.flatnonzero(has_target & ~fresh),
        dev_seen=np.flatnonzero(dev & touches_seen)[: _looked_at(snapshot)],
        dev_unseen=np.flatnonzero(dev & ~touches_seen)[: _looked_at(snapshot)],
        anchors=np.flatnonzero(_among(names, anchored) & ~has_positive),
        probes=np.flatnonzero(_among(names, probes) & ~_among(names, anchored) & ~has_positive),
        variants=np.flatnonzero(
            _among(names, varied) & ~_among(names, anchored) & ~_among(names, probes) & ~has_positive
        ),
        trained_documents=int(seen_document.sum()),
    )


def _numbered(queries: pa.ChunkedArray, *others: pa.Array) -> tuple[pa.Array, Rows]:
    """Every distinct text, and which of them each of `queries` is."""
    together = pa.chunked_array([*queries.chunks, *others], pa.string()).combine_chunks().dictionary_encode()
    return together.dictionary, together.indices.to_numpy().astype(np.int64)[: len(queries)]


def _variants(pairs: pa.Table, anchored: pa.Array, *, variants: int, most: int, seed: int) -> pa.Array:
    """Texts made of anchors, and of queries without new evidence."""
    positive = pairs.filter(pc.equal(pairs["label"], "positive"))
    fresh, old = (positive.filter(pc.equal(positive["source"], of))["query"].unique() for of in ("new", "replay"))
    texts = [*old.filter(pc.invert(pc.is_in(old, fresh))).to_pylist(), *anchored.to_pylist()]
    return pa.array(made_of(texts, count=min(most, variants * len(texts)), seed=seed), pa.string())


def _looked_at(snapshot: Snapshot) -> int:
    return max(DEV_QUERIES // 10, min(DEV_QUERIES, DEV_SCORES // max(1, len(snapshot.doc_ids))))


def _among(names: pa.Array, wanted: pa.Array) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = pc.is_in(names, wanted).to_numpy(zero_copy_only=False)
    return same


def _is(pairs: pa.Table, column: str, value: str) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = pc.equal(pairs[column], value).to_numpy()
    return same


def _merged(pairs: pa.Table) -> pa.Table:
    """One row per (query, document): new evidence before replayed, then the greater weight; held out if any row is."""
    # "dev" sorts before "train", so the row that is kept is held out if any row of the pair is
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
    return ranked_ndcg(best, judged)


def ranked_ndcg(best: Rows, judged: Sparse) -> npt.NDArray[np.float64]:
    """nDCG@k (n,) of rankings (n, k), best first, against each query's judged documents, all of grade 1."""
    k = best.shape[1]
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)
    result = np.zeros(len(best))
    for entry, (start, end) in enumerate(zip(judged.start[:-1], judged.start[1:], strict=True)):
        hit = np.isin(best[entry], judged.rows[start:end])
        result[entry] = (hit * discount).sum() / ideal[min(k, end - start) - 1] if end > start else np.nan
    return result
