"""The best documents of one model for one query: only those that exist and that the filters allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.serving.served import Hit, Ranker, Titles
from flywheel.serving.vectors import QueryVectors, Vector

_SPARE = 10  # documents ranked beyond k, so that a few deleted ones cost no second search


@dataclass(frozen=True, slots=True)
class Filters:
    """The documents that a page may show; None: all."""

    doc_ids: tuple[str, ...] | None = None


class Retriever:
    """Thread-safe, as its parts are. `titles` also decides which documents are deleted."""

    def __init__(self, vectors: QueryVectors, titles: Titles) -> None:
        self._vectors = vectors
        self._titles = titles

    def best(self, ranker: Ranker, query: str, k: int, filters: Filters) -> dict[str, Hit]:
        """At most `k` hits by document id, best first."""
        vector = self._vectors.vector(ranker, query)
        if filters.doc_ids is not None:
            return self._among(ranker, vector, k, filters.doc_ids)
        size, wanted = len(ranker.index), k + _SPARE
        while size:
            doc_ids, scores = ranker.index.search(vector[None, :], min(wanted, size))
            visible = self._visible(dict(zip(doc_ids[0], map(float, scores[0]), strict=False)), k)
            if len(visible) == k or wanted >= size:
                return visible
            wanted *= 4  # too many of the nearest documents are deleted
        return {}

    def hits(self, scores: Mapping[str, float]) -> dict[str, Hit]:
        """Those of the scored documents that exist, in the order given."""
        titles = self._titles.titles(tuple(scores))
        return {doc_id: Hit(doc_id, score, titles[doc_id]) for doc_id, score in scores.items() if doc_id in titles}

    def _among(self, ranker: Ranker, vector: Vector, k: int, doc_ids: tuple[str, ...]) -> dict[str, Hit]:
        """The best of the listed documents only, by exact score; those that the index lacks are left out."""
        indexed = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id in ranker.index.hashes]
        if not indexed:
            return {}
        scores = ranker.index.vectors(indexed) @ vector
        order = np.argsort(-scores, kind="stable")
        return self._visible({indexed[i]: float(scores[i]) for i in order}, k)

    def _visible(self, scores: Mapping[str, float], k: int) -> dict[str, Hit]:
        hits = self.hits(scores)
        return {doc_id: hits[doc_id] for doc_id in list(hits)[:k]}
