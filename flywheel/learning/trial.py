"""What a field of challengers is scored by: one label set that no reading made, and one pool of candidates for all.

It trains nothing and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.clicks.evidence import Collected, Evidence, Floats, sums
from flywheel.learning.folds import Folds
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.index import Index
from flywheel.settings.load import Config
from flywheel.stats.metrics import ndcg
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

DEPTH = 10
LEAST = 15
"""Queries with labels below which nothing is chosen by them: the least from which a sign-flip test says anything."""
POOL = 2_000
"""Documents that all rank where one of them must encode its own; a smaller collection is ranked whole."""
STANDS_OUT = 1.0
"""Standard deviations above what others at its ranks get, from which a document's clicks are a label."""
_PRIOR = 10.0  # impressions: how much the rate of a rank over all queries weighs beside the query's own


@dataclass(frozen=True, slots=True)
class Labels:
    """Relevant documents by query. `shown`: the only candidates of each query; None: all documents are. `unseen`,
    bool (queries,): whether training touched none of the relevant documents."""

    kind: str
    queries: tuple[str, ...]
    grades: tuple[Mapping[str, float], ...]
    shown: tuple[tuple[str, ...], ...] | None
    unseen: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.queries)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a file; `of` reads them."""
        return {
            "kind": self.kind,
            "queries": self.queries,
            "grades": [dict(grades) for grades in self.grades],
            "shown": self.shown,
            "unseen": self.unseen.tolist(),
        }

    @staticmethod
    def of(told: Mapping[str, Any]) -> Labels:
        """What `as_dict` said."""
        shown = told["shown"]
        return Labels(
            told["kind"],
            tuple(told["queries"]),
            tuple(told["grades"]),
            None if shown is None else tuple(tuple(names) for names in shown),
            np.array(told["unseen"], np.bool_),
        )


def labels_of(
    store: Store, config: Config, run: TrainingRun, since_ms: int, indexed: Collection[str], trained: Collection[str]
) -> Labels:
    """Labels from the run's queries that choose: what people said, else what their clicks single out.

    Evidence after `since_ms`, which the champion has not learned from, is taken alone where it gives enough.
    """
    folds, golden = Folds.of(run, config.trainer.dev_share), store.golden.query_keys()
    until_ms = run.until_ms or 0
    asked = {key for key in store.heldout.query_keys(until_ms) if folds.query(key) == "choose"} - set(golden)
    found = Labels("none", (), (), None, np.empty(0, bool))
    if not asked:
        return found
    for since in (since_ms, 0) if since_ms else (0,):
        collected = store.evidence.collect(
            until_ms, config.signals, exclude_keys=golden, only_keys=asked, served_by=run.parent, since_ms=since
        )
        for kind in ("said", "clicks"):
            found = _labels(collected, kind, set(indexed), set(trained))
            if len(found) >= LEAST:
                return found
    return found


def said(collected: Collected) -> Floats:
    """A grade for each pair, (pairs,): people who voted for it, put it into a cart or bought it, less those against."""
    told = collected.facts.explicit()
    grades: Floats = np.maximum(told.up - told.down, 0.0) + np.maximum(told.carts, told.purchases)
    return np.minimum(grades, 3.0)


def singled_out(evidence: Evidence) -> Floats:
    """1 for each pair, (pairs,), that people clicked more than what else stood at its ranks; else 0.

    Clicks are compared with those of the query's other documents at the same rank, and where few were shown there, with
    those of that rank over all queries. What a rank does to clicks then cancels out, whatever it is (Agarwal et al.,
    Estimating position bias without intrusive interventions, WSDM 2019, harvest the same comparisons).
    """
    if not len(evidence.pair):
        return np.zeros(evidence.pairs)
    rank = evidence.rank.astype(np.int64)
    most = int(rank.max()) + 1
    by_rank, shown_at = (sums(rank, column, most) for column in (evidence.clicks, evidence.impressions))
    rate = by_rank / np.maximum(shown_at, 1e-12)
    place, pair = evidence.pair_query[evidence.pair].astype(np.int64) * most + rank, evidence.pair.astype(np.int64)
    cell, own = (np.unique(key, return_inverse=True)[1] for key in (place, place * evidence.pairs + pair))
    others = {
        name: sums(cell, column, int(cell.max()) + 1)[cell] - sums(own, column, int(own.max()) + 1)[own]
        for name, column in (("clicks", evidence.clicks), ("shown", evidence.impressions))
    }
    usual = (others["clicks"] + _PRIOR * rate[rank]) / (others["shown"] + _PRIOR)
    expected = sums(evidence.pair, evidence.impressions * usual, evidence.pairs)
    spread = sums(evidence.pair, evidence.impressions * usual * (1 - usual), evidence.pairs)
    surplus = evidence.pair_clicks() - expected
    return np.asarray(surplus > STANDS_OUT * np.sqrt(spread + 0.25), np.float64)


def score(encoder: Encoder, documents: Index, labels: Labels, pool: Sequence[str] | None) -> Floats:
    """nDCG@10 (queries,) of a model whose document vectors are `documents`.

    Candidates are those that were shown where the labels say so, else the `pool`, else every document.
    """
    queries = encoder.encode_queries(list(labels.queries))
    if labels.shown is None and pool is None:
        return ndcg(documents.search(queries, DEPTH)[0], list(labels.grades), DEPTH)
    indexed = set(documents.doc_ids)  # a document may have been removed since the labels were made
    whole = [doc_id for doc_id in pool or () if doc_id in indexed]
    known = indexed if pool is None else set(whole)
    shared = documents.vectors(whole)
    ranked = []
    for row, query in enumerate(queries):
        names, vectors = whole, shared
        if labels.shown is not None:
            names = [doc_id for doc_id in labels.shown[row] if doc_id in known]
            vectors = documents.vectors(names)
        order = np.argsort(-(vectors @ query), kind="stable")[:DEPTH]
        ranked.append([names[place] for place in order])
    return ndcg(ranked, list(labels.grades), DEPTH)


def pool_of(labels: Labels, documents: Index, models: Sequence[Encoder], seed: int) -> list[str]:
    """The documents to encode where a challenger moves them: all that labels name or show, what each of the other
    models ranks first, and others drawn at random, `POOL` in all or the whole collection."""
    every = sorted(documents.doc_ids)
    if labels.shown is not None:
        return sorted({doc_id for names in labels.shown for doc_id in names})
    if len(every) <= POOL:
        return every
    known = {doc_id for grades in labels.grades for doc_id in grades}
    for model in models:
        known |= {
            doc for names in documents.search(model.encode_queries(list(labels.queries)), DEPTH)[0] for doc in names
        }
    order = np.random.default_rng([seed, 41]).permutation(len(every))
    for place in order:
        if len(known) >= POOL:
            break
        known.add(every[place])
    return sorted(known)


def _labels(collected: Collected, kind: str, indexed: set[str], trained: set[str]) -> Labels:
    evidence = collected.evidence
    grade = said(collected) if kind == "said" else singled_out(evidence)
    grades: list[dict[str, float]] = [{} for _ in evidence.queries]
    shown: list[list[str]] = [[] for _ in evidence.queries]
    for query, document, value in zip(evidence.pair_query, evidence.pair_document, grade.tolist(), strict=True):
        doc_id = evidence.documents[document]
        if doc_id in indexed:
            shown[query].append(doc_id)
            if value > 0:
                grades[query][doc_id] = value
    # a query whose every candidate is relevant orders nothing
    rows = [row for row, one in enumerate(grades) if one and (kind == "said" or len(one) < len(shown[row]))]
    unseen = np.array([not trained & grades[row].keys() for row in rows], bool)
    return Labels(
        kind,
        tuple(collected.texts[row] for row in rows),
        tuple(grades[row] for row in rows),
        None if kind == "said" else tuple(tuple(sorted(shown[row])) for row in rows),
        unseen,
    )
